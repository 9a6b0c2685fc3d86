from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExportResult

from ascend_opentelemetry.native import NativeState
from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.recorder import RecordType
from ascend_opentelemetry.status import ExporterStatus, describe_native, mode_of
from devtools.otlp_receiver import OtlpReceiver

SPAN = (RecordType("Test", "call"), 1, 2, 3, (1, 2, 0, 1), (), None)


def open_sink(exporter: Any) -> OtlpSink:
    return OtlpSink(exporter, Resource.get_empty())


@pytest.mark.parametrize(
    ("exporter", "endpoint", "protocol"),
    [
        (lambda: GrpcExporter(endpoint="http://me:secret@localhost:1"), "localhost:1", "grpc"),
        (
            lambda: HttpExporter(endpoint="http://me:secret@localhost:1/v1/traces?token=secret"),
            "http://localhost:1/v1/traces",
            "http/protobuf",
        ),
        (ConsoleSpanExporter, "ConsoleSpanExporter", "ConsoleSpanExporter"),
    ],
)
def test_where_an_exporter_sends_to_without_secrets(exporter, endpoint, protocol) -> None:
    sink = open_sink(exporter())
    assert ExporterStatus(sink).describe() == {
        "endpoint": endpoint,
        "protocol": protocol,
        "exported": 0,
        "dropped": {},
        "last_success": None,
        "last_error": None,
    }
    sink.shutdown(0)


def test_success_and_failure_of_the_last_attempt(tmp_path) -> None:
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        sink = open_sink(HttpExporter(endpoint=f"{receiver.http_endpoint}/v1/traces", timeout=5))
        status = ExporterStatus(sink)
        before = time.time()
        sink.write([SPAN])
        assert sink.flush(5)
        good = status.describe()
        receiver.http_status = 401
        sink.write([SPAN])
        assert not sink.flush(5)
        bad = status.describe()
        receiver.http_status = 200
        sink.write([SPAN, SPAN])
        assert sink.flush(5)
        again = status.describe()
        sink.shutdown(1)
    assert (good["exported"], good["dropped"], good["last_error"]) == (1, {}, None)
    assert isinstance(good["last_success"], float)
    assert before - 0.001 <= good["last_success"] <= time.time()
    assert (bad["exported"], bad["dropped"], bad["last_error"]) == (1, {"export_failed": 1}, "401")
    assert bad["last_success"] == good["last_success"]
    assert (again["exported"], again["last_error"]) == (3, None)


class Broken(ConsoleSpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.FAILURE


def test_an_exporter_that_does_not_say_why_it_failed() -> None:
    sink = open_sink(Broken())
    status = ExporterStatus(sink)
    sink.write([SPAN])
    assert not sink.flush(5)
    assert status.describe()["last_error"] == "not sent"
    sink.shutdown(0)


def test_a_forked_child_has_not_exported_yet() -> None:
    sink = SimpleNamespace(exported=2, dropped={}, endpoint="localhost:1", protocol="grpc", last_error="")
    status = ExporterStatus(sink)
    assert status.describe()["last_success"] is not None
    sink.exported = 0
    assert status.describe()["last_success"] is None


@pytest.mark.parametrize(
    ("exporters", "traces", "native", "mode"),
    [
        (True, True, True, "own"),
        (False, True, True, "bridge"),
        (False, False, True, "native"),
        (False, False, False, "none"),
    ],
)
def test_the_mode(exporters, traces, native, mode) -> None:
    assert mode_of(exporters, traces, native) == mode


@pytest.mark.parametrize("file", [Path("/prof/ms_service_x.db"), None])
def test_native_files(file) -> None:
    assert describe_native(NativeState(Path("/config.json"), True, file, 3, {"disk": 1})) == {
        "config": "/config.json",
        "enabled": True,
        "file": None if file is None else "/prof/ms_service_x.db",
        "written": 3,
        "dropped": {"disk": 1},
    }
