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

from ascend_opentelemetry.native import MsServiceProfilerSpanExporter


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
    span = provider.get_tracer("ascend_opentelemetry.Execute").start_span("forward", start_time=start)
    span.set_attributes({"rid": "r", "sizes": [1, 2], "status": "x", "queue=": 1.5, "ok": True})
    span.end(end_time=start + 100)
    pid, tid = os.getpid(), threading.get_native_id()
    args = '{"type": 2, "rid": "r", "sizes": [1, 2], "status_": "x", "queue=_": 1.5, "ok": true}'
    assert profile.rows("SELECT * FROM slice") == [
        (1, start, 100, "forward", 0, tid, "Execute", args, "", start + 100, "", pid, tid)
    ]
    assert profile.rows("SELECT thread_name FROM thread") == [f"Execute({tid})"]


def test_foreign_scope_and_odd_names(provider: TracerProvider, profile: Any) -> None:
    provider.get_tracer("vllm.engine").start_span("a\ud800").end()
    assert profile.rows("SELECT cat, name, args FROM slice") == [("vllm.engine", "a?", '{"type": 2}')]


def test_domain_filter(exporter: MsServiceProfilerSpanExporter, provider: TracerProvider, profile: Any) -> None:
    for enable in (0, 1):
        profile.config(enable, domain="Request")
        look(exporter)
        exporter.export([])
    for scope in ("ascend_opentelemetry.Engine", "ascend_opentelemetry.Execute"):
        provider.get_tracer(scope).start_span(scope[-3:]).end()
    assert profile.rows() == ["ine"]


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
