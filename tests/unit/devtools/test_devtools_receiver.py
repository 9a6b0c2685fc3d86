from __future__ import annotations

import gzip
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from devtools.otlp_json import ERROR, SERVER, Event, Link, Span, read_spans
from devtools.otlp_receiver import OtlpReceiver

TRACE, SPAN, PARENT = bytes(range(16)), bytes(range(8)), bytes(range(8, 16))


def value(content: object) -> common_pb2.AnyValue:
    if isinstance(content, bool):
        return common_pb2.AnyValue(bool_value=content)
    if isinstance(content, int):
        return common_pb2.AnyValue(int_value=content)
    if isinstance(content, float):
        return common_pb2.AnyValue(double_value=content)
    if isinstance(content, bytes):
        return common_pb2.AnyValue(bytes_value=content)
    if isinstance(content, list):
        return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=[value(item) for item in content]))
    if isinstance(content, dict):
        return common_pb2.AnyValue(kvlist_value=common_pb2.KeyValueList(values=pairs(content)))
    return common_pb2.AnyValue(string_value=str(content))


def pairs(content: dict[str, object]) -> list[common_pb2.KeyValue]:
    return [common_pb2.KeyValue(key=key, value=value(item)) for key, item in content.items()]


ATTRIBUTES = {
    "traceId": "kept as it is",
    "int": 2**53 + 1,
    "double": 0.5,
    "nan": float("inf"),
    "bool": False,
    "bytes": b"\x00\xff",
    "list": ["a", 1],
    "map": {"k": True},
}


def request() -> trace_service_pb2.ExportTraceServiceRequest:
    message = trace_service_pb2.ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.extend(pairs({"process.pid": 7}))
    scope = resource.scope_spans.add()
    scope.scope.name = "ascend_opentelemetry.Request"
    span = scope.spans.add(
        trace_id=TRACE,
        span_id=SPAN,
        parent_span_id=PARENT,
        name="llm_request",
        kind=SERVER,
        start_time_unix_nano=1_000,
        end_time_unix_nano=2_001_000,
    )
    span.attributes.extend(pairs(ATTRIBUTES))
    span.status.code, span.status.message = ERROR, "boom"
    span.events.add(name="first_token", time_unix_nano=5).attributes.extend(pairs({"n": 1}))
    span.links.add(trace_id=TRACE[::-1], span_id=PARENT)
    return message


EXPECTED = Span(
    trace_id=TRACE.hex(),
    span_id=SPAN.hex(),
    parent_id=PARENT.hex(),
    name="llm_request",
    scope="ascend_opentelemetry.Request",
    kind=SERVER,
    start=1_000,
    end=2_001_000,
    attributes=ATTRIBUTES,
    status_code=ERROR,
    status_message="boom",
    events=[Event("first_token", 5, {"n": 1})],
    links=[Link(TRACE[::-1].hex(), PARENT.hex(), {})],
    resource={"process.pid": 7},
)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(tmp_path / "traces.jsonl") as running:
        yield running


def post(receiver: OtlpReceiver, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(receiver.http_endpoint).netloc, timeout=10)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def export_by_grpc(receiver: OtlpReceiver, **options: object) -> object:
    with grpc.insecure_channel(urlsplit(receiver.grpc_endpoint).netloc) as channel:
        export = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=trace_service_pb2.ExportTraceServiceRequest.SerializeToString,
            response_deserializer=trace_service_pb2.ExportTraceServiceResponse.FromString,
        )
        return export(request(), timeout=10, **options)


def test_http_request_is_read_back_as_spans(receiver: OtlpReceiver) -> None:
    assert post(receiver, request().SerializeToString()) == (200, b"")
    assert receiver.spans() == [EXPECTED]
    assert receiver.spans()[0].ms == 2.0
    assert receiver.received == {"traces": 1}


