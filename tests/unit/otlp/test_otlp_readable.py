from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from ascend_opentelemetry.otlp import SDK_SPAN, to_readable
from ascend_opentelemetry.otlp._readable import ReadableBatch
from ascend_opentelemetry.recorder._record import KIND_SERVER, STATUS_ERROR, RecordType, SpanExtra
from ascend_opentelemetry.version import __version__

REQUEST = RecordType("request", "llm_request", ("id", "missing"), kind=KIND_SERVER)


def test_every_part_of_a_record_is_in_the_span(resource: Resource) -> None:
    extra = SpanExtra(STATUS_ERROR, "aborted", [("first", 15, [("a", 1)])], [(7, 8, [("b", 2)])], [("id", "new")], 4)
    span = to_readable((REQUEST, 10, 20, 3, (1, 2, 3, 0x201), ("old", None), extra), resource)
    assert span.name == "llm_request"
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id, int(span.context.trace_flags)) == (1, 2, 1)
    assert span.context.is_remote is False
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (1, 3, True)
    assert (span.kind, span.start_time, span.end_time) == (SpanKind.SERVER, 10, 20)
    assert span.attributes == {"id": "new"}
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "aborted")
    assert [(event.name, event.timestamp, event.attributes) for event in span.events] == [("first", 15, {"a": 1})]
    assert [(link.context.trace_id, link.context.span_id, link.attributes) for link in span.links] == [(7, 8, {"b": 2})]
    assert (span.dropped_links, span.dropped_events, span.dropped_attributes) == (4, 0, 0)
    assert span.resource is resource
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == (
        "ascend_opentelemetry.request",
        __version__,
    )
    assert '"parent_id": "0x0000000000000003"' in span.to_json()


def test_a_root_has_no_parent(resource: Resource) -> None:
    span = to_readable((REQUEST, 10, 20, 3, (1, 2, 0, 1), ("a", "b"), None), resource)
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET


def test_an_sdk_span_is_itself(resource: Resource) -> None:
    span = ReadableSpan("x", SpanContext(1, 2, False))
    assert to_readable((SDK_SPAN, 0, 0, 0, None, span, None), resource) is span


def test_a_batch_takes_spans_only(resource: Resource) -> None:
    batch = ReadableBatch(resource)
    no_traces = RecordType("d", "n", traces=False)
    sdk_span = ReadableSpan("x", SpanContext(1, 2, False))
    batch.add(
        [
            (REQUEST, 1, 2, 0, None, ("a", "b"), None),
            (no_traces, 1, 2, 0, (1, 2, 0, 1), (), None),
            (REQUEST, 1, 2, 0, (1, 2, 0, 1), None, None),
            (REQUEST, 1, 2, 0, (1, 2, 0, 1), ("a", "b"), None),
            (SDK_SPAN, 0, 0, 0, None, sdk_span, None),
        ]
    )
    assert (batch.count, batch.failed) == (2, 1)
    assert [span.name for span in batch.take()] == ["llm_request", "x"]
    assert (batch.count, batch.take()) == (0, [])
