"""Records -> SDK spans that pass through span processors, from ``on_start`` to ``on_end``.

The one module that makes the SDK's ``Span`` itself; read from opentelemetry-sdk 1.41.0 and 1.45.2.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, _Span
from opentelemetry.trace import NonRecordingSpan, Status, StatusCode, set_span_in_context

from ascend_opentelemetry.otlp._readable import to_readable
from ascend_opentelemetry.otlp._sdk_span import attributes_of
from ascend_opentelemetry.otlp._settings import Limits

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
    """Makes a span of a record and leads it through processors, when the record is drained.

    So a processor sees a span start after it has ended, with its attributes, and children before their parents; in
    ``parent_context`` is the parent and nothing else.

    Args:
        provider: whose resource, limits and sampler the spans have.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._limits = Limits(provider._span_limits)
        self._failed: set[str] = set()

    def lead(self, record: Record, processors: tuple[SpanProcessor, ...]) -> ReadableSpan:
        """Lead a record's span through processors.

        Args:
            record: one whose ``ids`` are not None.
            processors: called in order; the first time that one raises it is said, and the span goes on as it is.

        Returns:
            The span as it is after the last of them.
        """
        plain = to_readable(record, self._provider.resource, self._limits)
        passing = _Passing(processors)
        try:
            self._run(plain, record, passing)
        except Exception as error:  # processors of others may raise anything
            name = type(error).__name__
            if name not in self._failed:
                self._failed.add(name)
                _logger.warning("a span processor raised %s; spans go on without what it does", name, exc_info=True)
        return passing.ended or plain

    def _run(self, plain: ReadableSpan, record: Record, processor: SpanProcessor) -> None:
        span = _Span(
            plain.name,
            plain.get_span_context(),  # pyright: ignore[reportArgumentType] - ids are not None
            plain.parent,
            self._provider.sampler,
            resource=self._provider.resource,
            attributes=attributes_of(record),  # and events: the span itself counts those that it has no room for
            links=plain.links,
            kind=plain.kind,
            span_processor=processor,
            limits=self._provider._span_limits,
            instrumentation_scope=plain.instrumentation_scope,
        )
        span._links.dropped = plain.dropped_links
        above = Context()
        if plain.parent is not None:
            above = set_span_in_context(NonRecordingSpan(plain.parent), above)
        span.start(plain.start_time, above)
        extra = record[6]
        for name, time, attributes in extra.events if extra is not None else ():
            span.add_event(name, dict(attributes), time)
        if plain.status.status_code is not StatusCode.UNSET:
            span.set_status(Status(plain.status.status_code, plain.status.description))
        span.end(plain.end_time)
