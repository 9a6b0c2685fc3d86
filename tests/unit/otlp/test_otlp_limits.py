"""Limits of spans and scopes that are off, in each encoding of a record."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, SpanContext, TraceFlags

from ascend_opentelemetry.otlp import BridgeSink, to_readable
from ascend_opentelemetry.otlp._encoder import SpanEncoder
from ascend_opentelemetry.otlp._readable import ReadableBatch
from ascend_opentelemetry.otlp._settings import Limits
from ascend_opentelemetry.recorder._record import Record, RecordType, SpanExtra

RESOURCE = Resource({"service.name": "vllm"})
KEYS = ("a", "b", "c", "d")
VALUES = ("long text", 1, ["long text", "x"], 2.5)
PLAIN = RecordType("Domain", "plain", KEYS)
CALLED = RecordType("Domain", "called", attributes=lambda record: zip(KEYS, record[5], strict=True))
EVENTS = [("one", 1, (("a", "long text"), ("b", 1))), ("two", 2, (("a", 1),)), ("three", 3, ())]
LINKS = [(7, 1, (("a", "long text"), ("b", 5))), (7, 2, ()), (7, 3, (("a", 1),))]
EXTRA = SpanExtra(events=EVENTS, links=LINKS)

LIMITS = {
    "none": {},
    "attributes": {"max_span_attributes": 2},
    "no attributes": {"max_span_attributes": 0},
    "as many as there are": {"max_span_attributes": 4, "max_events": 3, "max_links": 3},
    "length": {"max_attribute_length": 4},
    "length of the span's": {"max_span_attribute_length": 2},
    "length 0": {"max_attribute_length": 0},
    "events": {"max_events": 1, "max_event_attributes": 1},
    "links": {"max_links": 2, "max_link_attributes": 1},
    "nothing": {"max_attributes": 0, "max_events": 0, "max_links": 0},
}


def parse(payload: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(payload)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def by_the_sdk(limits: SpanLimits, name: str, extra: SpanExtra | None) -> ReadableSpan:
    """The span that the SDK makes of the same calls."""
    provider = TracerProvider(span_limits=limits, resource=RESOURCE, shutdown_on_exit=False)
    context = lambda trace, span: SpanContext(trace, span, False, TraceFlags(1))  # noqa: E731
    links = [] if extra is None else [Link(context(trace, span), dict(pairs)) for trace, span, pairs in extra.links]
    span: Any = provider.get_tracer("x").start_span(name, links=links, start_time=1)
    for key, value in zip(KEYS, VALUES, strict=True):
        span.set_attribute(key, value)
    for name, time, pairs in () if extra is None else extra.events:
        span.add_event(name, dict(pairs), time)
    span.end(2)
    return span._readable_span()


def content(span: Span) -> Any:
    """What limits may change."""
    return (
        span.attributes, span.events, span.links,
        span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count,
    )  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("record_type", [PLAIN, CALLED], ids=["keys", "callable"])
@pytest.mark.parametrize("extra", [None, EXTRA], ids=["plain", "extra"])
def test_a_record_is_cut_as_the_sdk_cuts_its_spans(limits, record_type, extra) -> None:
    span_limits = SpanLimits(**LIMITS[limits])
    record: Record = (record_type, 1, 2, 3, (1, 2, 0, 1), VALUES, extra)
    encoder = SpanEncoder(RESOURCE, Limits(span_limits))
    encoder.add([record])
    assert encoder.failed == 0
    (ours,) = parse(encoder.take())
    (theirs,) = parse(encode_spans([by_the_sdk(span_limits, record_type.name, extra)]).SerializeToString())
    assert content(ours) == content(theirs)
    (readable,) = parse(encode_spans([to_readable(record, RESOURCE, Limits(span_limits))]).SerializeToString())
    assert readable == ours


def test_texts_inside_of_values_are_cut_too() -> None:
    nested = ({"k": "long text", "n": ("long text", 7)}, ["long text", [b"long bytes"]], None, True)
    encoder = SpanEncoder(RESOURCE, Limits(SpanLimits(max_attribute_length=2)))
    encoder.add([(PLAIN, 1, 2, 3, (1, 2, 0, 1), nested, None)])
    (ours,) = parse(encoder.take())
    cut = ({"k": "lo", "n": ["lo", 7]}, ["lo", [b"long bytes"]], None, True)
    encoder = SpanEncoder(RESOURCE)
    encoder.add([(PLAIN, 1, 2, 3, (1, 2, 0, 1), cut, None)])
    (expected,) = parse(encoder.take())
    assert ours == expected


def test_links_that_a_handler_left_out_are_counted_too() -> None:
    record: Record = (PLAIN, 1, 2, 3, (1, 2, 0, 1), VALUES, SpanExtra(links=LINKS, dropped_links=5))
    encoder = SpanEncoder(RESOURCE, Limits(SpanLimits(max_links=1)))
    encoder.add([record])
    (span,) = parse(encoder.take())
    assert (span.links[0].span_id[-1], span.dropped_links_count) == (3, 7)


def test_limits_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    record: Record = (PLAIN, 1, 2, 3, (1, 2, 0, 1), VALUES, None)
    encoder = SpanEncoder(RESOURCE)
    encoder.add([record])
    (span,) = parse(encoder.take())
    assert ([pair.key for pair in span.attributes], span.dropped_attributes_count) == (["d"], 3)
    readable = to_readable(record, RESOURCE)
    assert (list(readable.attributes or {}), readable.dropped_attributes) == (["d"], 3)


def only_kept(name: str) -> bool:
    return name != "ascend_opentelemetry.Off"


class Ended(SpanProcessor):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.names.append(span.name)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def test_records_of_a_scope_that_is_off_are_no_spans() -> None:
    records: list[Record] = [
        (RecordType(domain, name, traces=traces), 1, 2, 3, ids, (), None)
        for domain, name, traces, ids in (
            ("On", "kept", True, (1, 2, 0, 1)),
            ("Off", "off", True, (1, 3, 0, 1)),
            ("On", "native only", False, (1, 4, 0, 1)),
            ("On", "not sampled", True, None),
        )
    ]
    encoder, batch, ended = SpanEncoder(RESOURCE, None, only_kept), ReadableBatch(RESOURCE, None, only_kept), Ended()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ended)
    encoder.add(records)
    batch.add(records)
    bridge = BridgeSink(provider, scope_enabled=only_kept)
    bridge.write(records)
    assert bridge.flush(5) is True
    assert [span.name for span in parse(encoder.take())] == ["kept"]
    assert [span.name for span in batch.take()] == ["kept"]
    assert ended.names == ["kept"]
