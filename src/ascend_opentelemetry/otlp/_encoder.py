"""Records and SDK spans -> one ``ExportTraceServiceRequest``."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ascend_opentelemetry.otlp._attributes import AttributeKey
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN, all_scopes, attributes_of
from ascend_opentelemetry.otlp._settings import Limits
from ascend_opentelemetry.otlp._span import (
    REMOTE,
    UNSET_STATUS,
    SpanWriter,
    flags_bytes,
    resource_bytes,
    scope_bytes,
    type_bytes,
)
from ascend_opentelemetry.otlp._wire import varint
from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from typing import TypeAlias

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from ascend_opentelemetry.recorder._record import Record, RecordType

_logger = logging.getLogger(__name__)

#: Scopes whose lists are kept from batch to batch.
_MAX_SCOPES = 256

#: Tag and length of a span in ``ScopeSpans``, by length.
_SPAN_HEADS = tuple(b"\x12" + varint(size) for size in range(4096))

_root = struct.Struct("<2s16s2s8sBQBQ").pack
_child = struct.Struct("<2s16s2s8s2s8sBQBQ").pack

#: What stands before and after the content of a ``ResourceSpans`` or ``ScopeSpans``.
_Frame: TypeAlias = "tuple[bytes, bytes]"


class _Plan(NamedTuple):
    """What is known of a type's spans before the first one ends."""

    keys: Sequence[AttributeKey] | None  # None: the type has a callable for its attributes, or a limit may touch them
    local: bytes  # name, kind and flags
    remote: bytes  # the same, the parent being in another process
    spans: list[bytes]


class SpanEncoder:
    """Collects spans as bytes until `take` makes a request of them. Not thread-safe.

    ``REMOTE`` (bit 9, as in OTLP's ``SpanFlags``) in a record's ``trace_flags`` says that its parent
    is in another process.

    Args:
        resource: of the records; SDK spans bring their own.
        limits: of the records' spans; None: of the environment.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(
        self, resource: Resource, limits: Limits | None = None, scope_enabled: Callable[[str], bool] = all_scopes
    ) -> None:
        self._limits = limits or Limits()
        self._scope_enabled = scope_enabled
        #: Spans since the last `take`.
        self.count = 0
        #: Records that could not be encoded, since the start.
        self.failed = 0
        self._writer = SpanWriter()
        self._plans: dict[RecordType, _Plan | None] = {}
        self._groups: dict[_Frame, dict[_Frame, list[bytes]]] = {}
        # by id, with the object itself so that the id stays its own
        self._resources: dict[int, tuple[Resource, _Frame]] = {}
        self._scopes: dict[InstrumentationScope | None, _Frame] = {}
        self._warned: set[RecordType] = set()
        self.set_resource(resource)

    def set_resource(self, resource: Resource) -> None:
        """Change the resource of the records that come from here on."""
        self._resource = resource
        self._plans.clear()

    def clear(self) -> None:
        """Forget the spans since the last `take`."""
        self.count = 0
        self._plans.clear()
        self._groups.clear()

    def add(self, records: Iterable[Record]) -> None:
        """Encode the spans among the records; what cannot be encoded is counted and left out."""
        plans = self._plans
        for record in records:
            record_type, start, end, _, ids, values, extra = record
            try:
                if record_type is SDK_SPAN:
                    self._add_sdk_span(values)
                    continue
                if ids is None:
                    continue
                plan = plans[record_type] if record_type in plans else self._plan(record_type)
                if plan is None:
                    continue
                keys, local, remote, spans = plan
                trace_id, span_id, parent_id, flags = ids
                trace = trace_id.to_bytes(16, "big")
                span = span_id.to_bytes(8, "big")
                if parent_id:
                    parent = parent_id.to_bytes(8, "big")
                    head = _child(b"\n\x10", trace, b"\x12\x08", span, b"\x22\x08", parent, 0x39, start, 0x41, end)
                else:
                    head = _root(b"\n\x10", trace, b"\x12\x08", span, 0x39, start, 0x41, end)
                shared = remote if flags & REMOTE else local
                if keys is None or extra is not None:
                    body = head + shared + self._rest(record)
                else:
                    fields = [key[value.__class__][value] for key, value in zip(keys, values)]  # noqa: B905
                    body = b"".join([head, shared, UNSET_STATUS, *fields])
                size = len(body)
                spans.append(_SPAN_HEADS[size] if size < 4096 else b"\x12" + varint(size))
                spans.append(body)
                self.count += 1
            except Exception as error:  # noqa: BLE001 - one bad record must not cost the others
                self._fail(record_type, error)

    def take(self) -> bytes:
        """Return the request of all spans since the last call."""
        parts: list[bytes] = []
        for (resource, resource_end), scopes in self._groups.items():
            chunk: list[bytes] = [resource]
            for (scope, scope_end), spans in scopes.items():
                if spans:
                    size = len(scope) + sum(map(len, spans)) + len(scope_end)
                    chunk += (b"\x12" + varint(size), scope, *spans, scope_end)
                    spans.clear()
            if len(chunk) > 1:
                chunk.append(resource_end)
                parts.append(b"\n" + varint(sum(map(len, chunk))))
                parts += chunk
        self.count = 0
        if sum(map(len, self._groups.values())) > _MAX_SCOPES:
            self._plans.clear()
            self._groups.clear()
        return b"".join(parts)

    def _plan(self, record_type: RecordType) -> _Plan | None:
        plan = None
        if record_type.traces and self._scope_enabled(record_type.scope):
            shared = type_bytes(record_type)
            keys = self._writer.attributes
            plan = _Plan(
                None
                if record_type.attributes is not None or self._limits.touch(record_type.keys)
                else [keys[key] for key in record_type.keys],
                shared + flags_bytes(remote_parent=False),
                shared + flags_bytes(remote_parent=True),
                self._spans(self._resource, InstrumentationScope(record_type.scope, __version__)),
            )
        self._plans[record_type] = plan
        return plan

    def _rest(self, record: Record) -> bytes:
        writer, extra = self._writer, record[6]
        attributes, dropped = self._limits.span_attributes(attributes_of(record))
        body = writer.attributes.encode_mapping(attributes)
        if dropped:
            body += writer.dropped_attributes(dropped)
        return body + (UNSET_STATUS if extra is None else writer.rest(extra, self._limits))

    def _add_sdk_span(self, span: ReadableSpan) -> None:
        body = self._writer.sdk_span(span)
        self._spans(span.resource, span.instrumentation_scope).extend((b"\x12" + varint(len(body)), body))
        self.count += 1

    def _spans(self, resource: Resource, scope: InstrumentationScope | None) -> list[bytes]:
        known = self._resources.get(id(resource))
        if known is None:
            if len(self._resources) >= _MAX_SCOPES:
                self._resources.clear()
            self._resources[id(resource)] = known = resource, resource_bytes(resource)
        frame = self._scopes.get(scope)
        if frame is None:
            if len(self._scopes) >= _MAX_SCOPES:
                self._scopes.clear()
            self._scopes[scope] = frame = scope_bytes(scope)
        return self._groups.setdefault(known[1], {}).setdefault(frame, [])

    def _fail(self, record_type: RecordType, error: Exception) -> None:
        self.failed += 1
        if record_type not in self._warned:
            self._warned.add(record_type)
            name = "an SDK span" if record_type is SDK_SPAN else f"{record_type.domain}: {record_type.name}"
            _logger.warning("Spans of %s cannot be encoded for OTLP and are dropped: %r.", name, error)
