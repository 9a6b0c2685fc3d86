"""Records -> ``ReadableSpan``, for exporters that take nothing else."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN, all_scopes, attributes_of
from ascend_opentelemetry.otlp._settings import Limits
from ascend_opentelemetry.otlp._span import REMOTE
from ascend_opentelemetry.recorder._record import STATUS_ERROR, SpanExtra
from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_EXTRA = SpanExtra()


@functools.lru_cache(maxsize=256)
def _scope(name: str) -> InstrumentationScope:
    return InstrumentationScope(name, __version__)


def _counted(attributes: Mapping[str, Any], dropped: int) -> Mapping[str, Any]:
    """The SDK's form of attributes; only its own class tells how many were dropped."""
    if not dropped:
        return attributes
    counted = BoundedAttributes(None, attributes)
    counted.dropped = dropped
    return counted


def _counted_list(items: list[Any], dropped: int) -> Any:
    bounded = BoundedList.from_seq(len(items), items)
    bounded.dropped = dropped
    return bounded


def to_readable(record: Record, resource: Resource, limits: Limits | None = None) -> ReadableSpan:
    """Return the SDK's form of a record's span; for an `SDK_SPAN` record the span it carries.

    Args:
        record: one whose ``ids`` are not None.
        resource: of the process that made the record.
        limits: of the span; None: of the environment.
    """
    record_type, start, end, _, ids, values, extra = record
    if record_type is SDK_SPAN:
        return values
    assert ids is not None  # noqa: S101 - the caller's contract
    trace_id, span_id, parent_id, flags = ids
    trace_flags = TraceFlags(flags & 0xFF)
    limits = limits or Limits()
    extra = extra or _NO_EXTRA
    state = TraceState.from_header([extra.trace_state]) if extra.trace_state else None
    events, dropped_events = limits.events(extra.events)
    links, dropped_links = limits.links(extra.links)
    return ReadableSpan(
        record_type.name,
        SpanContext(trace_id, span_id, is_remote=False, trace_flags=trace_flags, trace_state=state),
        SpanContext(trace_id, parent_id, bool(flags & REMOTE), trace_flags, state) if parent_id else None,
        resource,
        _counted(*limits.span_attributes(attributes_of(record))),
        _counted_list(
            [Event(name, _counted(*limits.event_attributes(attributes)), time) for name, time, attributes in events],
            dropped_events,
        ),
        _counted_list(
            [
                Link(
                    SpanContext(trace, span, is_remote=False, trace_flags=_SAMPLED),
                    _counted(*limits.link_attributes(attributes)),
                )
                for trace, span, attributes in links
            ],
            extra.dropped_links + dropped_links,
        ),
        SpanKind(record_type.kind - 1),
        status=Status(StatusCode(extra.status), extra.message if extra.status == STATUS_ERROR else None),
        start_time=start,
        end_time=end,
        instrumentation_scope=_scope(record_type.scope),
    )


class ReadableBatch:
    """Collects spans as `SpanEncoder` does, for `take` to return them as a list.

    Args:
        resource: of the records; SDK spans bring their own.
        limits: of the records' spans.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(
        self, resource: Resource, limits: Limits | None = None, scope_enabled: Callable[[str], bool] = all_scopes
    ) -> None:
        self._limits = limits or Limits()
        self._scope_enabled = scope_enabled
        self.failed = 0
        self._resource = resource
        self._spans: list[ReadableSpan] = []

    @property
    def count(self) -> int:
        """Spans since the last `take`."""
        return len(self._spans)

    def set_resource(self, resource: Resource) -> None:
        """Change the resource of the records that come from here on."""
        self._resource = resource

    def clear(self) -> None:
        """Forget the spans since the last `take`."""
        self._spans = []

    def add(self, records: Iterable[Record]) -> None:
        """Convert the spans among the records; what cannot be converted is counted and left out."""
        for record in records:
            if not self._is_span(record):
                continue
            try:
                self._spans.append(to_readable(record, self._resource, self._limits))
            except Exception as error:  # noqa: BLE001 - one bad record must not cost the others
                self.failed += 1
                if self.failed == 1:
                    _logger.warning("A record of %r cannot be made a span and is dropped: %r.", record[0], error)

    def _is_span(self, record: Record) -> bool:
        record_type = record[0]
        if record_type is SDK_SPAN:
            return True
        return record[4] is not None and record_type.traces and self._scope_enabled(record_type.scope)

    def take(self) -> list[ReadableSpan]:
        """Return the spans since the last call."""
        spans, self._spans = self._spans, []
        return spans
