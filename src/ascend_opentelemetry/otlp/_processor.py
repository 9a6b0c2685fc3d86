"""The way of SDK spans into the recorder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ascend_opentelemetry.otlp._leader import is_leading
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN

if TYPE_CHECKING:
    from ascend_opentelemetry.recorder._record import Record


class RecordSpanProcessor(SpanProcessor):
    """Puts ended SDK spans (FastAPI's, vLLM's own) into the queue of the records.

    Args:
        emit: appends one record; must be cheap, it runs where the span ends.
        flush: sends what was emitted within a number of seconds; returns whether it could.
        shutdown: ends the recorder.
    """

    def __init__(
        self, emit: Callable[[Record], object], flush: Callable[[float], bool], shutdown: Callable[[], object]
    ) -> None:
        self._emit = emit
        self._flush = flush
        self._shutdown = shutdown

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        ids = (context.trace_id, context.span_id, span.parent.span_id if span.parent else 0, int(context.trace_flags))
        self._emit((SDK_SPAN, span.start_time or 0, span.end_time or 0, threading.get_ident(), ids, span, None))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return not is_leading() and self._flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        self._shutdown()
