from __future__ import annotations

import enum
import logging
import random
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from ascend_opentelemetry.otlp import SDK_SPAN, to_readable
from ascend_opentelemetry.otlp._encoder import SpanEncoder
from ascend_opentelemetry.recorder._record import (
    KIND_SERVER,
    STATUS_ERROR,
    STATUS_OK,
    Record,
    RecordType,
    SpanExtra,
)
from ascend_opentelemetry.version import __version__

RESOURCE = Resource({"service.name": "vllm", "list": ["a", "b"], "process.pid": 7}, "https://schema/1")
IDS = (0x0123456789ABCDEF0123456789ABCDEF, 0x1122334455667788, 0x8877665544332211, 1)
PLAIN = RecordType("domain", "name", ("key",))

EDGES = [
    True, False, 0, 1, -1, 63, 64, 127, 128, 255, 4095, 4096, 16383, 16384, 2**31, 2**63 - 1, -(2**63), 1789000000123456789,
    0.0, -0.0, 1.0, 0.1, float("inf"), float("-inf"), 5e-324, "", "a", "decode", "\u00e9\u4e2d\U0001f600", "x" * 63, "x" * 64,
    "x" * 65, "y" * 127, "y" * 128, "z" * 20000, b"", b"\x00\xff", b"k" * 300, [], (), [1, 2, 3], ("a", "b"), [True, 1, 1.0, "1"],
    [[1, [2, []]], {}], {}, {"a": 1}, {"n": {"m": [1, {"o": b"x"}]}, "": ""}, {1: "int key"}, bytearray(b"ab"), range(3),
]  # fmt: skip


