"""Headers, TLS and timeouts of the standard variables, at servers that tell what they were sent."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

SCRIPT = "from fake_vllm.engine import Engine; Engine('x').step([4])"
TIMED = """
import time
from opentelemetry import trace
from fake_vllm.engine import Engine
Engine('x').step([4])
start = time.monotonic()
trace.get_tracer_provider().force_flush(15000)
print(time.monotonic() - start)
"""
NAMES = ["engineStep", "program", "scale"]


class Server:
    """Keeps the headers and the span names of each request, by HTTP (``http``) and by gRPC (``grpc``).

    Args:
        certificate: PEM files of a certificate and its key; None for plain connections.
    """

    def __init__(self, certificate: tuple[Path, Path] | None) -> None:
        self.headers: list[dict[str, str]] = []
        self.names: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                server.keep(headers, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        if certificate is None:
            port = self._grpc.add_insecure_port("127.0.0.1:0")
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            pair = (certificate[1].read_bytes(), certificate[0].read_bytes())
            port = self._grpc.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        scheme = "http" if certificate is None else "https"
        self.endpoints = {
            "grpc": f"{scheme}://127.0.0.1:{port}",
            "http/protobuf": f"{scheme}://127.0.0.1:{self._http.server_address[1]}",
        }
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._grpc.start()

    def keep(self, headers: dict[str, str], request: Any) -> None:
        self.headers.append(headers)
        self.names += [
            span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]

    def _export(self, request: Any, context: Any) -> Any:
        self.keep(dict(context.invocation_metadata()), request)
        return ExportTraceServiceResponse()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(None)
    yield server
    server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    pem, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem, key


@pytest.fixture
def tls_server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    server = Server(certificate)
    yield server
    server.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OTEL_EXPORTER_OTLP_HEADERS": "x-token=a%20b,x-team=one"}, {"x-token": "a b", "x-team": "one"}),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "x-token=general", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-token=traces"},
            {"x-token": "traces", "x-team": None},
        ),
    ],
)
def test_headers(program, server, protocol, variables, expected) -> None:
    program.export_to(server.endpoints[protocol])
    done = program.run("-c", SCRIPT, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **variables)
    assert (done.code, done.warnings, sorted(server.names)) == (0, [], NAMES)
    (headers,) = server.headers
    assert {name: headers.get(name) for name in expected} == expected
    assert headers["user-agent"].startswith("OTel-OTLP-Exporter-Python/")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"])
def test_certificate(program, tls_server, certificate, protocol, variable) -> None:
    program.export_to(tls_server.endpoints[protocol])
    done = program.run("-c", SCRIPT, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **{variable: str(certificate[0])})
    assert (done.code, done.warnings, sorted(tls_server.names)) == (0, [], NAMES)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_without_the_certificate_the_endpoint_is_not_trusted(program, tls_server, protocol) -> None:
    program.export_to(tls_server.endpoints[protocol])
    done = program.run("-c", SCRIPT, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_EXPORTER_OTLP_TIMEOUT="2")
    assert (done.code, tls_server.names) == (0, [])
    (said,) = [line for line in done.warnings if line.startswith("Cannot export spans to ")]
    assert tls_server.endpoints[protocol].removeprefix("https://") in said
    assert "CERTIFICATE_VERIFY_FAILED" in said


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"])
def test_a_request_that_takes_longer_than_the_timeout_is_given_up(program, receiver, protocol, variable) -> None:
    receiver.delay = 20
    program.export_to(receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint)
    done = program.run("-c", TIMED, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **{variable: "1"})
    assert done.code == 0
    assert 0.8 < float(done.out) < 8
    (said,) = [line for line in done.warnings if line.startswith("Cannot export spans to ")]
    assert {"grpc": "DEADLINE_EXCEEDED", "http/protobuf": "imed out"}[protocol] in said
