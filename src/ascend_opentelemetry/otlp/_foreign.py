"""The way of records through span processors that others have added to a provider of ours."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor

from ascend_opentelemetry.otlp._leader import Leader
from ascend_opentelemetry.otlp._processor import RecordSpanProcessor
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from ascend_opentelemetry.otlp._sink import OtlpSink
    from ascend_opentelemetry.recorder._record import Record


class ForeignProcessors:
    """Before our own sinks: leads records through the processors of others; while there are none, it does nothing.

    Processors may be added at any time. A record that has been through them is exported as they left it.

    Args:
        provider: ours.
        sinks: that export.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(
        self, provider: TracerProvider, sinks: Sequence[OtlpSink], scope_enabled: Callable[[str], bool]
    ) -> None:
        self._provider = provider
        self._sinks = sinks
        self._scope_enabled = scope_enabled
        self._led: deque[Record] = deque()
        self._leader = Leader(provider, self._take)
        self._seen: tuple[SpanProcessor, ...] = ()
        self._others: tuple[SpanProcessor, ...] = ()

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that were lost on their way through the processors, by reason."""
        return self._leader.dropped

    def _take(self, record: Record, span: ReadableSpan) -> None:
        self._led.append((SDK_SPAN, record[1], record[2], record[3], record[4], span, None))

    def _look(self) -> tuple[SpanProcessor, ...]:
        processors: tuple[SpanProcessor, ...] = self._provider._active_span_processor._span_processors
        if processors is not self._seen:
            self._seen = processors
            # the second of our own is the SDK's class, which does nothing
            ours = RecordSpanProcessor, SpanProcessor
            self._others = tuple([processor for processor in processors if type(processor) not in ours])
        return self._others

    def write(self, records: Sequence[Record]) -> None:
        if others := self._look():
            for record in records:
                record_type = record[0]
                if (
                    record_type is not SDK_SPAN
                    and record[4] is not None
                    and record_type.traces
                    and self._scope_enabled(record_type.scope)
                ):
                    self._leader.put(record, others)
            records = [record for record in records if record[0] is SDK_SPAN]
        self._each("write", records)

    def commit(self) -> None:
        self._collect()
        self._each("commit")

    def request_flush(self) -> None:
        self._each("request_flush")

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        through = self._leader.flush(timeout)
        self._collect()
        return all(self._each("flush", _left(deadline))) and through

    def shutdown(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._leader.close(timeout)
        self._collect()
        self._each("shutdown", _left(deadline))

    def after_fork(self) -> None:
        self._leader.after_fork()
        self._led.clear()
        self._each("after_fork")

    def _collect(self) -> None:
        led = [self._led.popleft() for _ in range(len(self._led))]
        if led:
            self._each("write", led)

    def _each(self, method: str, *args: Any) -> list[Any]:
        """Call all sinks, each whatever became of the one before it.

        Raises:
            Exception: the first one that a sink raised.
        """
        results: list[Any] = []
        failed: Exception | None = None
        for sink in self._sinks:
            try:
                results.append(getattr(sink, method)(*args))
            except Exception as error:  # noqa: BLE001, PERF203 - raised below
                failed = failed or error
        if failed is not None:
            raise failed
        return results


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
