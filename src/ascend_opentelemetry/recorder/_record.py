"""The record: what a hook leaves behind for the drain, and what the sinks read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ascend_opentelemetry.recorder._metric import Measurement, Measurements

#: ``trace_id, span_id, parent_span_id (0 for a root), flags`` of a span; flags as in OTLP's ``SpanFlags``: the trace
#: flags, and ``REMOTE`` where the parent is in another process.
SpanIds: TypeAlias = tuple[int, int, int, int]
REMOTE = 0x200

#: ``name, time in ns since 1970, attributes`` of a span event.
SpanEvent: TypeAlias = tuple[str, int, Sequence[tuple[str, Any]]]

#: ``trace_id, span_id, attributes`` of a span link.
SpanLink: TypeAlias = tuple[int, int, Sequence[tuple[str, Any]]]

#: ``timestamp ns, duration ns, name, domain, args``: one row of the native ``slice`` table,
#: without process and thread. ``args`` is the JSON text of a flat object.
NativeRow: TypeAlias = tuple[int, int, str, str, str]

#: ``type, start ns, end ns, threading.get_ident(), ids, values, extra``.
#:
#: ``ids`` is None for a record that is no OTel span (tracing off, or not sampled).
#: ``values`` holds what ``type.keys`` names, in that order, or what the callables of ``type`` expect.
#: ``extra`` is None for a span without events, links and status.
Record: TypeAlias = tuple["RecordType", int, int, int, "SpanIds | None", Any, "SpanExtra | None"]

STATUS_UNSET, STATUS_OK, STATUS_ERROR = 0, 1, 2
KIND_INTERNAL, KIND_SERVER = 1, 2

#: Numbers of the native ``profiler_level`` (``ms_service_profiler.Level``).
LEVEL_ERROR, LEVEL_INFO, LEVEL_DETAILED, LEVEL_VERBOSE = 10, 20, 30, 40


class SpanExtra(NamedTuple):
    """The rarer parts of a span."""

    status: int = STATUS_UNSET
    message: str = ""
    events: Sequence[SpanEvent] = ()
    links: Sequence[SpanLink] = ()
    attributes: Sequence[tuple[str, Any]] = ()
    dropped_links: int = 0
    #: W3C ``tracestate``.
    trace_state: str = ""


class RecordType:
    """What all records of one hook have in common.

    Args:
        domain: the YAML word; the native ``cat``; ``ascend_opentelemetry.<domain>`` is the OTel scope.
        name: name of the span and of the native row.
        keys: names of the attribute values, in the order of ``Record.values``.
        kind: OTLP span kind (``KIND_INTERNAL``, ``KIND_SERVER``).
        level: native level at which the rows appear.
        native: whether records become native rows while a profile window is open.
        traces: whether records with ids become OTel spans.
        span: a native span (``"type": 2``) or event (``"type": 0``).
        rows: makes the native rows of a record, in place of the one row of ``keys`` and ``values``.
        attributes: makes the OTel attributes of a record, in place of ``zip(keys, values)``.
        measure: makes the metric values of a record, of one that is not traced too.
    """

    __slots__ = (
        "attributes", "domain", "keys", "kind", "level", "measure", "metrics_on", "name", "native", "native_on", "on",
        "rows", "span", "traces", "traces_on",
    )  # fmt: skip

    def __init__(
        self,
        domain: str,
        name: str,
        keys: Sequence[str] = (),
        *,
        kind: int = KIND_INTERNAL,
        level: int = LEVEL_INFO,
        native: bool = True,
        traces: bool = True,
        span: bool = True,
        rows: Callable[[Record], Iterable[NativeRow]] | None = None,
        attributes: Callable[[Record], Iterable[tuple[str, Any]]] | None = None,
        measure: Callable[[Record], Iterable[Measurement | Measurements]] | None = None,
    ) -> None:
        self.domain = domain
        self.name = name
        self.keys = tuple(keys)
        self.kind = kind
        self.level = level
        self.native = native
        self.traces = traces
        self.span = span
        self.rows = rows
        self.attributes = attributes
        self.measure = measure
        #: Kept by the recorder: a native window is open for this type; spans are exported; its records are measured;
        #: one of the three.
        self.native_on = False
        self.traces_on = False
        self.metrics_on = False
        self.on = False

    @property
    def scope(self) -> str:
        """Name of the OTel instrumentation scope."""
        return f"ascend_opentelemetry.{self.domain}" if self.domain else "ascend_opentelemetry"

    def __repr__(self) -> str:
        return f"RecordType({self.domain!r}, {self.name!r})"
