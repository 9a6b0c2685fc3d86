"""The way of records to span processors of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor

from ascend_opentelemetry.otlp._leader import Leader, is_leading
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN, all_scopes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ascend_opentelemetry.recorder._record import Record

#: Seconds for the records that wait when their provider is shut down.
_SHUTDOWN = 5.0


class _DrainFirst(SpanProcessor):
    """Before the processors of a provider: what flushes or ends them finds the waiting records among their spans."""

    def __init__(self, drain: Callable[[float], bool]) -> None:
        self._drain = drain

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return not is_leading() and self._drain(timeout_millis / 1000)

    def shutdown(self) -> None:
        if not is_leading():
            self._drain(_SHUTDOWN)


class BridgeSink:
    """Leads each record as a span through the processors of a provider that is not ours.

    Args:
        provider: of another distribution, or the program's own; it keeps its processors, exporters and resource.
        drain: brings all records to the sinks within a number of seconds, for whoever flushes or ends the provider.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(
        self,
        provider: TracerProvider,
        drain: Callable[[float], bool] | None = None,
        scope_enabled: Callable[[str], bool] = all_scopes,
    ) -> None:
        self._provider = provider
        self._scope_enabled = scope_enabled
        self._leader = Leader(provider)
        self._first: SpanProcessor | None = None
        if drain is not None and hasattr(provider._active_span_processor, "_span_processors"):
            self._first = _DrainFirst(drain)
            self._set_processors(lambda processors: (self._first, *processors))

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that were lost on their way through the processors, by reason."""
        return self._leader.dropped

    def write(self, records: Sequence[Record]) -> None:
        active = self._provider._active_span_processor
        processors = getattr(active, "_span_processors", (active,))
        if self._first is not None:
            processors = tuple([processor for processor in processors if processor is not self._first])
        for record in records:
            record_type = record[0]
            if record_type is SDK_SPAN or record[4] is None or not record_type.traces:
                continue
            if self._scope_enabled(record_type.scope):
                self._leader.put(record, processors)

    def commit(self) -> None:
        """Do nothing: the processors have batches of their own."""

    def request_flush(self) -> None:
        """Do nothing, for the same reason."""

    def flush(self, timeout: float) -> bool:
        """Flush the provider's processors."""
        deadline = time.monotonic() + timeout
        flushed = self._leader.flush(timeout)
        if self._first is None:
            left = max(0.0, deadline - time.monotonic())
            return self._provider.force_flush(round(left * 1000)) and flushed
        for processor in self._provider._active_span_processor._span_processors:
            if processor is not self._first:  # which would have the drain wait for itself
                left = max(0.0, deadline - time.monotonic())
                flushed = bool(processor.force_flush(round(left * 1000))) and flushed
        return flushed

    def shutdown(self, timeout: float) -> None:
        """Flush and let go of the provider, which is ended by its owner."""
        self.flush(timeout)
        self._leader.close(0)
        if self._first is not None:
            self._set_processors(lambda processors: tuple([one for one in processors if one is not self._first]))
            self._first = None

    def after_fork(self) -> None:
        """Start anew; the SDK restarts its processors."""
        self._leader.after_fork()

    def _set_processors(self, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
        active = self._provider._active_span_processor
        with active._lock:
            active._span_processors = change(active._span_processors)
