"""``Span``, ``Event``, ``Link``, ``Status``, scope and resource as bytes.

Field numbers are those of ``opentelemetry/proto/trace/v1/trace.proto``. ``flags`` holds what the SDK's
own encoder puts there: whether the parent is remote, and that this is known.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.otlp._attributes import AttributeKeys
from ascend_opentelemetry.otlp._settings import Limits
from ascend_opentelemetry.otlp._wire import field, text, varint
from ascend_opentelemetry.recorder._record import REMOTE, STATUS_ERROR

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from ascend_opentelemetry.recorder._record import RecordType, SpanExtra

#: Bit of ``SpanFlags``: that of ``REMOTE`` is known.
REMOTE_KNOWN = 0x100

_pack_flags = struct.Struct("<I").pack
_pack_time = struct.Struct("<Q").pack
_LOCAL_LINK = b"\x35" + _pack_flags(REMOTE_KNOWN)
_REMOTE_LINK = b"\x35" + _pack_flags(REMOTE_KNOWN | REMOTE)

#: The field of a status that nobody set.
UNSET_STATUS = b"\x7a\x00"


def resource_bytes(resource: Resource) -> tuple[bytes, bytes]:
    """Return what stands before and after the scopes in a ``ResourceSpans``."""
    head = field(0x0A, AttributeKeys(0x0A).encode_mapping(resource.attributes))
    return head, field(0x1A, text(resource.schema_url)) if resource.schema_url else b""


def scope_bytes(scope: InstrumentationScope | None) -> tuple[bytes, bytes]:
    """Return what stands before and after the spans in a ``ScopeSpans``."""
    if scope is None:
        return b"\x0a\x00", b""
    body = field(0x0A, text(scope.name)) if scope.name else b""
    if scope.version:
        body += field(0x12, text(scope.version))
    body += AttributeKeys(0x1A).encode_mapping(scope.attributes)
    return field(0x0A, body), field(0x1A, text(scope.schema_url)) if scope.schema_url else b""


def flags_bytes(remote_parent: bool) -> bytes:
    """Return the ``flags`` field of a span."""
    return b"\x85\x01" + _pack_flags(REMOTE_KNOWN | REMOTE if remote_parent else REMOTE_KNOWN)


def type_bytes(record_type: RecordType) -> bytes:
    """Return the fields that all records of a type share: name and kind."""
    return field(0x2A, text(record_type.name)) + b"\x30" + varint(record_type.kind)


def _count(tag: int, number: int) -> bytes:
    return b"%c%b" % (tag, varint(number)) if number else b""


def _status(code: int, message: str | None) -> bytes:
    body = field(0x12, text(message)) if message else b""
    return field(0x7A, body + b"\x18" + varint(code) if code else body)


class SpanWriter:
    """Writes what spans hold besides ids, times and the attributes of their type."""

    def __init__(self) -> None:
        self.attributes = AttributeKeys(0x4A)
        self._event_attributes = AttributeKeys(0x1A)
        self._link_attributes = AttributeKeys(0x22)

    def dropped_attributes(self, number: int) -> bytes:
        """Return the count of attributes that a limit cost a record."""
        return _count(0x50, number)

    def rest(self, extra: SpanExtra, limits: Limits) -> bytes:
        """Return status, events and links of a record, and how many of them were dropped."""
        events, dropped_events = limits.events(extra.events)
        links, dropped_links = limits.links(extra.links)
        parts = [_status(extra.status, extra.message if extra.status == STATUS_ERROR else None)]
        parts += [self._event(name, time, *limits.event_attributes(attributes)) for name, time, attributes in events]
        parts += [
            self._link(trace, span, *limits.link_attributes(attributes), _LOCAL_LINK)
            for trace, span, attributes in links
        ]
        parts += (_count(0x60, dropped_events), _count(0x70, extra.dropped_links + dropped_links))
        if extra.trace_state:
            parts.append(field(0x1A, text(extra.trace_state)))
        return b"".join(parts)

    def sdk_span(self, span: ReadableSpan) -> bytes:
        """Return the body of a ``Span``.

        Raises:
            Exception: whatever a malformed span leads to.
        """
        context: Any = span.context
        parent = span.parent
        parts = [
            field(0x0A, context.trace_id.to_bytes(16, "big")),
            field(0x12, context.span_id.to_bytes(8, "big")),
            field(0x22, parent.span_id.to_bytes(8, "big")) if parent else b"",
            flags_bytes(bool(parent and parent.is_remote)),
            field(0x2A, text(span.name)) if span.name else b"",
            b"\x30" + varint(span.kind.value + 1),
            b"\x39" + _pack_time(span.start_time) if span.start_time else b"",
            b"\x41" + _pack_time(span.end_time) if span.end_time else b"",
            self.attributes.encode_mapping(span.attributes),
            _count(0x50, span.dropped_attributes),
            _count(0x60, span.dropped_events),
            _count(0x70, span.dropped_links),
            _status(span.status.status_code.value, span.status.description),
        ]
        if context.trace_state:
            state = ",".join([f"{key}={value}" for key, value in context.trace_state.items()])
            parts.append(field(0x1A, text(state)))
        parts += [self._event(e.name, e.timestamp, e.attributes, e.dropped_attributes) for e in span.events]
        for link in span.links:
            c = link.context
            flags = _REMOTE_LINK if c.is_remote else _LOCAL_LINK
            parts.append(self._link(c.trace_id, c.span_id, link.attributes, link.dropped_attributes, flags))
        return b"".join(parts)

    def _event(self, name: str, time: int, attributes: Mapping[str, Any] | None, dropped: int) -> bytes:
        body = b"\x09%b%b" % (_pack_time(time), field(0x12, text(name)))
        return field(0x5A, body + self._event_attributes.encode_mapping(attributes) + _count(0x20, dropped))

    def _link(
        self, trace_id: int, span_id: int, attributes: Mapping[str, Any] | None, dropped: int, flags: bytes
    ) -> bytes:
        body = b"\x0a\x10%b\x12\x08%b" % (trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big"))
        return field(0x6A, body + self._link_attributes.encode_mapping(attributes) + _count(0x28, dropped) + flags)
