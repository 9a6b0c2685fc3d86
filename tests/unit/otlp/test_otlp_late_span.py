from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from ascend_opentelemetry.otlp import SDK_SPAN, BridgeSink, ForeignProcessors, RecordSpanProcessor
from ascend_opentelemetry.otlp._late_span import LateSpans
from ascend_opentelemetry.otlp._leader import CAPACITY
from ascend_opentelemetry.recorder import KIND_SERVER, REMOTE, STATUS_ERROR, Record, RecordType, SpanExtra

TRACE_ID, SPAN_ID, PARENT_ID, START, END = 0xABC, 0x12, 0x34, 1_000, 5_000
TYPE = RecordType("Request", "llm_request", ("size",), kind=KIND_SERVER)
EXTRA = SpanExtra(
    STATUS_ERROR, "no", [("first_token", 2_000, (("n", 1),))], [(7, 8, (("phase", "prefill"),))], (("x", "y"),), 2
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

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


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
        ("first_token", 2_000, {"n": 1})
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


class Sink:
    """Stands for the sinks that export: keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.calls: list[str] = []

    def write(self, records: Any) -> None:
        self.records += records

    def flush(self, timeout: float) -> bool:
        self.calls.append("flush")
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


def everything(name: str) -> bool:
    return name != "ascend_opentelemetry.Off"


def ours(provider: TracerProvider) -> tuple[ForeignProcessors, Sink]:
    provider.add_span_processor(RecordSpanProcessor(lambda _: None, lambda _: True, lambda: None))
    sink: Any = Sink()
    return ForeignProcessors(provider, [sink], everything), sink


def test_while_there_are_only_our_processors_records_go_as_they_are() -> None:
    provider = TracerProvider()
    foreign, sink = ours(provider)
    provider.add_span_processor(SpanProcessor())
    given = record()
    foreign.write([given])
    assert sink.records[0] is given
    assert foreign._leader._thread is None


def test_from_when_a_processor_is_added_each_record_is_exported_as_it_left_it() -> None:
    provider = TracerProvider()
    foreign, sink = ours(provider)
    foreign.write([record()])
    assert sink.records.pop() == record()
    provider.add_span_processor(Tagging([]))
    untraced, off = record(ids=None), record(RecordType("Off", "call", ("size",)))
    sdk_span: Any = (SDK_SPAN, 1, 2, 3, (1, 2, 0, 1), object(), None)
    foreign.write([record(), untraced, off, sdk_span, record(RecordType("R", "row", ("size",), traces=False))])
    assert foreign.flush(5) is True
    first, led = sink.records
    assert first is sdk_span
    assert (led[0], led[1:5]) == (SDK_SPAN, (START, END, 9, (TRACE_ID, SPAN_ID, PARENT_ID, 1 | REMOTE)))
    assert led[5].attributes["tag"] is True
    assert foreign.dropped == {}
    foreign.shutdown(1)
    assert sink.calls == ["flush", "shutdown"]


def test_a_record_that_cannot_be_made_a_span_is_dropped_and_counted_and_costs_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = TracerProvider()
    foreign, sink = ours(provider)
    provider.add_span_processor(Tagging([]))
    broken = RecordType("Request", "broken")
    broken.attributes = lambda _: 1 / 0
    foreign.write([record(), record(broken), record(), record(broken)])
    assert foreign.flush(5) is True
    assert [one[5].attributes["tag"] for one in sink.records] == [True, True]
    assert foreign.dropped == {"failed": 2}
    assert [message.getMessage() for message in caplog.records] == [
        "spans are dropped and counted: broken cannot be made a span"
    ]
    foreign.shutdown(1)


class Slow(SpanProcessor):
    def __init__(self) -> None:
        self.go = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:
        self.go.wait(30)


def test_a_processor_that_hangs_holds_nobody_up_and_what_waits_for_it_is_counted() -> None:
    provider, slow = TracerProvider(), Slow()
    foreign, sink = ours(provider)
    provider.add_span_processor(slow)
    foreign.write([record()] * (CAPACITY + 5))
    assert foreign.flush(0.05) is False
    foreign.shutdown(0.05)
    slow.go.set()
    assert sum(foreign.dropped.values()) == CAPACITY + 5
    assert sink.records == []


def test_a_processor_that_flushes_the_provider_does_not_wait_for_itself() -> None:
    provider = TracerProvider()
    asked: list[float] = []
    provider.add_span_processor(RecordSpanProcessor(lambda _: None, lambda t: bool(asked.append(t)), lambda: None))
    sink: Any = Sink()
    foreign = ForeignProcessors(provider, [sink], everything)

    class Flushing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            provider.force_flush()

    provider.add_span_processor(Flushing())
    foreign.write([record()])
    assert foreign.flush(5) is True
    assert (len(sink.records), asked) == (1, [])
    foreign.shutdown(1)


def test_a_forked_child_leaves_what_waits_to_its_parent() -> None:
    provider, slow = TracerProvider(), Slow()
    foreign, sink = ours(provider)
    provider.add_span_processor(slow)
    foreign.write([record()] * 3)
    foreign.after_fork()
    assert foreign.flush(0) is True
    assert (sink.records, foreign.dropped) == ([], {})
    slow.go.set()


def test_the_bridge_leads_records_through_all_processors_of_the_provider() -> None:
    calls: list[Any] = []
    provider = TracerProvider()
    provider.add_span_processor(Tagging(calls))
    sink = BridgeSink(provider, lambda _: True)
    sink.write([record()])
    assert sink.flush(5) is True
    assert [call[1] for call in calls] == ["start", "ending", "end"]
    sink.shutdown(1)
