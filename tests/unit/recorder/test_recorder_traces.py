"""What a provider says about hooks: suppressed ones, scopes that are off, trace ids of its own."""

from __future__ import annotations

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ascend_opentelemetry.recorder import KIND_SERVER, RecordSpan, RecordType, detach, make_current, open_span
from ascend_opentelemetry.recorder._recorder import Recorder

CALL = RecordType("Execute", "call")


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    recorder.set_traces(True)
    return recorder


def test_a_root_has_a_span_unless_instrumentation_is_suppressed(recorder) -> None:
    with suppress_instrumentation():
        assert open_span(CALL, recorder.root) is None
        assert recorder.sample(1, "llm_request", KIND_SERVER, {}) is False
    span = open_span(CALL, recorder.root)
    assert span is not None
    detach(span.token)
    assert recorder.sample(1, "llm_request", KIND_SERVER, {}) is True


@pytest.mark.parametrize(
    "parent", [RecordSpan(1, 2, 0, 1), NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))], ids=["ours", "sdk"]
)
def test_a_child_has_a_span_unless_instrumentation_is_suppressed(recorder, parent) -> None:
    token = make_current(parent)
    try:
        with suppress_instrumentation():
            assert open_span(CALL, recorder.root) is None
            assert trace.get_current_span() is parent
        span = open_span(CALL, recorder.root)
        assert span is not None
        assert (span.trace_id, span.parent_id, span.flags, span.extra()) == (1, 2, 1, None)
        detach(span.token)
    finally:
        detach(token)


def test_a_suppression_that_is_taken_back_suppresses_nothing(recorder) -> None:
    with suppress_instrumentation():
        token = context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, False))
        span = open_span(CALL, recorder.root)
        assert span is not None
        detach(span.token)
        context_api.detach(token)


def test_types_of_a_scope_that_is_off_give_no_spans(recorder) -> None:
    on = recorder.register(RecordType("Execute", "on"))
    off = recorder.register(RecordType("Schedule", "off"))
    recorder.set_traces(True, scope_enabled=lambda name: name == "ascend_opentelemetry.Execute")
    later = recorder.register(RecordType("Schedule", "later"))
    assert [(record_type.on, record_type.traces_on) for record_type in (on, off, later)] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    recorder.set_traces(True)
    assert (off.traces_on, later.traces_on) == (True, True)


def test_roots_take_the_trace_ids_that_are_given(recorder) -> None:
    asked = []
    recorder.set_traces(
        True, lambda trace_id, *_: asked.append(trace_id) or True, new_trace_id=iter((11, 12, 13)).__next__
    )
    assert [recorder.root(CALL).trace_id for _ in range(2)] == [11, 12]
    assert asked == [11, 12]
    assert recorder.new_trace_id() == 13
    recorder.set_traces(True)
    ids = {recorder.root(CALL).trace_id for _ in range(50)}
    assert len(ids) == 50
    assert max(ids) > 1 << 100
