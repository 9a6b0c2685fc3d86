"""Records -> SDK spans that pass through span processors, from ``on_start`` to ``on_end``.

The one module that makes the SDK's ``Span`` itself; read from opentelemetry-sdk 1.41.0 and 1.45.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    """Calls processors, each whatever became of the one before it, and keeps what ended."""

    def __init__(self, processors: tuple[SpanProcessor, ...], failed: Callable[[SpanProcessor, Exception], object]):
        self._processors = processors
        self._failed = failed
        self.ended: ReadableSpan | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._each("on_start", span, parent_context)

    def _on_ending(self, span: Span) -> None:
        self._each("_on_ending", span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended = span
        self._each("on_end", span)

    def _each(self, method: str, *args: Any) -> None:
        for processor in self._processors:
            try:
                getattr(processor, method)(*args)
            except Exception as error:  # noqa: BLE001, PERF203 - each of them may raise anything
                self._failed(processor, error)


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
            processors: called in order; the first time that one raises it is said, and the span goes on.

        Returns:
            The span as it is after the last of them.
        """
        plain = to_readable(record, self._provider.resource, self._limits)
        passing = _Passing(processors, self._say)
        self._run(plain, record, passing)
        return passing.ended or plain

    def _say(self, processor: SpanProcessor, error: Exception) -> None:
        name = type(processor).__name__
        if name not in self._failed:
            self._failed.add(name)
            _logger.warning("span processor %s failed; spans go on without what it does", name, exc_info=error)

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
