"""The sampler of ``host_system_usage_freq``: who samples, when, and what becomes of it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ascend_opentelemetry._runtime import _make_sources
from ascend_opentelemetry.host import HostSource
from ascend_opentelemetry.host._metrics import HostMetrics, host_metrics
from ascend_opentelemetry.host._source import HOST_TYPE
from ascend_opentelemetry.native import NativeSink, ProfileConfig
from ascend_opentelemetry.recorder import Recorder
from tests.support.analyzer import run_analyzer
from tests.support.contract import check
from tests.support.contract.example import API_DB, build_service
from tests.unit.host.conftest import until, window
from tests.unit.recorder.test_recorder_fork import in_child

THREAD = "ascend-otel-host"


def samplers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.fixture
def metrics(provider: Any) -> HostMetrics:
    return HostMetrics(provider)


@pytest.fixture
def source(metrics: HostMetrics) -> Any:
    source = HostSource(metrics)
    source.start(leader=True)
    yield source
    source.shutdown(5)
    assert samplers() == []


def test_samples_are_records_of_memory_and_cpu_shares(source, recorder) -> None:
    begin = time.time_ns()
    source.open(window(50))
    until(lambda: any(len(record[5]) == 2 for record in list(recorder.queue)))
    source.close()
    records = list(recorder.queue)
    # the first one has nothing to compare CPU times with
    assert [name for name, _ in records[0][5]] == ["Memory Usage"]
    for record_type, start, end, ident, ids, values, extra in records:
        assert (record_type, ids, extra) == (HOST_TYPE, None, None)
        assert begin <= start == end <= time.time_ns()
        assert ident != threading.get_ident()
        assert {name for name, _ in values} <= {"Memory Usage", "CPU Usage"}
        assert all(0 <= share <= 1 for _, share in values)
    assert source.describe() == {"usable": True, "samples": len(records), "missed": source._sampler.ticker.missed}


@pytest.mark.parametrize(("leader", "hertz"), [(False, 50), (True, -1)])
def test_nobody_samples_who_is_not_asked(leader, hertz, metrics, recorder, reader) -> None:
    source = HostSource(metrics)
    source.start(leader=leader)
    source.open(window(hertz))
    assert samplers() == []
    assert reader.get_metrics_data() is None
    source.close()
    source.shutdown(1)
    assert len(recorder.queue) == 0
    assert source.describe() == {"usable": True}


def test_a_closed_window_ends_samples_and_metrics_and_the_next_one_begins_anew(source, recorder, reader) -> None:
    for _ in range(2):
        recorder.queue.clear()
        source.open(window(50))
        until(lambda: len(recorder.queue) >= 2)
        assert reader.get_metrics_data() is not None
        source.close()
        assert reader.get_metrics_data() is None
        until(lambda: samplers() == [])
        count = len(recorder.queue)
        assert source.describe()["samples"] == count
        assert [name for name, _ in recorder.queue[0][5]] == ["Memory Usage"]


def test_a_machine_that_cannot_be_read_is_one_warning(source, recorder, monkeypatch, caplog) -> None:
    def hidden() -> None:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", hidden)
    source.open(window(50))
    until(lambda: samplers() == [])
    assert caplog.messages == ["CPU and memory of the host cannot be sampled: FileNotFoundError: /proc/stat"]
    assert source.describe() == {"reason": "FileNotFoundError: /proc/stat", "samples": 0, "missed": 0}
    source.close()


def test_a_forked_child_samples_nothing(source, recorder, reader) -> None:
    source.open(window(50))
    until(lambda: len(recorder.queue) >= 1)

    def child() -> list[Any]:
        source.after_fork()
        source.start(leader=False)
        source.open(window(50))
        time.sleep(0.1)
        return [len(samplers()), len(recorder.queue), reader.get_metrics_data(), source.describe()]

    assert in_child(child) == [0, 0, None, {"usable": True}]
    assert len(samplers()) == 1


def test_the_runtime_has_the_source_with_the_instruments_of_the_process() -> None:
    sources = {source.name: source for source in _make_sources()}
    host = sources["host"]
    assert isinstance(host, HostSource)
    assert host._metrics is host_metrics


def profile(source: HostSource, recorder: Recorder, folder: Path, **fields: Any) -> Path:
    """Sample through a real recorder and native sink for a while; the file."""
    path = folder / "config.json"
    content = {"enable": 1, "prof_dir": str(folder / "prof"), "host_system_usage_freq": 50, **fields}
    path.write_text(json.dumps(content))

    def change(config: ProfileConfig | None) -> None:
        if config is None:
            source.close()
        else:
            source.open(window(config.host_system_usage_freq))

    sink = NativeSink(str(path), on_change=change)
    recorder.start([sink])
    until(lambda: recorder.flush(5) and sink.state().written >= 9)
    file = sink.state().file
    path.write_text(json.dumps({**content, "enable": 0}))
    until(lambda: not sink.state().enabled)
    recorder.shutdown(5)
    assert file is not None
    return file


def query(file: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("fields", [{}, {"domain": "Request", "profiler_level": 0}])
def test_native_rows_are_there_whatever_the_filters_say(source, recorder, tmp_path, monkeypatch, fields) -> None:
    monkeypatch.delenv("_ASCEND_OTEL_PROFILE_SESSION", raising=False)
    file = profile(source, recorder, tmp_path, **fields)
    rows = query(file, "SELECT name, cat, duration, args, timestamp, end_time FROM slice ORDER BY id")
    assert {row[:3] for row in rows} == {("CPU Usage", "host", 0), ("Memory Usage", "host", 0)}
    for name, _, _, args, start, end in rows:
        content = json.loads(args)
        assert list(content) == ["usage=", "type"]
        assert content["type"] == 0
        assert type(content["usage="]) is float
        assert 0 <= content["usage="] <= 100, name
        assert start == end
    assert len(query(file, "SELECT thread_name FROM thread WHERE thread_name LIKE 'host(%'")) == 1


def test_the_analyzer_shows_the_lane_and_the_tables_are_as_without_it(source, recorder, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("_ASCEND_OTEL_PROFILE_SESSION", raising=False)
    trace = build_service(tmp_path / "1009-0853")
    before = run_analyzer("analyze", trace.parent, tmp_path / "before")
    file = profile(source, recorder, tmp_path)
    api = next(trace.rglob(API_DB))
    ((begin, pid),) = query(api, "SELECT min(timestamp), pid FROM slice")
    columns = "timestamp, duration, name, depth, track_id, cat, args, cname, end_time, flag_id, pid, tid"
    samples = query(file, f"SELECT {columns} FROM slice ORDER BY id")
    ((tid,),) = query(file, "SELECT track_id FROM thread")
    connection = sqlite3.connect(api)
    with connection:
        connection.execute("INSERT INTO thread VALUES(?,?,?,?,0)", (tid, str(tid), str(pid), f"host({tid})"))
        for number, row in enumerate(samples):
            at = begin + number * 1000
            connection.execute(
                f"INSERT INTO slice({columns}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (at, 0, *row[2:8], at, row[9], pid, row[11]),
            )
    connection.close()
    assert check(trace.parent) == []
    after = run_analyzer("analyze", trace.parent, tmp_path / "after")
    assert after == before
    events = json.loads((tmp_path / "after" / "chrome_tracing.json").read_text())
    lane = [event for event in events if str(event.get("tid")).startswith("host(") and "ts" in event]
    assert {(event["name"], event["ph"], event["pid"]) for event in lane} == {
        ("CPU Usage", "I", pid),
        ("Memory Usage", "I", pid),
    }
    assert sorted(event["args"]["usage="] for event in lane) == sorted(json.loads(row[6])["usage="] for row in samples)
    old = json.loads((tmp_path / "before" / "chrome_tracing.json").read_text())

    def names(of: list[dict[str, Any]]) -> set[str]:
        return {event["args"]["name"] for event in of if event["name"] == "process_name"}

    assert names(events) == names(old)