def test_file_holds_one_json_request_a_line_with_hex_ids(receiver: OtlpReceiver) -> None:
    post(receiver, request().SerializeToString())
    post(receiver, request().SerializeToString())
    lines = receiver.path.read_text().splitlines()
    assert len(lines) == 2
    span = json.loads(lines[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (TRACE.hex(), SPAN.hex(), PARENT.hex())
    assert span["links"][0]["traceId"] == TRACE[::-1].hex()
    assert (span["kind"], span["startTimeUnixNano"]) == (2, "1000")
    assert read_spans(receiver.path) == [EXPECTED, EXPECTED]


def test_gzip_body_is_decoded_and_counted(receiver: OtlpReceiver) -> None:
    body = gzip.compress(request().SerializeToString())
    assert post(receiver, body, **{"Content-Encoding": "gzip"})[0] == 200
    assert receiver.spans() == [EXPECTED]
    assert receiver.encodings == {"gzip": 1}


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_grpc_request_is_read_back_as_spans(receiver: OtlpReceiver, compression: grpc.Compression) -> None:
    export_by_grpc(receiver, compression=compression)
    assert receiver.spans() == [EXPECTED]


def test_logs_go_to_a_file_of_their_own(receiver: OtlpReceiver) -> None:
    message = logs_service_pb2.ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.add(trace_id=TRACE, severity_text="INFO")
    assert post(receiver, message.SerializeToString(), "/v1/logs")[0] == 200
    [line] = receiver.requests("logs")
    [record] = line["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record == {"traceId": TRACE.hex(), "severityText": "INFO"}
    assert receiver.file("logs") == receiver.path.with_name("traces.logs.jsonl")
    assert receiver.spans() == []


def test_injected_http_status_keeps_nothing(receiver: OtlpReceiver) -> None:
    receiver.http_status = 503
    assert post(receiver, request().SerializeToString())[0] == 503
    assert receiver.spans() == []
    assert (receiver.refused, receiver.received) == ({"traces": 1}, {})
    receiver.http_status = 200
    assert post(receiver, request().SerializeToString())[0] == 200
    assert receiver.spans() == [EXPECTED]


def test_injected_grpc_status_keeps_nothing(receiver: OtlpReceiver) -> None:
    receiver.grpc_status = "UNAVAILABLE"
    with pytest.raises(grpc.RpcError) as error:
        export_by_grpc(receiver)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert receiver.spans() == []
    assert receiver.refused == {"traces": 1}


@pytest.mark.parametrize("status", [429, 503])
def test_http_says_when_to_come_again_and_fails_as_often_as_asked(receiver: OtlpReceiver, status: int) -> None:
    receiver.http_status, receiver.retry_after, receiver.fail_first = status, 2, 2
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{receiver.http_endpoint}/v1/traces", request().SerializeToString())
    assert (error.value.code, error.value.headers["Retry-After"]) == (status, "2")
    assert post(receiver, request().SerializeToString())[0] == status
    assert post(receiver, request().SerializeToString())[0] == 200
    assert receiver.spans() == [EXPECTED]
    assert (receiver.refused, receiver.received) == ({"traces": 2}, {"traces": 1})


def test_other_http_failures_do_not_say_when_to_come_again(receiver: OtlpReceiver) -> None:
    receiver.http_status, receiver.retry_after = 400, 2
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{receiver.http_endpoint}/v1/traces", request().SerializeToString())
    assert "Retry-After" not in error.value.headers


@pytest.mark.parametrize(
    ("status", "told"), [("UNAVAILABLE", True), ("RESOURCE_EXHAUSTED", True), ("INVALID_ARGUMENT", False)]
)
def test_grpc_says_when_to_come_again_and_fails_as_often_as_asked(
    receiver: OtlpReceiver, status: str, told: bool
) -> None:
    receiver.grpc_status, receiver.retry_after, receiver.fail_first = status, 1.25, 1
    with pytest.raises(grpc.RpcError) as error:
        export_by_grpc(receiver)
    metadata = dict(error.value.trailing_metadata())
    assert ("google.rpc.retryinfo-bin" in metadata) is told
    if told:
        delay = RetryInfo.FromString(metadata["google.rpc.retryinfo-bin"]).retry_delay
        assert (delay.seconds, delay.nanos) == (1, 250_000_000)
    export_by_grpc(receiver)
    assert receiver.spans() == [EXPECTED]
    assert (receiver.refused, receiver.received) == ({"traces": 1}, {"traces": 1})


def test_partial_success_names_the_spans_that_were_rejected(receiver: OtlpReceiver) -> None:
    receiver.rejected = 3, "too old"
    status, body = post(receiver, request().SerializeToString())
    answers = [trace_service_pb2.ExportTraceServiceResponse.FromString(body), export_by_grpc(receiver)]
    assert status == 200
    assert [(one.partial_success.rejected_spans, one.partial_success.error_message) for one in answers] == [
        (3, "too old")
    ] * 2
    assert receiver.received == {"traces": 2}
    assert post(receiver, logs_service_pb2.ExportLogsServiceRequest().SerializeToString(), "/v1/logs") == (200, b"")


def test_an_answer_cut_in_its_body_was_kept(receiver: OtlpReceiver) -> None:
    receiver.close_mid_body = True
    with pytest.raises(http.client.IncompleteRead) as error:
        post(receiver, request().SerializeToString())
    assert (error.value.partial, error.value.expected) == (b"half", 4)
    assert receiver.spans() == [EXPECTED]


def test_delay_comes_before_the_answer(receiver: OtlpReceiver) -> None:
    receiver.delay = 0.1
    started = time.monotonic()
    post(receiver, request().SerializeToString())
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(
    ("body", "path", "encoding", "status"),
    [
        (b"\xff\xff", "/v1/traces", "identity", 400),
        (b"no gzip", "/v1/traces", "gzip", 400),
        (b"", "/v1/traces", "br", 400),
        (b"", "/v1/unknown", "identity", 404),
    ],
)
def test_what_cannot_be_read_is_refused(
    receiver: OtlpReceiver, body: bytes, path: str, encoding: str, status: int
) -> None:
    assert post(receiver, body, path, **{"Content-Encoding": encoding})[0] == status
    assert receiver.spans() == []


def test_kept_connection_dies_with_the_receiver(tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        connection = http.client.HTTPConnection(urlsplit(receiver.http_endpoint).netloc, timeout=10)
        connection.request("POST", "/v1/traces", request().SerializeToString())
        assert connection.getresponse().read() == b""
        kept = connection.sock
        assert kept is not None
    # the end of the stream: nobody serves this connection any more
    assert kept.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        post(receiver, b"")


def test_slow_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    started = time.monotonic()
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        receiver.delay = 60
        connection = http.client.HTTPConnection(urlsplit(receiver.http_endpoint).netloc, timeout=10)
        connection.request("POST", "/v1/traces", b"")
    assert time.monotonic() - started < 5
