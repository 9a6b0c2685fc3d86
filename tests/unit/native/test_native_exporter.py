from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from ascend_opentelemetry.native import MsServiceProfilerSpanExporter, NativeSink
from ascend_opentelemetry.recorder._record import RecordType


@pytest.fixture
def exporter(profile: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MsServiceProfilerSpanExporter]:
    profile.config()
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", str(profile.path))
    exporter = MsServiceProfilerSpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.fixture
def provider(exporter: MsServiceProfilerSpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def look(exporter: MsServiceProfilerSpanExporter) -> None:
    """Let the next export look at the config file whatever the clock says."""
    assert exporter._window is not None
    exporter._window._due = 0.0


def test_span_becomes_a_row(provider: TracerProvider, profile: Any) -> None:
    start = time.time_ns()
    span = provider.get_tracer("model.Execute").start_span("layer", start_time=start)
    span.set_attributes({"rid": "r", "sizes": [1, 2], "status": "x", "queue=": 1.5, "ok": True})
    span.end(end_time=start + 100)
    pid, tid = os.getpid(), threading.get_native_id()
    args = '{"type": 2, "rid": "r", "sizes": [1, 2], "status_": "x", "queue=_": 1.5, "ok": true}'
    assert profile.rows("SELECT * FROM slice") == [
        (1, start, 100, "layer", 0, tid, "model.Execute", args, "", start + 100, "", pid, tid)
    ]
    assert profile.rows("SELECT thread_name FROM thread") == [f"model.Execute({tid})"]


def test_odd_names_and_names_that_end_the_analysis(provider: TracerProvider, profile: Any) -> None:
    for name in ("a\ud800", "batchFrameworkProcessing", "BatchSchedule", ""):
        provider.get_tracer("vllm.engine").start_span(name).end()
    assert profile.rows("SELECT cat, name, args FROM slice") == [
        ("vllm.engine", name, '{"type": 2}') for name in ("a?", "batchFrameworkProcessing_", "BatchSchedule_", "")
    ]


def test_what_the_hooks_write_themselves_is_left_out(provider: TracerProvider, profile: Any) -> None:
    for scope in ("ascend_opentelemetry", "ascend_opentelemetry.Execute", "ascend_opentelemetry_of_others", ""):
        provider.get_tracer(scope).start_span(f"in {scope}").end()
    assert profile.rows("SELECT cat, name FROM slice") == [
        ("ascend_opentelemetry_of_others", "in ascend_opentelemetry_of_others"),
        ("", "in "),
    ]


def test_exporter_and_sink_share_a_file(provider: TracerProvider, profile: Any) -> None:
    sink = NativeSink(str(profile.path), on_change=profile.changes.append)
    profile.sink = sink
    provider.get_tracer("x").start_span("span").end()
    profile.record(RecordType("Engine", "record"))
    sink.commit()
    provider.get_tracer("x").start_span("late").end()
    sink.shutdown(1)
    provider.get_tracer("x").start_span("last").end()
    [file] = profile.files
    assert profile.rows(file=file) == ["span", "record", "late", "last"]
    assert profile.rows("PRAGMA integrity_check") == ["ok"]


def test_domain_filter(exporter: MsServiceProfilerSpanExporter, provider: TracerProvider, profile: Any) -> None:
    for enable in (0, 1):
        profile.config(enable, domain="Request")
        look(exporter)
        exporter.export([])
    for scope in ("Engine", "Execute"):
        provider.get_tracer(scope).start_span(f"in {scope}").end()
    assert profile.rows() == ["in Engine"]


def test_span_counts_when_it_ended_before_the_window_closed(
    exporter: MsServiceProfilerSpanExporter, profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = TracerProvider().get_tracer("x")
    early, late = tracer.start_span("early"), tracer.start_span("late")
    early.end()
    time.sleep(0.02)
    profile.config(0)
    time.sleep(0.02)
    late.end()
    look(exporter)
    assert exporter.export([early, late]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    assert profile.rows() == ["early"]
    assert exporter.export([early]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    assert profile.rows() == ["early"]


def test_failure_is_told(exporter: MsServiceProfilerSpanExporter, profile: Any) -> None:
    (profile.folder / "prof").touch()
    span = TracerProvider().get_tracer("x").start_span("a")
    span.end()
    assert exporter.export([span]) is SpanExportResult.FAILURE  # type: ignore[list-item]


def test_forked_child_writes_its_own_file(provider: TracerProvider, profile: Any) -> None:
    provider.get_tracer("x").start_span("parent").end()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            provider.get_tracer("x").start_span("child").end()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    by_pid = {int(path.stem.rpartition("-")[2]): path for path in profile.files}
    assert profile.rows(file=by_pid[os.getpid()]) == ["parent"]
    assert profile.rows(file=by_pid[child]) == ["child"]


def test_without_the_variable_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SERVICE_PROF_CONFIG_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    exporter = MsServiceProfilerSpanExporter()
    span = TracerProvider().get_tracer("x").start_span("a")
    span.end()
    assert exporter.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    assert exporter.force_flush()
    exporter.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_entry_point() -> None:
    [found] = entry_points(group="opentelemetry_traces_exporter", name="ms_service_profiler")
    assert found.load() is MsServiceProfilerSpanExporter
