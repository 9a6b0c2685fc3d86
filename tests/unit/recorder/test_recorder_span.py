from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from ascend_opentelemetry.recorder import (
    SAMPLED,
    STATUS_ERROR,
    STATUS_OK,
    RecordSpan,
    RecordType,
    SpanExtra,
    child,
    detach,
    exception_attributes,
    format_traceparent,
    make_current,
    open_span,
    parse_traceparent,
    remote_context,
)

TYPE = RecordType("Test", "call")


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() is before


@pytest.fixture
def span() -> RecordSpan:
    return RecordSpan(1, 2, 3, SAMPLED)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def sampled_root(record_type: RecordType) -> RecordSpan:
    return RecordSpan(100, 200, 0, SAMPLED)


def unsampled_root(record_type: RecordType) -> RecordSpan:
    return RecordSpan(100, 200, 0, 0)


def no_root(record_type: RecordType) -> RecordSpan:
    raise AssertionError("there is a parent")


def test_a_span_that_nobody_touched_has_no_extra(span) -> None:
    assert span.extra() is None
    assert span.ids == (1, 2, 3, SAMPLED)
    assert span.is_recording() is True
    assert span.get_span_context() == SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))


def test_what_a_program_sets_is_in_the_extra(span) -> None:
    numbers = [1, 2]
    span.set_attribute("text", "a")
    span.set_attributes({"number": 1, "flag": True, "list": numbers})
    numbers.append(3)
    span.add_event("late", {"list": numbers}, timestamp=5)
    span.add_link(SpanContext(7, 8, is_remote=True), {"why": "batch"})
    span.add_link(SpanContext(0, 0, is_remote=True))
    span.set_status(StatusCode.ERROR, "no luck")
    span.update_name("other")
    span.end()
    assert span.extra() == SpanExtra(
        STATUS_ERROR,
        "no luck",
        events=[("late", 5, (("list", (1, 2, 3)),))],
        links=[(7, 8, (("why", "batch"),))],
        attributes=(("text", "a"), ("number", 1), ("flag", True), ("list", (1, 2))),
    )


def test_an_event_without_a_time_happens_now(span) -> None:
    before = time.time_ns()
    span.add_event("now")
    ((name, at, attributes),) = span.extra().events
    assert (name, attributes) == ("now", ())
    assert before <= at <= time.time_ns()


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([(StatusCode.OK, None)], (STATUS_OK, "")),
        ([(Status(StatusCode.ERROR, "a"), None)], (STATUS_ERROR, "a")),
        ([(StatusCode.ERROR, None)], (STATUS_ERROR, "")),
        ([(StatusCode.ERROR, "a"), (StatusCode.UNSET, None)], (STATUS_ERROR, "a")),
        ([(StatusCode.ERROR, "a"), (StatusCode.OK, "ignored")], (STATUS_OK, "")),
        ([(StatusCode.OK, None), (StatusCode.ERROR, "a")], (STATUS_OK, "")),
    ],
)
def test_status_as_in_the_sdk(span, tracer, exporter, calls, expected) -> None:
    sdk_span = tracer.start_span("sdk")
    for status, description in calls:
        span.set_status(status, description)
        sdk_span.set_status(status, description)
    sdk_span.end()
    assert span.extra()[:2] == expected
    (finished,) = exporter.get_finished_spans()
    assert (finished.status.status_code.value, finished.status.description or "") == expected


def test_a_status_of_unset_leaves_nothing(span) -> None:
    span.set_status(StatusCode.UNSET)
    assert span.extra() is None


def test_record_exception(span) -> None:
    try:
        raise KeyError("k")
    except KeyError as error:
        span.record_exception(error, {"more": 1}, timestamp=9)
    ((name, at, attributes),) = span.extra().events
    assert (name, at) == ("exception", 9)
    found = dict(attributes)
    assert found.pop("exception.stacktrace").startswith("Traceback (most recent call last):\n")
    assert found == {"exception.type": "KeyError", "exception.message": "'k'", "more": 1}
    assert span.extra().status == 0


def test_failed_is_an_error_with_its_exception(span) -> None:
    span.failed(ValueError("bad"))
    assert span.extra()[:2] == (STATUS_ERROR, "ValueError: bad")
    assert [event[0] for event in span.extra().events] == ["exception"]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_a_text(span) -> None:
    span.failed(UnprintableError())
    assert span.extra().message == "UnprintableError: <exception str() failed>"
    attributes = exception_attributes(UnprintableError())
    assert attributes["exception.message"] == "<exception str() failed>"
    assert attributes["exception.type"] == f"{__name__}.UnprintableError"


