"""The way of records through span processors that others have added to a provider of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from ascend_opentelemetry.otlp._late_span import LateSpans
from ascend_opentelemetry.otlp._processor import RecordSpanProcessor
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ascend_opentelemetry.recorder._record import Record


class ForeignProcessors:
    """Leads records through the processors of others before the sinks take them; while there are none, nothing.

    Processors may be added at any time. A record that has been through is a row still, and a span as they left it.

    Args:
        provider: ours.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(self, provider: TracerProvider, scope_enabled: Callable[[str], bool]) -> None:
        self._provider = provider
        self._scope_enabled = scope_enabled
        self._late = LateSpans(provider)
        self._seen: tuple[SpanProcessor, ...] = ()
        self._others: tuple[SpanProcessor, ...] = ()

    def __call__(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return what the sinks take in the place of ``records``."""
        processors: tuple[SpanProcessor, ...] = self._provider._active_span_processor._span_processors
        if processors is not self._seen:
            self._seen = processors
            # the second of our own is the SDK's class, which does nothing
            ours = RecordSpanProcessor, SpanProcessor
            self._others = tuple([processor for processor in processors if type(processor) not in ours])
        if not self._others:
            return records
        led: list[Record] = []
        for record in records:
            record_type, start, end, thread, ids, values, extra = record
            if (
                record_type is SDK_SPAN
                or ids is None
                or not record_type.traces
                or not self._scope_enabled(record_type.scope)
            ):
                led.append(record)
                continue
            span = self._late.lead(record, self._others)
            led.append((record_type, start, end, thread, None, values, extra))
            led.append((SDK_SPAN, start, end, thread, ids, span, None))
        return led
