from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource

from ascend_opentelemetry._endpoint import hide_secrets, without_secrets
from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.otlp._report import ExportReport
from ascend_opentelemetry.recorder import RecordType

SPAN: Any = (RecordType("Test", "call"), 1, 2, 3, (1, 2, 0, 1), (), None)


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("localhost:4317", "localhost:4317"),
        ("me:secret@localhost:4317", "localhost:4317"),
        ("https://me:secret@host:4318/v1/traces?key=secret#secret", "https://host:4318/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318"),
        ("ConsoleSpanExporter", "ConsoleSpanExporter"),
        ("http://me:secret@[collector]:4318/v1/traces?key=secret", "[collector]:4318/v1/traces"),
    ],
)
def test_an_endpoint_without_secrets(endpoint, shown) -> None:
    assert without_secrets(endpoint) == shown


@pytest.mark.parametrize(
    ("endpoint", "text", "shown"),
    [
        ("me:secret@localhost:1", "cannot connect to me:secret@localhost:1", "cannot connect to localhost:1"),
        ("http://host:1/v1/traces?key=secret", "no /v1/traces?key=secret there", "no /v1/traces there"),
        ("http://host:1/v1/traces", "refused", "refused"),
        ("http://me:p%40ss@host:1", "errors resolving me:p@ss@host:1", "errors resolving host:1"),
        ("http://me:secret@[x]:1", "no http://me:secret@[x]:1", "no [x]:1"),
    ],
)
def test_a_message_without_secrets(endpoint: str, text: str, shown: str) -> None:
    assert hide_secrets(text, endpoint) == shown


@pytest.mark.parametrize(
    "exporter",
    [
        lambda: GrpcExporter(endpoint="http://me:secret@127.0.0.1:1", insecure=True, timeout=1),
        lambda: HttpExporter(endpoint="http://me:secret@127.0.0.1:1/v1/traces?token=secret", timeout=1),
    ],
    ids=["grpc", "http"],
)
def test_a_failed_export_tells_no_password(exporter: Any, caplog: pytest.LogCaptureFixture) -> None:
    sink = OtlpSink(exporter(), Resource.get_empty())
    sink.write([SPAN])
    sink.shutdown(5)
    assert "Cannot export spans to " in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("cause", "detail", "advice"),
    [
        ("UNAVAILABLE", "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("UNAVAILABLE", "Connection refused", "OTEL_TRACES_EXPORTER=none"),
    ],
)
def test_advice_for_one_status_depends_on_what_is_behind_it(
    cause: str, detail: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ExportReport("localhost:1").lost(cause, detail, 1)
    assert advice in caplog.text
