from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.otlp._encoder import SpanEncoder
from ascend_opentelemetry.otlp._otlp_transport import open_transport
from ascend_opentelemetry.otlp._transport import Outcome, Transport
from ascend_opentelemetry.recorder._record import Record

Steps = Callable[..., list[Record]]
WaitFor = Callable[[Callable[[], Any]], None]
MakeSink = Callable[..., OtlpSink]

PARTIAL = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
).SerializeToString()


@pytest.fixture
def payload(resource: Any, steps: Steps) -> bytes:
    encoder = SpanEncoder(resource)
    encoder.add(steps(3))
    return encoder.take()


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def opened(exporter: Any) -> Transport:
    transport = open_transport(exporter)
    assert transport is not None
    assert transport.takes_bytes
    return transport


def abort(code: grpc.StatusCode, details: str, *metadata: tuple[str, bytes]) -> Callable[[grpc.ServicerContext], bytes]:
    def answer(context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(metadata)
        context.abort(code, details)
        return b""

    return answer


def test_bytes_arrive_as_they_are(receiver: Any, payload: bytes) -> None:
    transport = opened(receiver.exporter(headers={"authorization": "Bearer x"}))
    assert transport.send(payload, 3) == Outcome()
    assert receiver.requests == [ExportTraceServiceRequest.FromString(payload)]
    headers = {name.lower(): value for name, value in receiver.headers[0].items()}
    assert headers["authorization"] == "Bearer x"
    assert headers["user-agent"].startswith("OTel-OTLP-Exporter-Python/")
    transport.shutdown()


def test_http_request(http_receiver: Any, payload: bytes) -> None:
    opened(http_receiver.exporter(compression=Compression.Gzip)).send(payload, 3)
    headers = {name.lower(): value for name, value in http_receiver.headers[0].items()}
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["content-encoding"] == "gzip"
    assert headers[":path"] == "/v1/traces"
    assert http_receiver.requests == [ExportTraceServiceRequest.FromString(payload)]


def test_grpc_compression(grpc_receiver: Any, payload: bytes) -> None:
    transport = opened(grpc_receiver.exporter(compression=grpc.Compression.Gzip))
    assert transport.send(payload, 3) == Outcome()
    assert grpc_receiver.requests == [ExportTraceServiceRequest.FromString(payload)]
    transport.shutdown()


def test_partial_success(grpc_receiver: Any, http_receiver: Any, payload: bytes) -> None:
    grpc_receiver.answers = [PARTIAL]
    http_receiver.answers = [(200, {}, PARTIAL)]
    for receiver in (grpc_receiver, http_receiver):
        transport = opened(receiver.exporter())
        assert transport.send(payload, 3) == Outcome("", "too old", 2)
        assert transport.send(payload, 3) == Outcome()
        transport.shutdown()


def test_partial_success_is_counted_and_said(
    http_receiver: Any, make_sink: MakeSink, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    http_receiver.answers = [(200, {}, PARTIAL), (200, {}, PARTIAL)]
    sink = make_sink(http_receiver.exporter(), max_batch=5)
    sink.write(steps(10))
    assert not sink.flush(2)
    assert (sink.exported, sink.dropped) == (6, {"rejected": 4})
    assert len(caplog.records) == 1
    assert "partial success (too old)" in caplog.text


def test_an_answer_that_is_no_otlp_is_a_success(http_receiver: Any, payload: bytes) -> None:
    http_receiver.answers = [(200, {}, b"<html>hello</html>")]
    assert opened(http_receiver.exporter()).send(payload, 3) == Outcome()


def test_http_503_is_tried_again_after_the_time_asked_for(http_receiver: Any, payload: bytes) -> None:
    http_receiver.answers = [(503, {"Retry-After": "0"}, b"")]
    assert opened(http_receiver.exporter()).send(payload, 3) == Outcome()
    assert len(http_receiver.requests) == 2


def test_grpc_unavailable_is_tried_again_after_the_time_asked_for(grpc_receiver: Any, payload: bytes) -> None:
    info = RetryInfo(retry_delay=Duration(nanos=20_000_000)).SerializeToString()
    retry = ("google.rpc.retryinfo-bin", info)
    grpc_receiver.answers = [
        abort(grpc.StatusCode.UNAVAILABLE, "busy", retry),
        abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry),
    ]
    transport = opened(grpc_receiver.exporter())
    assert transport.send(payload, 3) == Outcome()
    assert len(grpc_receiver.requests) == 3
    transport.shutdown()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((400, {}, b"bad"), Outcome("400", "Bad Request")),
        ((401, {}, b""), Outcome("401", "Unauthorized")),
        ((404, {}, b""), Outcome("404", "Not Found")),
        ((503, {"Retry-After": "100"}, b""), Outcome("503", "Service Unavailable")),
    ],
)
def test_http_failures(
    http_receiver: Any, payload: bytes, caplog: pytest.LogCaptureFixture, answer: Any, outcome: Outcome
) -> None:
    http_receiver.answers = [answer]
    assert opened(http_receiver.exporter(timeout=0.5)).send(payload, 3) == outcome
    assert caplog.records == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    ],
)
def test_grpc_failures(
    grpc_receiver: Any, payload: bytes, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode, name: str
) -> None:
    grpc_receiver.answers = [abort(code, "because")]
    transport = opened(grpc_receiver.exporter(timeout=0.5))
    assert transport.send(payload, 3) == Outcome(name, "because")
    assert caplog.records == []
    transport.shutdown()


