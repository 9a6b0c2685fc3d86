from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from ascend_opentelemetry.otlp import SDK_SPAN, RecordSpanProcessor


class RecordOnly(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordOnly"


class Recorder:
    def __init__(self) -> None:
        self.records: list[Any] = []
        self.flushes: list[float] = []
        self.flushed = True
        self.shutdowns = 0
        self.processor = RecordSpanProcessor(self.records.append, self.flush, self.shutdown)

    def flush(self, timeout: float) -> bool:
        self.flushes.append(timeout)
        return self.flushed

    def shutdown(self) -> None:
        self.shutdowns += 1


def test_an_ended_span_becomes_one_record() -> None:
    recorder = Recorder()
    provider = TracerProvider()
    provider.add_span_processor(recorder.processor)
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
        assert recorder.records == []
    (record_type, start, end, ident, ids, value, extra), root_record = recorder.records
    assert record_type is SDK_SPAN
    assert (start, end, ident, extra) == (value.start_time, value.end_time, threading.get_ident(), None)
    assert value.name == "child"
    c, r = child.get_span_context(), root.get_span_context()
    assert ids == (c.trace_id, c.span_id, r.span_id, int(c.trace_flags))
    assert root_record[4] == (r.trace_id, r.span_id, 0, int(r.trace_flags))


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()])
def test_a_span_that_is_not_sampled_leaves_nothing(sampler: Sampler) -> None:
    recorder = Recorder()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(recorder.processor)
    provider.get_tracer("app").start_span("x").end()
    assert recorder.records == []


def test_flush_and_shutdown_are_the_recorders() -> None:
    recorder = Recorder()
    provider = TracerProvider()
    provider.add_span_processor(recorder.processor)
    assert provider.force_flush(2500)
    assert 0 < recorder.flushes.pop() <= 2.5
    assert recorder.processor.force_flush() is True
    assert recorder.flushes == [30.0]
    recorder.flushed = False
    assert not provider.force_flush(2500)
    provider.shutdown()
    assert recorder.shutdowns == 1


def test_sdk_record_type_has_no_native_rows() -> None:
    assert (SDK_SPAN.native, SDK_SPAN.traces) == (False, True)