def parse(payload: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(payload)


def encode(*records: Record, resource: Resource = RESOURCE) -> ExportTraceServiceRequest:
    encoder = SpanEncoder(resource)
    encoder.add(records)
    assert encoder.failed == 0
    return parse(encoder.take())


def only_span(request: ExportTraceServiceRequest) -> Span:
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    (span,) = scope.spans
    return span


def plain(value: Any, *, ids: tuple[int, int, int, int] = IDS, extra: SpanExtra | None = None) -> Record:
    return (PLAIN, 1789000000000000001, 1789000000000000002, 42, ids, (value,), extra)


def sdk_record(span: ReadableSpan) -> Record:
    return (SDK_SPAN, 0, 0, 0, None, span, None)


class Spans:
    """Random spans with every part that a span can have."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.resources = [RESOURCE, Resource({"other": 1.5}), Resource({})]
        self.scopes = [
            InstrumentationScope("one"),
            InstrumentationScope("two", "1.2", "https://schema/scope", {"a": 1, "b": ["x"]}),
            InstrumentationScope("two", "1.2", "https://schema/scope", {"a": 2}),
            None,
        ]

    def value(self, depth: int = 0) -> Any:
        pick = self.random.random()
        if pick < 0.15:
            return self.random.choice(EDGES)
        if pick < 0.35:
            return self.random.randrange(-(2 ** self.random.randrange(1, 64)), 2 ** self.random.randrange(1, 63))
        if pick < 0.5:
            return self.random.uniform(-1e9, 1e9)
        if pick < 0.8 or depth > 2:
            return "".join(self.random.choices("ab\u00e9\u4e2d\U0001f600", k=self.random.randrange(0, 200)))
        if pick < 0.9:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {str(number): self.value(depth + 1) for number in range(self.random.randrange(4))}

    def attributes(self) -> dict[str, Any]:
        return {f"key.{self.random.randrange(30)}": self.value() for _ in range(self.random.randrange(8))}

    def context(self) -> SpanContext:
        state = TraceState([("k", "v"), ("other", "w x")]) if self.random.random() < 0.3 else None
        remote, flags = self.random.random() < 0.5, TraceFlags(self.random.randrange(2))
        return SpanContext(
            self.random.getrandbits(128), self.random.getrandbits(64), remote, flags, state or TraceState()
        )

    def bounded(self, items: list[Any]) -> BoundedList | list[Any]:
        if self.random.random() < 0.5:
            return items
        bounded = BoundedList.from_seq(100, items)
        bounded.dropped = self.random.choice([0, 1, 300])
        return bounded

    def span(self) -> ReadableSpan:
        events = [Event(f"e{n}", self.attributes(), n * 10**18) for n in range(self.random.randrange(3))]
        links = [Link(self.context(), self.attributes()) for _ in range(self.random.randrange(3))]
        start = self.random.randrange(2**63)
        return ReadableSpan(
            self.random.choice(["", "GET /v1/completions", "\u4e2d" * 50]),
            self.context(),
            self.random.choice([None, self.context()]),
            self.random.choice(self.resources),
            self.attributes(),
            self.bounded(events),
            self.bounded(links),
            self.random.choice(list(SpanKind)),
            status=self.random.choice(
                [
                    Status(StatusCode.UNSET),
                    Status(StatusCode.OK),
                    Status(StatusCode.ERROR, "b\u00e4d"),
                    Status(StatusCode.ERROR),
                ]
            ),
            start_time=start,
            end_time=start + self.random.randrange(10**12),
            instrumentation_scope=self.random.choice(self.scopes),
        )


@pytest.mark.parametrize("seed", range(40))
def test_sdk_spans_are_encoded_as_the_sdk_does(seed: int) -> None:
    source = Spans(seed)
    spans = [source.span() for _ in range(source.random.randrange(1, 12))]
    assert encode(*map(sdk_record, spans)) == encode_spans(spans)


def test_a_reused_encoder_keeps_nothing_of_the_batch_before() -> None:
    source, encoder = Spans(1), SpanEncoder(RESOURCE)
    for _ in range(20):
        spans = [source.span() for _ in range(5)]
        encoder.add(map(sdk_record, spans))
        assert encoder.count == 5
        ours = parse(encoder.take())
        assert encoder.count == 0
        assert sorted(
            s.SerializeToString() for r in ours.resource_spans for g in r.scope_spans for s in g.spans
        ) == sorted(
            s.SerializeToString() for r in encode_spans(spans).resource_spans for g in r.scope_spans for s in g.spans
        )
    assert encoder.take() == b""


@pytest.mark.parametrize("value", EDGES, ids=lambda value: repr(value)[:20])
def test_a_value_of_a_record_is_encoded_as_the_sdk_does(value: Any) -> None:
    record = plain(value)
    assert encode(record) == encode_spans([to_readable(record, RESOURCE)])
    assert len(only_span(encode(record)).attributes) == 1


def test_equal_dict_keys_of_different_kinds_stay_different() -> None:
    encoder = SpanEncoder(RESOURCE)
    encoder.add([plain(value) for value in (1, True, 1.0, 0.0, -0.0, False, 0, "1") * 2])
    spans = parse(encoder.take()).resource_spans[0].scope_spans[0].spans
    kinds = [span.attributes[0].value.WhichOneof("value") for span in spans]
    assert kinds == [
        "int_value", "bool_value", "double_value", "double_value", "double_value", "bool_value", "int_value", "string_value",
    ] * 2  # fmt: skip
    assert [str(span.attributes[0].value.double_value) for span in spans[3:5]] == ["0.0", "-0.0"]


def test_more_values_and_keys_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "5000")
    encoder = SpanEncoder(RESOURCE)
    values = [*range(1000), *map(str, range(1000)), *range(1000)]
    encoder.add([plain(value) for value in values])
    spans = parse(encoder.take()).resource_spans[0].scope_spans[0].spans
    assert [span.attributes[0].value.int_value for span in spans[:1000]] == list(range(1000))
    assert [span.attributes[0].value.string_value for span in spans[1000:2000]] == list(map(str, range(1000)))
    assert [span.attributes[0].value.int_value for span in spans[2000:]] == list(range(1000))
    kept = encoder._writer.attributes["key"]
    assert 0 < len(kept[int]) <= 256
    assert 0 < len(kept[str]) <= 256
    encoder.add([plain("x" * 65)])
    assert "x" * 65 not in kept[str]
    wide = RecordType("domain", "wide", [f"k{number}" for number in range(5000)])
    assert len(only_span(encode((wide, 1, 2, 0, IDS, range(5000), None))).attributes) == 5000


def test_subclasses_are_encoded_as_what_they_are() -> None:
    class Text(str, enum.Enum):
        A = "a"

    class Number(enum.IntEnum):
        SEVEN = 7

    assert only_span(encode(plain(Text.A))).attributes[0].value == AnyValue(string_value="a")
    assert only_span(encode(plain(Number.SEVEN))).attributes[0].value == AnyValue(int_value=7)


def test_none_is_left_out_but_kept_inside_of_values() -> None:
    assert list(only_span(encode(plain(None))).attributes) == []
    value = only_span(encode(plain([None, {"a": None}]))).attributes[0].value
    first, second = value.array_value.values
    assert first == AnyValue()
    assert list(second.kvlist_value.values) == [KeyValue(key="a", value=AnyValue())]
    span = ReadableSpan("s", SpanContext(1, 2, False), attributes={"a": None, "b": 1}, resource=RESOURCE)
    assert [pair.key for pair in only_span(encode(sdk_record(span))).attributes] == ["b"]


def test_text_that_utf8_cannot_hold_is_replaced() -> None:
    record_type = RecordType("domain", "na\ud800me", ("k\udfffy",))
    extra = SpanExtra(STATUS_ERROR, "m\ud800", [("e\ud800", 1, [("a", "\ud800")])])
    span = only_span(encode((record_type, 1, 2, 0, IDS, ("v\ud800v",), extra)))
    assert (span.name, span.attributes[0].key, span.attributes[0].value.string_value) == ("na?me", "k?y", "v?v")
    assert (span.status.message, span.events[0].name) == ("m?", "e?")
    assert span.events[0].attributes[0].value.string_value == "?"


def test_fields_of_a_record() -> None:
    record_type = RecordType("request", "llm_request", ("gen_ai.request.id", "n"), kind=KIND_SERVER)
    request = encode((record_type, 10, 20, 3, IDS, ("cmpl-1", 2), None))
    (resource,) = request.resource_spans
    assert resource.schema_url == "https://schema/1"
    assert [pair.key for pair in resource.resource.attributes] == ["service.name", "list", "process.pid"]
    (scope,) = resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("ascend_opentelemetry.request", __version__)
    (span,) = scope.spans
    assert span.trace_id == bytes.fromhex("0123456789abcdef0123456789abcdef")
    assert (span.span_id.hex(), span.parent_span_id.hex()) == ("1122334455667788", "8877665544332211")
    assert (span.name, span.kind) == ("llm_request", Span.SPAN_KIND_SERVER)
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.flags) == (10, 20, 0x100)
    assert list(span.attributes) == [
        KeyValue(key="gen_ai.request.id", value=AnyValue(string_value="cmpl-1")),
        KeyValue(key="n", value=AnyValue(int_value=2)),
    ]
    assert span.HasField("status")
    assert span.status.code == 0


@pytest.mark.parametrize(
    "extra",
    [
        SpanExtra(),
        SpanExtra(STATUS_OK, "not said"),
        SpanExtra(STATUS_ERROR, "b\u00e4d"),
        SpanExtra(events=[("e", 5, [("a", 1), ("b", "x")]), ("f", 6, [])]),
        SpanExtra(links=[(7, 8, [("a", 1)]), (2**128 - 1, 2**64 - 1, [])], dropped_links=300),
        SpanExtra(attributes=[("key", "other"), ("more", [1, 2]), ("key", "last"), ("none", None)]),
    ],
)
@pytest.mark.parametrize("ids", [IDS, (1, 2, 0, 1), (1, 2, 3, 0x201)])
def test_the_rarer_parts_of_a_record(extra: SpanExtra, ids: tuple[int, int, int, int]) -> None:
    record = plain("value", ids=ids, extra=extra)
    assert encode(record) == encode_spans([to_readable(record, RESOURCE)])


def test_attributes_of_the_span_win_over_those_of_the_type() -> None:
    span = only_span(encode(plain("value", extra=SpanExtra(attributes=[("key", "last")]))))
    assert list(span.attributes) == [KeyValue(key="key", value=AnyValue(string_value="last"))]


def test_a_remote_parent_is_flagged() -> None:
    assert only_span(encode(plain(1, ids=(1, 2, 3, 0x201)))).flags == 0x300
    assert only_span(encode(plain(1, ids=(1, 2, 3, 1)))).flags == 0x100
    assert only_span(encode(plain(1, ids=(1, 2, 0, 1)))).parent_span_id == b""


def test_attributes_made_by_the_type() -> None:
    record_type = RecordType("d", "n", ("ignored",), attributes=lambda record: [("made", record[5]), ("none", None)])
    record: Record = (record_type, 1, 2, 0, IDS, {"a": 1}, None)
    assert encode(record) == encode_spans([to_readable(record, RESOURCE)])
    assert [pair.key for pair in only_span(encode(record)).attributes] == ["made"]


def test_records_that_are_no_spans_are_passed_over() -> None:
    no_traces = RecordType("d", "n", traces=False)
    encoder = SpanEncoder(RESOURCE)
    encoder.add([(PLAIN, 1, 2, 0, None, (1,), None), (no_traces, 1, 2, 0, IDS, (), None)])
    assert (encoder.count, encoder.failed, encoder.take()) == (0, 0, b"")


def test_records_and_sdk_spans_of_one_resource_come_together() -> None:
    span = ReadableSpan(
        "GET", SpanContext(1, 2, False), resource=Resource(dict(RESOURCE.attributes), RESOURCE.schema_url),
        start_time=1, end_time=2, instrumentation_scope=InstrumentationScope("fastapi"),
    )  # fmt: skip
    other = RecordType("other", "o")
    request = encode(plain(1), sdk_record(span), plain(2), (other, 1, 2, 0, IDS, (), None))
    (resource,) = request.resource_spans
    assert [(group.scope.name, len(group.spans)) for group in resource.scope_spans] == [
        ("ascend_opentelemetry.domain", 2), ("fastapi", 1), ("ascend_opentelemetry.other", 1),
    ]  # fmt: skip


def test_a_new_resource_holds_from_then_on() -> None:
    encoder = SpanEncoder(RESOURCE)
    encoder.add([plain(1)])
    encoder.set_resource(Resource({"process.pid": 8}))
    encoder.add([plain(2)])
    first, second = parse(encoder.take()).resource_spans
    assert len(first.resource.attributes) == 3
    assert second.resource.attributes[0].value.int_value == 8
    assert [r.scope_spans[0].spans[0].attributes[0].value.int_value for r in (first, second)] == [1, 2]


def test_many_scopes_do_not_pile_up() -> None:
    encoder = SpanEncoder(RESOURCE)
    for number in range(600):
        scope = InstrumentationScope(f"scope {number}")
        encoder.add(
            [sdk_record(ReadableSpan("s", SpanContext(1, 2, False), resource=RESOURCE, instrumentation_scope=scope))]
        )
        assert parse(encoder.take()).resource_spans[0].scope_spans[0].scope.name == f"scope {number}"
    assert sum(map(len, encoder._groups.values())) <= 257
    assert len(encoder._scopes) <= 256


@pytest.mark.parametrize(
    "record",
    [
        plain(1, ids=(2**128, 1, 0, 1)),
        plain(1, ids=(-1, 1, 0, 1)),
        (PLAIN, None, 2, 0, IDS, (1,), None),
        (PLAIN, 1, 2, 0, IDS, 5, None),
        (RecordType("d", "n", attributes=lambda record: 1 / 0), 1, 2, 0, IDS, (), None),
        plain(1, extra=SpanExtra(events=[("e", -1, [])])),
        sdk_record(ReadableSpan("no context")),
    ],
)
def test_a_record_that_cannot_be_encoded_costs_itself_only(record: Any, caplog: pytest.LogCaptureFixture) -> None:
    encoder = SpanEncoder(RESOURCE)
    with caplog.at_level(logging.WARNING, "ascend_opentelemetry"):
        encoder.add([plain(1), record, record, plain(2)])
    assert (encoder.count, encoder.failed) == (2, 2)
    spans = parse(encoder.take()).resource_spans[0].scope_spans[0].spans
    assert [span.attributes[0].value.int_value for span in spans] == [1, 2]
    assert len(caplog.records) == 1
    assert "cannot be encoded for OTLP and are dropped" in caplog.text


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**63, -(2**63) - 1, [2**64], {"a": object()}, 1j])
def test_a_value_that_otlp_cannot_hold_is_left_out_with_one_warning(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ascend_opentelemetry"):
        request = encode(plain(value), plain(value))
    assert [list(span.attributes) for span in request.resource_spans[0].scope_spans[0].spans] == [[], []]
    assert len(caplog.records) == 1
    assert "'key'" in caplog.text