def test_a_connection_closed_inside_the_answer(http_receiver: Any, payload: bytes) -> None:
    http_receiver.answers = ["close"]
    outcome = opened(http_receiver.exporter(timeout=0.5)).send(payload, 3)
    assert outcome.cause == "IncompleteRead"
    assert opened(http_receiver.exporter()).send(payload, 3) == Outcome()


def test_a_slow_endpoint_runs_into_the_timeout(http_receiver: Any, payload: bytes) -> None:
    http_receiver.answers = [0.6, 0.6]
    started = time.monotonic()
    outcome = opened(http_receiver.exporter(timeout=0.1)).send(payload, 3)
    assert outcome.cause in {"TimeoutError", "timeout"}
    assert time.monotonic() - started < 0.5


def test_a_slow_grpc_endpoint_runs_into_the_timeout(grpc_receiver: Any, payload: bytes) -> None:
    grpc_receiver.answers = [lambda context: time.sleep(0.3) or b""]
    transport = opened(grpc_receiver.exporter(timeout=0.1))
    assert transport.send(payload, 3).cause == "DEADLINE_EXCEEDED"
    transport.shutdown()


def test_a_dead_port_gives_one_warning(
    dead_port: int, make_sink: MakeSink, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    exporters = {
        "UNAVAILABLE": GrpcExporter(endpoint=f"http://127.0.0.1:{dead_port}", timeout=0.5),
        "ConnectionRefusedError": HttpExporter(endpoint=f"http://127.0.0.1:{dead_port}/v1/traces", timeout=0.5),
    }
    for cause, exporter in exporters.items():
        caplog.clear()
        sink = make_sink(exporter, max_batch=2)
        with caplog.at_level(logging.DEBUG, "opentelemetry"), caplog.at_level(logging.INFO, "ascend_opentelemetry"):
            sink.write(steps(6))
            assert not sink.flush(5)
        assert (sink.exported, sink.dropped) == (0, {"export_failed": 6})
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.message.startswith(f"Cannot export spans to {exporter._endpoint}: {cause} (")
        assert str(dead_port) in record.message
        assert "OTEL_TRACES_EXPORTER=none" in record.message


def test_the_end_of_a_collector_and_its_return(
    make_sink: MakeSink, steps: Steps, caplog: pytest.LogCaptureFixture, grpc_receiver: Any
) -> None:
    sink = make_sink(grpc_receiver.exporter(timeout=0.5))
    grpc_receiver.answers = [None, abort(grpc.StatusCode.UNAVAILABLE, "gone")]
    with caplog.at_level(logging.INFO, "ascend_opentelemetry"):
        for expected in (True, False, True):
            sink.write(steps(4))
            assert sink.flush(2) is expected
    assert (sink.exported, sink.dropped) == (8, {"export_failed": 4})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[1].message == f"Spans reach {grpc_receiver.exporter()._endpoint} again; 4 were lost."


def test_other_users_of_the_exporters_still_log(
    dead_port: int, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = f"http://127.0.0.1:{dead_port}/v1/traces"
    assert opened(HttpExporter(endpoint=endpoint, timeout=0.1)).send(payload, 3).cause == "ConnectionRefusedError"
    assert caplog.records == []
    HttpExporter(endpoint=endpoint, timeout=0.1).export([])
    assert [record.name for record in caplog.records] == ["opentelemetry.exporter.otlp.proto.http.trace_exporter"]


def test_shutdown_ends_a_retry(http_receiver: Any, make_sink: MakeSink, steps: Steps, wait_for: WaitFor) -> None:
    http_receiver.answers = [(503, {"Retry-After": "5"}, b"")]
    sink = make_sink(http_receiver.exporter(timeout=20))
    sink.write(steps(2))
    sink.request_flush()
    wait_for(lambda: http_receiver.requests)
    started = time.monotonic()
    sink.shutdown(0.05)
    assert time.monotonic() - started < 0.5
    assert (sink.exported, sink.dropped) == (0, {"shutdown": 2})


@pytest.mark.parametrize("exporter", [InMemorySpanExporter(), ConsoleSpanExporter(), object()])
def test_other_exporters_have_no_transport_for_bytes(exporter: Any) -> None:
    assert open_transport(exporter) is None


def test_an_exporter_of_unknown_make_gets_spans(receiver: Any, make_sink: MakeSink, steps: Steps) -> None:
    exporter = receiver.exporter()
    if isinstance(exporter, GrpcExporter):
        exporter._channel_options_ = exporter.__dict__.pop("_channel_options")
    else:

        class Other(HttpExporter):
            def export(self, spans: Any) -> Any:
                return super().export(spans)

        exporter.__class__ = Other
    assert open_transport(exporter) is None
    sink = make_sink(exporter, max_batch=2)
    sink.write(steps(3))
    assert sink.flush(2)
    assert (sink.exported, sink.dropped) == (3, {})
    assert receiver.names() == ["engine.step"] * 3
    assert [len(request.resource_spans[0].scope_spans[0].spans) for request in receiver.requests] == [2, 1]


def test_an_exporter_in_memory(make_sink: MakeSink, steps: Steps) -> None:
    exporter = InMemorySpanExporter()
    sink = make_sink(exporter)
    sink.write(steps(2))
    assert sink.flush(2)
    assert [span.attributes for span in exporter.get_finished_spans()] == [{"batch": 1}, {"batch": 2}]


def test_a_request_larger_than_the_exporter_allows(http_receiver: Any, payload: bytes) -> None:
    try:
        exporter = http_receiver.exporter(max_request_size=10)
    except TypeError:
        pytest.skip("this SDK has no limit")
    outcome = opened(exporter).send(payload, 3)
    assert outcome.cause == "not sent"
    assert "exceeds max_request_size 10 bytes" in outcome.detail
    assert http_receiver.requests == []


def test_the_metrics_of_the_exporter_count_spans(
    receiver: Any, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    try:
        exporter = receiver.exporter(meter_provider=MeterProvider([reader]))
    except TypeError:
        pytest.skip("this SDK has no exporter metrics")
    transport = opened(exporter)
    transport.send(payload, 3)
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        metric.name: metric.data.data_points[0]
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert points["otel.sdk.exporter.span.exported"].value == 3
    transport.shutdown()
