"""Events of a running service, by the Logs API: they go where the program's log records go, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger, get_logger_provider
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from ascend_opentelemetry.npu._scope import SCOPE
from ascend_opentelemetry.recorder import SpanIds
from ascend_opentelemetry.version import __version__


def emit(
    name: str,
    time_ns: int,
    attributes: Mapping[str, str | int | float],
    *,
    warn: bool = False,
    body: Mapping[str, Any] | None = None,
    ids: SpanIds | None = None,
) -> None:
    """Emit an event of the registry.

    Args:
        name: of the event.
        time_ns: when it happened, ns since 1970.
        attributes: as the registry declares them.
        warn: whether it is a warning; else it is information.
        body: what the attributes do not hold.
        ids: of the span that it belongs to.
    """
    severity = SeverityNumber.WARN if warn else SeverityNumber.INFO
    get_logger(SCOPE, __version__).emit(
        LogRecord(
            timestamp=time_ns,
            observed_timestamp=time_ns,
            context=_context(ids),
            severity_number=severity,
            body=body,
            attributes=dict(attributes),
            event_name=name,
        )
    )


def flush() -> None:
    """Have the program's provider export what was emitted; the calling thread waits, for as long as the exporter does."""
    force_flush = getattr(get_logger_provider(), "force_flush", None)
    if force_flush is not None:
        force_flush()


def _context(ids: SpanIds | None) -> Context | None:
    if ids is None:
        return None
    trace_id, span_id, _, flags = ids
    span = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span), Context())
