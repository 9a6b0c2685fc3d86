"""Spans for the processors of a provider that is not ours."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ascend_opentelemetry import _instrumentor
from ascend_opentelemetry.otlp import SDK_SPAN, BridgeSink
from ascend_opentelemetry.recorder import RecordType

TYPE = RecordType("Execute", "forward", ("batch",))


class Runtime:
    """Notes what it is given."""

    has_traces = False

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add_traces(self, sinks: list[Any], sampler: Any, **options: Any) -> None:
        self.added += sinks


def test_records_become_ended_spans_of_the_provider() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sink = BridgeSink(provider)
    sink.write(
        [
            (TYPE, 10, 20, 1, (1, 2, 3, 1), (8,), None),
            (TYPE, 10, 20, 1, None, (8,), None),  # not traced
            (SDK_SPAN, 10, 20, 1, (1, 4, 0, 1), object(), None),  # the provider has it already
        ]
    )
    assert sink.flush(1.0)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.start_time, span.end_time, dict(span.attributes or {})) == ("forward", 10, 20, {"batch": 8})
    assert (span.context.trace_id, span.context.span_id, span.parent and span.parent.span_id) == (1, 2, 3)
    assert span.resource.attributes["service.name"] == "theirs"
    assert span.instrumentation_scope.name == "ascend_opentelemetry.Execute"


@pytest.mark.parametrize("processors", [0, 1])
def test_a_provider_without_processors_takes_no_spans(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    monkeypatch.setattr(_instrumentor, "runtime", runtime)
    provider = TracerProvider()
    for _ in range(processors):
        provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    _instrumentor._bridge(provider)
    assert [type(sink) for sink in runtime.added] == [BridgeSink] * processors
