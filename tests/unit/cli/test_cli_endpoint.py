"""A test span to real servers: what becomes of it, and how that is explained."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import certifi
import grpc
import pytest

from ascend_opentelemetry.cli import _probe
from ascend_opentelemetry.cli._endpoint import Answer, as_protocol, protocol_of, send_test_span
from ascend_opentelemetry.cli._explain import explain
from ascend_opentelemetry.cli._finding import Finding
from ascend_opentelemetry.cli._probe import Probe, probe
from devtools.otlp_receiver import OtlpReceiver

GRPC, HTTP = "grpc", "http/protobuf"
CERTIFICATE = "OTEL_EXPORTER_OTLP_CERTIFICATE"


class Certificate(NamedTuple):
    file: Path
    key: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of localhost, signed by itself."""
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-out", made.file, "-keyout", made.key,
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        yield receiver


@pytest.fixture
def https(certificate: Certificate) -> Iterator[str]:
    """Address of an HTTP server with TLS, which takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Server(("localhost", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def grpcs(certificate: Certificate) -> Iterator[str]:
    """Address of a gRPC server with TLS that has no service."""
    server = grpc.server(ThreadPoolExecutor(2))
    credentials = grpc.ssl_server_credentials([(certificate.key.read_bytes(), certificate.file.read_bytes())])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of somebody who listens and never answers."""
    monkeypatch.setattr(_probe, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def finding(protocol: str, endpoint: str | None = None) -> Finding:
    name = as_protocol(protocol)
    assert name is not None
    found = explain(send_test_span(name, endpoint))
    assert found is not None
    return found


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_the_span_arrives(receiver, protocol) -> None:
    os.environ["OTEL_SERVICE_NAME"] = "mine"
    endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
    answer = send_test_span(protocol, endpoint)
    assert (answer.cause, answer.detail, answer.rejected, answer.tls, answer.protocol) == ("", "", 0, False, protocol)
    assert explain(answer) is None
    (span,) = receiver.spans()
    assert (span.name, span.resource["service.name"]) == ("ascend-otel doctor", "mine")
    assert receiver.received == {"traces": 1}


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_the_variables_say_where_to(receiver, protocol) -> None:
    endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = endpoint + ("" if protocol == GRPC else "/v1/traces")
    assert explain(send_test_span(protocol)) is None
    assert [span.resource["service.name"] for span in receiver.spans()] == ["vllm"]


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_one_attempt_is_made(receiver, protocol) -> None:
    receiver.http_status, receiver.grpc_status = 503, "UNAVAILABLE"
    send_test_span(protocol, receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint)
    assert receiver.refused == {"traces": 1}


def test_a_rejected_span(receiver) -> None:
    receiver.rejected = (1, "no room")
    assert explain(send_test_span(GRPC, receiver.grpc_endpoint)) == (
        "warning",
        f"{receiver.grpc_endpoint.removeprefix('http://')} takes requests, but rejected the test span: no room",
        "See its log.",
    )


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_nothing_listens(nobody, protocol) -> None:
    assert finding(protocol, f"http://{nobody}") == (
        "error",
        f"nothing listens at {nobody}: connection refused",
        "Start a collector there, or name another one in OTEL_EXPORTER_OTLP_ENDPOINT.",
    )


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_host_that_does_not_exist(protocol) -> None:
    cause = finding(protocol, "http://no-such-host.invalid:4317").cause
    assert cause == "nothing listens at no-such-host.invalid:4317: the name is not known"


def test_http_to_a_grpc_port(receiver) -> None:
    where = receiver.grpc_endpoint.removeprefix("http://")
    assert finding(HTTP, receiver.grpc_endpoint) == (
        "error",
        f"{where} is a gRPC port (HTTP/2), and the protocol is http/protobuf",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or name the HTTP port (usually 4318).",
    )


def test_grpc_to_an_http_port(receiver) -> None:
    where = receiver.http_endpoint.removeprefix("http://")
    assert finding(GRPC, receiver.http_endpoint) == (
        "error",
        f"{where} is no gRPC port: it speaks HTTP/1, and the protocol is grpc",
        "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or name the gRPC port (usually 4317).",
    )


def test_a_path_without_v1_traces(receiver) -> None:
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = receiver.http_endpoint
    severity, cause, action = finding(HTTP)
    assert (severity, cause) == (
        "error",
        f"/v1/traces is missing in the path of {receiver.http_endpoint}: 404 (Not Found)",
    )
    assert action.startswith("Append /v1/traces to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def test_another_web_server(receiver) -> None:
    receiver.http_status = 404
    assert finding(HTTP, receiver.http_endpoint).cause == (
        f"{receiver.http_endpoint}/v1/traces is no OTLP endpoint: 404 (Not Found)"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_missing_over_http(receiver, status) -> None:
    receiver.http_status = status
    severity, cause, action = finding(HTTP, receiver.http_endpoint)
    assert severity == "error"
    assert cause.startswith(f"{receiver.http_endpoint}/v1/traces does not let us in: {status} (")
    assert action.endswith("OTEL_EXPORTER_OTLP_HEADERS.")


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_credentials_that_are_missing_over_grpc(receiver, status) -> None:
    receiver.grpc_status = status
    where = receiver.grpc_endpoint.removeprefix("http://")
    assert finding(GRPC, receiver.grpc_endpoint).cause == f"{where} does not let us in: {status} (injected by the test)"


def test_a_grpc_server_without_otlp(receiver) -> None:
    receiver.grpc_status = "UNIMPLEMENTED"
    severity, cause, _ = finding(GRPC, receiver.grpc_endpoint)
    where = receiver.grpc_endpoint.removeprefix("http://")
    assert (severity, cause) == (
        "error",
        f"{where} speaks HTTP/2, but takes no OTLP traces over gRPC: UNIMPLEMENTED (injected by the test)",
    )


def test_a_busy_collector_is_a_warning(receiver) -> None:
    receiver.http_status = 429
    severity, cause, _ = finding(HTTP, receiver.http_endpoint)
    assert (severity, cause.partition(": ")[0]) == ("warning", f"{receiver.http_endpoint}/v1/traces is too busy")


@pytest.mark.parametrize(("protocol", "server"), [(GRPC, "grpcs"), (HTTP, "https"), (GRPC, "https"), (HTTP, "grpcs")])
def test_plain_to_a_server_with_tls(request, protocol, server) -> None:
    where = request.getfixturevalue(server)
    assert finding(protocol, f"http://{where}") == (
        "error",
        f"TLS mismatch: {where} speaks TLS, and the endpoint has it spoken to without",
        "Write https:// in the endpoint, and name the issuer of its certificate in OTEL_EXPORTER_OTLP_CERTIFICATE.",
    )


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
@pytest.mark.parametrize("port", [GRPC, HTTP])
def test_tls_to_a_plain_server(receiver, protocol, port) -> None:
    where = (receiver.grpc_endpoint if port == GRPC else receiver.http_endpoint).removeprefix("http://")
    assert finding(protocol, f"https://{where}") == (
        "error",
        f"TLS mismatch: {where} does not speak TLS, and the endpoint has it spoken to by TLS",
        "Write http:// in the endpoint.",
    )


@pytest.mark.parametrize(("protocol", "server"), [(GRPC, "grpcs"), (HTTP, "https")])
def test_a_certificate_that_is_not_trusted(request, protocol, server) -> None:
    where = request.getfixturevalue(server)
    severity, cause, action = finding(protocol, f"https://{where}")
    assert severity == "error"
    assert cause.startswith(f"TLS mismatch: the certificate of {where} is not trusted: self")
    assert action == "Name the file of its issuer's certificate in OTEL_EXPORTER_OTLP_CERTIFICATE."


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"])
def test_a_certificate_that_is_named_is_trusted(https, certificate, variable) -> None:
    os.environ[variable] = str(certificate.file)
    assert explain(send_test_span(HTTP, f"https://{https}")) is None


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_takes_the_place_of_the_certificate(https, certificate, variable) -> None:
    os.environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(certificate.file)
    os.environ[variable] = certifi.where()
    answer = send_test_span(HTTP, f"https://{https}")
    if not answer.cause:
        pytest.skip("with this version of the exporter its certificate wins")
    assert explain(answer) == (
        "error",
        f"TLS mismatch: the certificate of {https} is not trusted: {variable} takes the place of {CERTIFICATE}",
        f"Unset {variable} for the service, or add the issuer's certificate to its file.",
    )


def test_grpc_to_https_with_a_certificate_that_is_trusted(https, certificate) -> None:
    os.environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(certificate.file)
    assert finding(GRPC, f"https://{https}").cause == (
        f"{https} is no gRPC port: it speaks HTTP/1, and the protocol is grpc"
    )


def test_a_port_that_never_answers(silent) -> None:
    severity, cause, _ = finding(HTTP, f"http://{silent}")
    assert severity == "error"
    assert cause.startswith(f"somebody listens at {silent}, but does not answer within 3 s: ")


def test_http_without_a_scheme() -> None:
    severity, cause, action = finding(HTTP, "localhost:4318")
    assert severity == "error"
    assert cause.startswith("localhost:4318/v1/traces is no URL: ")
    assert action == "Write http:// or https:// in OTEL_EXPORTER_OTLP_ENDPOINT."


def test_a_user_in_a_grpc_endpoint(receiver) -> None:
    where = receiver.grpc_endpoint.removeprefix("http://")
    assert finding(GRPC, f"http://me:secret@{where}") == (
        "error",
        f"the endpoint {where} has a user or password, which gRPC takes for a part of the host's name",
        "Put the credentials into OTEL_EXPORTER_OTLP_HEADERS.",
    )


@pytest.mark.parametrize("scheme", ["http", "htp"])
def test_secrets_of_the_endpoint_are_not_said(nobody, scheme) -> None:
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{scheme}://me:secret@{nobody}/v1/traces?token=secret"
    answer = send_test_span(HTTP)
    assert answer.cause
    assert "secret" not in answer.detail
    assert "secret" not in repr(explain(answer))


@pytest.mark.parametrize(
    ("env", "protocol"),
    [
        ({}, GRPC),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}, HTTP),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": GRPC}, GRPC),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": ""}, GRPC),
    ],
)
def test_the_protocol_of_the_variables(env, protocol) -> None:
    assert protocol_of(env) == protocol


