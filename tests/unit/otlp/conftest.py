"""Receivers of OTLP requests on loopback, and records to send."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.recorder._record import Record, RecordType


class Receiver:
    """Requests that came, and what to answer to the next ones (``answers``, then success)."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.port = 0

    def names(self) -> list[str]:
        return [
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def take(self, body: bytes, headers: dict[str, Any]) -> Any:
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        self.headers.append(headers)
        return self.answers.pop(0) if self.answers else None


class HttpReceiver(Receiver):
    """An answer is ``(status, headers, body)``, a number of seconds to wait first, or ``"close"``."""

    def __init__(self) -> None:
        super().__init__()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = receiver.take(body, {**self.headers, ":path": self.path, ":peer": self.client_address[1]})
                if answer == "close":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
                    self.close_connection = True
                    return
                if isinstance(answer, float):
                    time.sleep(answer)
                    answer = None
                status, headers, content = answer or (200, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """An exporter that gave up while it waited; its traceback would stand in the output of a later test."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def exporter(self, **options: Any) -> HttpExporter:
        return HttpExporter(endpoint=f"http://127.0.0.1:{self.port}/v1/traces", **options)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class GrpcReceiver(Receiver):
    """An answer is a callable that takes the ``ServicerContext`` and returns the response's bytes, or bytes."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            answer = self.take(body, {**dict(context.invocation_metadata()), ":peer": context.peer()})
            return answer(context) if callable(answer) else answer or b""

        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.trace.v1.TraceService",
            {"Export": grpc.unary_unary_rpc_method_handler(export)},
        )
        self.server.add_generic_rpc_handlers((handler,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def exporter(self, **options: Any) -> GrpcExporter:
        return GrpcExporter(endpoint=f"http://127.0.0.1:{self.port}", **options)

    def stop(self) -> None:
        self.server.stop(0)


@pytest.fixture
def http_receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def grpc_receiver() -> Iterator[GrpcReceiver]:
    receiver = GrpcReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture(params=["grpc", "http"])
def receiver(request: pytest.FixtureRequest) -> Receiver:
    return request.getfixturevalue(f"{request.param}_receiver")


@pytest.fixture(autouse=True)
def _standard_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def resource() -> Resource:
    return Resource({"service.name": "vllm", "process.pid": 7})


@pytest.fixture
def make_sink(resource: Resource) -> Iterator[Callable[..., OtlpSink]]:
    """Makes sinks that are shut down at the end."""
    sinks: list[OtlpSink] = []

    def make(exporter: Any, **options: Any) -> OtlpSink:
        sinks.append(OtlpSink(exporter, resource, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.shutdown(0.1)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any]], None]:
    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "waited for 5 s"
            time.sleep(0.002)

    return wait


STEP = RecordType("step", "engine.step", ("batch",))


@pytest.fixture
def steps() -> Callable[..., list[Record]]:
    """Makes ``count`` records of a step."""

    def make(count: int, first: int = 1) -> list[Record]:
        return [(STEP, 1000, 2000, 1, (5, number, 0, 1), (number,), None) for number in range(first, first + count)]

    return make
