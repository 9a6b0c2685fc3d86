"""Records -> SDK spans that pass through span processors, from ``on_start`` to ``on_end``.

The one module that makes the SDK's ``Span`` itself; read from opentelemetry-sdk 1.41.0 and 1.45.2.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, _Span
from opentelemetry.trace import NonRecordingSpan, Status, StatusCode, set_span_in_context

from ascend_opentelemetry.otlp._readable import to_readable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider

    from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)


class _Passing(SpanProcessor):
    """Calls a number of processors, and keeps what ended."""

    def __init__(self, processors: tuple[SpanProcessor, ...]) -> None:
        self._processors = processors
        self.ended: ReadableSpan | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._processors:
            processor.on_start(span, parent_context)

    def _on_ending(self, span: Span) -> None:
        for processor in self._processors:
            processor._on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended = span
        for processor in self._processors:
            processor.on_end(span)


class LateSpans:
    """Makes a span of each record and leads it through processors, when its record is drained.

    A processor sees a span start after it has ended, with its attributes, and children before their parents; in
    ``parent_context`` is the parent and nothing else.

    Args:
        provider: whose resource, limits and sampler the spans have.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._failed: set[str] = set()

    def lead(self, record: Record, processors: tuple[SpanProcessor, ...]) -> ReadableSpan:
        """Lead a record's span through processors.

        Args:
            record: one whose ``ids`` are not None.
            processors: called in order; one that raises is named once, and the span goes on without the rest.

        Returns:
            The span as it is after the last of them.
        """
        plain = to_readable(record, self._provider.resource)
        passing = _Passing(processors)
        try:
            self._run(plain, passing)
        except Exception as error:  # processors of others may raise anything
            if type(error).__name__ not in self._failed:
                self._failed.add(type(error).__name__)
                _logger.warning("a span processor failed; spans go on without what it does", exc_info=True)
        return passing.ended or plain

    def _run(self, plain: ReadableSpan, processor: SpanProcessor) -> None:
        context: Any = plain.context
        span = _Span(
            plain.name,
            context,
            plain.parent,
            self._provider.sampler,
            resource=plain.resource,
            attributes=plain.attributes,
            links=plain.links,
            kind=plain.kind,
            span_processor=processor,
            limits=self._provider._span_limits,
            instrumentation_scope=plain.instrumentation_scope,
        )
        above = Context()
        if plain.parent is not None:
            above = set_span_in_context(NonRecordingSpan(plain.parent), above)
        span.start(plain.start_time, above)
        for event in plain.events:
            span.add_event(event.name, event.attributes, event.timestamp)
        if plain.status.status_code is not StatusCode.UNSET:
            span.set_status(Status(plain.status.status_code, plain.status.description))
        span.end(plain.end_time)