def test_protocols_that_the_exporters_speak() -> None:
    assert [as_protocol(text) for text in (GRPC, HTTP, "http/json")] == [GRPC, HTTP, None]


@pytest.mark.parametrize(
    ("endpoint", "protocol", "tls", "address"),
    [
        ("localhost:4317", GRPC, False, ("localhost", 4317)),
        ("http://[::1]:4318/v1/traces", HTTP, False, ("::1", 4318)),
        ("http://host/v1/traces", HTTP, False, ("host", 80)),
        ("https://host/v1/traces", HTTP, True, ("host", 443)),
        ("http://host:port", HTTP, False, None),
        ("http://", HTTP, False, None),
    ],
)
def test_the_address_of_an_endpoint(endpoint, protocol, tls, address) -> None:
    assert Answer(endpoint, protocol, tls, "x", "", 0, 0.0).address == address


def test_probes(receiver, https, grpcs, silent, certificate) -> None:
    def look(where: str, http2: bool = False, ca_file: Path | None = None) -> Probe:
        host, _, port = where.removeprefix("http://").rpartition(":")
        return probe(host, int(port), http2=http2, ca_file=str(ca_file) if ca_file else None)

    assert look(receiver.http_endpoint) == Probe(spoken="HTTP/1")
    assert look(receiver.grpc_endpoint) == Probe(spoken="HTTP/2")
    assert look(https, ca_file=certificate.file) == Probe(tls=True, spoken="HTTP/1")
    assert look(grpcs, http2=True, ca_file=certificate.file) == Probe(tls=True, spoken="HTTP/2")
    assert look(https).untrusted.startswith("self")
    assert look(https, ca_file=certificate.key).untrusted != ""
    assert look(silent) == Probe()