def test_a_span_that_is_not_sampled_takes_nothing() -> None:
    span = child(None)
    span.set_attribute("a", 1)
    span.add_event("b")
    span.add_link(SpanContext(7, 8, is_remote=True))
    span.set_status(StatusCode.ERROR)
    span.record_exception(ValueError())
    span.failed(ValueError())
    assert span.extra() is None
    assert span.is_recording() is False
    assert span.get_span_context().is_valid is True
    assert child(None).ids != span.ids


def test_child() -> None:
    span = child((10, 20, 5, SAMPLED))
    assert (span.trace_id, span.parent_id, span.flags) == (10, 20, SAMPLED)
    assert span.span_id not in (0, 20)


def test_open_span_without_a_parent_is_the_root() -> None:
    span = open_span(TYPE, sampled_root)
    assert span.ids == (100, 200, 0, SAMPLED)
    assert trace.get_current_span() is span
    inner = open_span(TYPE, no_root)
    assert (inner.trace_id, inner.parent_id) == (100, 200)
    detach(inner.token)
    assert trace.get_current_span() is span
    detach(span.token)


def test_open_span_keeps_the_rest_of_the_context() -> None:
    token = otel_context.attach(otel_context.set_value("key", "value"))
    span = open_span(TYPE, sampled_root)
    assert otel_context.get_value("key") == "value"
    detach(span.token)
    otel_context.detach(token)


@pytest.mark.parametrize("remote", [True, False])
def test_open_span_below_a_foreign_span(remote) -> None:
    foreign = NonRecordingSpan(SpanContext(7, 8, is_remote=remote, trace_flags=TraceFlags(3)))
    with trace.use_span(foreign):
        span = open_span(TYPE, no_root)
        assert (span.trace_id, span.parent_id, span.flags) == (7, 8, 3)
        detach(span.token)


def test_below_an_unsampled_root_nothing_is_recorded(tracer, exporter) -> None:
    root = open_span(TYPE, unsampled_root)
    assert open_span(TYPE, no_root) is None
    with tracer.start_as_current_span("sdk") as sdk_span:
        assert sdk_span.is_recording() is False
        assert open_span(TYPE, no_root) is None
    detach(root.token)
    token = make_current(child(None))
    tracer.start_span("sdk").end()
    assert open_span(TYPE, no_root) is None
    detach(token)
    assert exporter.get_finished_spans() == ()


def test_below_an_unsampled_sdk_span_nothing_is_recorded() -> None:
    with trace.use_span(NonRecordingSpan(SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0)))):
        assert open_span(TYPE, no_root) is None


def test_sdk_spans_and_hooks_nest_both_ways(tracer, exporter) -> None:
    with tracer.start_as_current_span("outer") as outer:
        span = open_span(TYPE, no_root)
        with tracer.start_as_current_span("inner"):
            pass
        detach(span.token)
    inner, finished_outer = exporter.get_finished_spans()
    context = outer.get_span_context()
    assert (span.trace_id, span.parent_id) == (context.trace_id, context.span_id)
    assert (inner.context.trace_id, inner.parent.span_id) == (span.trace_id, span.span_id)
    assert finished_outer.parent is None


def test_use_span_records_an_exception_on_our_span(span) -> None:
    with pytest.raises(ValueError, match="x"), trace.use_span(span, end_on_exit=True):
        raise ValueError("x")
    assert span.extra()[:2] == (STATUS_ERROR, "ValueError: x")


def test_make_current_in_a_given_context(span) -> None:
    token = make_current(span, otel_context.Context({"key": "value"}))
    assert trace.get_current_span() is span
    assert otel_context.get_value("key") == "value"
    detach(token)


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "flags"), [(f"00-{TRACE}-{SPAN}-01", 1), (f"00-{TRACE}-{SPAN}-00", 0), (f"01-{TRACE}-{SPAN}-03-more", 3)]
)
def test_parse_traceparent(text, flags) -> None:
    assert parse_traceparent(text) == (int(TRACE, 16), int(SPAN, 16), flags)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01x",
        f"00-{TRACE}-{SPAN}-01\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00--{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-2]}_1-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_what_is_no_traceparent(text) -> None:
    assert parse_traceparent(text) is None


def test_format_traceparent() -> None:
    assert format_traceparent(int(TRACE, 16), int(SPAN, 16), 1) == f"00-{TRACE}-{SPAN}-01"
    assert format_traceparent(1, 2, 0x101) == f"00-{1:032x}-{2:016x}-01"


def test_remote_context() -> None:
    found: Any = trace.get_current_span(remote_context(3, 4, 1)).get_span_context()
    assert (found.trace_id, found.span_id, found.trace_flags, found.is_remote) == (3, 4, 1, True)


def test_exception_attributes_names_classes_of_modules() -> None:
    import json

    try:
        json.loads("{")
    except ValueError as error:
        attributes = exception_attributes(error)
    assert attributes["exception.type"] == "json.decoder.JSONDecodeError"
    assert attributes["exception.stacktrace"].endswith(f"{attributes['exception.message']}\n")
