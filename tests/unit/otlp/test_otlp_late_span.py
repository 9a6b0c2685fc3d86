from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from ascend_opentelemetry.otlp import SDK_SPAN, BridgeSink, ForeignProcessors, RecordSpanProcessor
from ascend_opentelemetry.otlp._late_span import LateSpans
from ascend_opentelemetry.recorder import KIND_SERVER, REMOTE, STATUS_ERROR, Record, RecordType, SpanExtra

TRACE_ID, SPAN_ID, PARENT_ID, START, END = 0xABC, 0x12, 0x34, 1_000, 5_000
TYPE = RecordType("Request", "llm_request", ("size",), kind=KIND_SERVER)
EXTRA = SpanExtra(
    STATUS_ERROR, "no", [("first token", 2_000, (("n", 1),))], [(7, 8, (("phase", "prefill"),))], (("x", "y"),), 2
)


def record(record_type: RecordType = TYPE, ids: Any = (TRACE_ID, SPAN_ID, PARENT_ID, 1 | REMOTE)) -> Record:
    return (record_type, START, END, 9, ids, (3,), EXTRA)


class Tagging(SpanProcessor):
    """Notes its calls and marks spans when they start."""

    def __init__(self, calls: list[Any], name: str = "tag") -> None:
        self.calls = calls
        self.name = name

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        parent = trace.get_current_span(parent_context).get_span_context()
        self.calls.append((self.name, "start", dict(span.attributes or {}), parent.span_id, parent.is_remote))
        span.set_attribute(self.name, True)

    def _on_ending(self, span: Span) -> None:
        self.calls.append((self.name, "ending", span.end_time))

    def on_end(self, span: ReadableSpan) -> None:
        self.calls.append((self.name, "end", dict(span.attributes or {})))


def test_processors_see_a_span_start_and_end_and_what_they_set_is_kept() -> None:
    calls: list[Any] = []
    provider = TracerProvider(resource=Resource({"service.name": "s"}))
    span = LateSpans(provider).lead(record(), (Tagging(calls), Tagging(calls, "other")))
    recorded = {"size": 3, "x": "y"}
    assert calls == [
        ("tag", "start", recorded, PARENT_ID, True),
        ("other", "start", recorded | {"tag": True}, PARENT_ID, True),
        ("tag", "ending", END),
        ("other", "ending", END),
        ("tag", "end", recorded | {"tag": True, "other": True}),
        ("other", "end", recorded | {"tag": True, "other": True}),
    ]
    assert (span.name, span.kind, span.start_time, span.end_time) == ("llm_request", SpanKind.SERVER, START, END)
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (TRACE_ID, SPAN_ID)
    assert span.parent is not None
    assert (span.parent.span_id, span.parent.is_remote) == (PARENT_ID, True)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no")
    assert [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events] == [
        ("first token", 2_000, {"n": 1})
    ]
    assert [(link.context.span_id, dict(link.attributes or {})) for link in span.links] == [(8, {"phase": "prefill"})]
    assert span.dropped_links == 2
    assert span.resource.attributes == {"service.name": "s"}
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "ascend_opentelemetry.Request"


def test_a_root_has_no_parent() -> None:
    calls: list[Any] = []
    span = LateSpans(TracerProvider()).lead(record(ids=(TRACE_ID, SPAN_ID, 0, 1)), (Tagging(calls),))
    assert span.parent is None
    assert calls[0][3:] == (0, False)


def test_limits_of_the_provider_hold_for_what_processors_set_too() -> None:
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=2, max_events=0))
    span = LateSpans(provider).lead(record(), (Tagging([]),))
    assert dict(span.attributes or {}) == {"x": "y", "tag": True}
    assert (span.dropped_attributes, span.dropped_events) == (1, 1)


@pytest.mark.parametrize("method", ["on_start", "_on_ending", "on_end"])
def test_a_processor_that_fails_is_named_once_and_stops_nobody(method: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        pass

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    broken, calls = Broken(), []
    setattr(broken, method, fail)
    late = LateSpans(TracerProvider())
    for _ in range(3):
        span = late.lead(record(), (broken, Tagging(calls)))
        assert (span.attributes or {})["tag"] is True
    assert [call[1] for call in calls] == ["start", "ending", "end"] * 3
    assert [message.getMessage() for message in caplog.records] == [
        "span processor Broken failed; spans go on without what it does"
    ]


def everything(name: str) -> bool:
    return name != "ascend_opentelemetry.Off"


def test_while_there_are_only_our_processors_records_go_as_they_are() -> None:
    provider = TracerProvider()
    provider.add_span_processor(RecordSpanProcessor(lambda _: None, lambda _: True, lambda: None))
    provider.add_span_processor(SpanProcessor())
    records = [record()]
    assert ForeignProcessors(provider, everything)(records) is records


def test_from_when_a_processor_is_added_each_record_is_a_row_and_a_span() -> None:
    provider = TracerProvider()
    ours: list[Record] = []
    provider.add_span_processor(RecordSpanProcessor(ours.append, lambda _: True, lambda: None))
    foreign = ForeignProcessors(provider, everything)
    first = [record()]
    assert foreign(first) is first
    provider.add_span_processor(Tagging([]))
    untraced, off = record(ids=None), record(RecordType("Off", "call", ("size",)))
    sdk_span: Any = (SDK_SPAN, 1, 2, 3, (1, 2, 0, 1), object(), None)
    no_span = record(RecordType("Request", "row", ("size",), traces=False))
    row, span, *rest = foreign([record(), untraced, off, sdk_span, no_span])
    assert row == (TYPE, START, END, 9, None, (3,), EXTRA)
    assert (span[0], span[4]) == (SDK_SPAN, (TRACE_ID, SPAN_ID, PARENT_ID, 1 | REMOTE))
    assert span[5].attributes["tag"] is True
    assert rest == [untraced, off, sdk_span, no_span]
    assert ours == []  # else the span would come twice


def test_the_bridge_leads_records_through_all_processors_of_the_provider() -> None:
    calls: list[Any] = []
    provider = TracerProvider()
    provider.add_span_processor(Tagging(calls))
    sink = BridgeSink(provider, lambda _: True)
    sink.write([record()])
    assert [call[1] for call in calls] == ["start", "ending", "end"]
