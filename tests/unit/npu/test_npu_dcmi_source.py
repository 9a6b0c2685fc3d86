"""The source of ``npu_memory_usage_freq`` and of the NPU's metrics: who measures, when, and what becomes of it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry._runtime import _make_sources
from ascend_opentelemetry.native import NativeSink, ProfileConfig
from ascend_opentelemetry.npu import _events
from ascend_opentelemetry.npu._devices import Device
from ascend_opentelemetry.npu.dcmi import _hw_metrics, _source
from ascend_opentelemetry.npu.dcmi._driver import Driver, driver
from ascend_opentelemetry.npu.dcmi._reader import Memory
from ascend_opentelemetry.npu.dcmi._source import NPU_TYPE, DcmiSource, hw_metrics
from ascend_opentelemetry.recorder import Recorder, SourceWindow
from devtools.otlp_receiver import to_json
from devtools.semconv import load
from tests.support.analyzer import run_analyzer
from tests.support.contract import check
from tests.support.contract.example import API_DB, build_service
from tests.support.live_check import LiveCheck
from tests.support.npu_stand_in import StandIn, build_dcmi
from tests.unit.recorder.test_recorder_fork import in_child

THREAD = "ascend-otel-dcmi"
MODE = "OTEL_PYTHON_VLLM_NPU_METRICS"
MB = 1 << 20


def samplers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def window(hertz: int) -> SourceWindow:
    return SourceWindow(ProfileConfig(npu_memory_usage_freq=hertz), Path("/prof/1126-0300"), time.time_ns())


@pytest.fixture
def v1(tmp_path: Path) -> StandIn:
    return StandIn(build_dcmi("v1", tmp_path))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(_source, "recorder", recorder)
    yield recorder
    recorder.shutdown(1)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """Where events go: a provider of the SDK in place of the global one."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_events, "get_logger", provider.get_logger)
    yield exporter
    provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def make(reader, monkeypatch) -> Iterator[Callable[..., DcmiSource]]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.delenv(MODE, raising=False)
    made: list[DcmiSource] = []

    def make(path: Path, *, leader: bool = True) -> DcmiSource:
        driver = Driver({"OTEL_PYTHON_VLLM_DCMI_LIBRARY": str(path)})
        source = DcmiSource(driver, _hw_metrics.make(driver, provider))
        made.append(source)
        source.start(leader=leader)
        return source

    yield make
    for source in made:
        source.shutdown(5)
        source.silence()
    provider.shutdown()
    assert samplers() == []


def test_samples_are_records_of_all_devices(make, recorder, v1) -> None:
    source = make(v1.path)
    begin = time.time_ns()
    source.open(window(50))
    until(lambda: len(recorder.queue) >= 3)
    source.close()
    until(lambda: samplers() == [])
    records = list(recorder.queue)
    for record_type, start, end, ident, ids, values, extra in records:
        assert (record_type, ids, extra) == (NPU_TYPE, None, None)
        assert begin <= start == end <= time.time_ns()
        assert ident != threading.get_ident()
        assert [(device.hardware_id, memory.used) for device, memory in values] == [
            ("npu-2", 64208502784), ("npu-6", 1024 * MB),
        ]  # fmt: skip
    said = source.describe()
    assert (said["samples"], said["usable"], said["metrics"]) == (len(records), True, True)


def test_a_sample_is_one_row_a_device_with_both_values() -> None:
    device = Device(3, (4, 0), 1, 6, "")
    assert NPU_TYPE.rows is not None
    (row,) = NPU_TYPE.rows((NPU_TYPE, 7, 7, 1, None, [(device, Memory("hbm", 1024 * MB, 32768 * MB, 3))], None))
    assert row == (7, 0, "npu", "npu", '{"usage=": 1024, "utiliza=": 3, "scope#device": 3, "type": 0}')


def test_each_sample_is_an_event_too(make, recorder, logs, v1) -> None:
    source = make(v1.path)
    source.open(window(50))
    until(lambda: len(logs.get_finished_logs()) >= 2)
    source.close()
    first, second = [entry.log_record for entry in logs.get_finished_logs()[:2]]
    assert first.event_name == second.event_name == "npu.memory.sample"
    assert first.timestamp == recorder.queue[0][1]
    assert first.severity_number.name == "INFO"
    assert dict(first.attributes) == {
        "hw.id": "npu-2", "npu.memory.kind": "hbm", "npu.memory.usage": 64208502784, "npu.memory.limit": 65536 * MB,
        "npu.memory.utilization": 0.93,
    }  # fmt: skip
    assert second.attributes["hw.id"] == "npu-6"
    assert logs.get_finished_logs()[0].instrumentation_scope.name == "ascend_opentelemetry.npu"
    registry = LiveCheck(load())
    registry.add(to_json(encode_logs(logs.get_finished_logs())))
    assert (registry.findings, set(registry.seen)) == ({}, {"event npu.memory.sample"})


@pytest.mark.parametrize(("leader", "hertz"), [(False, 50), (True, -1)])
def test_nobody_samples_who_is_not_asked(make, recorder, v1, leader, hertz) -> None:
    source = make(v1.path, leader=leader)
    source.open(window(hertz))
    assert samplers() == []
    source.close()
    assert len(recorder.queue) == 0


def test_only_the_first_process_of_a_service_measures(make, reader, v1) -> None:
    source = make(v1.path, leader=False)
    assert reader.get_metrics_data() is None
    assert source.describe() == {}
    assert v1.calls() == 0


@pytest.mark.parametrize(("mode", "measures"), [("auto", True), ("on", True), ("off", False), ("On", True), ("", True)])
def test_metrics_are_on_where_there_is_a_driver_unless_they_are_off(
    make, reader, v1, monkeypatch, caplog, mode, measures
) -> None:
    monkeypatch.setenv(MODE, mode)
    make(v1.path)
    assert (reader.get_metrics_data() is not None) is measures
    assert caplog.messages == []


def test_a_mode_that_is_none_is_one_warning_and_auto(make, reader, v1, monkeypatch, caplog) -> None:
    monkeypatch.setenv(MODE, "yes")
    make(v1.path)
    assert reader.get_metrics_data() is not None
    assert caplog.messages == [f"{MODE} is 'yes': auto is used; set auto, on or off"]


HELP = "install the Ascend driver, mount it into the container, or name its libdcmi.so by OTEL_PYTHON_VLLM_DCMI_LIBRARY"


@pytest.mark.parametrize(("mode", "messages"), [
    ("auto", []), ("off", []),
    ("on", [f"{MODE}=on: NPUs cannot be measured: no libdcmi.so of the Ascend driver; {HELP}"]),
])  # fmt: skip
def test_a_missing_driver_is_told_who_has_asked_for_it(
    make, tmp_path, monkeypatch, caplog, reader, mode, messages
) -> None:
    monkeypatch.setenv(MODE, mode)
    source = make(tmp_path / "none.so")
    assert reader.get_metrics_data() is None
    assert caplog.messages == messages
    assert source.describe() == {"found": False, "reason": "no libdcmi.so of the Ascend driver", "metrics": False}


def test_a_window_without_a_driver_is_one_warning(make, tmp_path, recorder, caplog) -> None:
    source = make(tmp_path / "none.so")
    for _ in range(2):
        source.open(window(50))
        time.sleep(0.1)
        source.close()
    assert caplog.messages == [
        f'"npu_memory_usage_freq": 50: NPUs cannot be measured: no libdcmi.so of the Ascend driver; {HELP}'
    ]
    assert len(recorder.queue) == 0
    assert source.describe()["samples"] == 0


def test_a_window_without_permission_says_so(make, v1, recorder, caplog) -> None:
    v1.refuse("dcmi_init", -8002)
    source = make(v1.path)
    source.open(window(50))
    until(lambda: caplog.messages)
    assert "NPUs cannot be measured: init: permission denied (-8002)" in caplog.messages[0]
    source.close()
    assert source.describe()["reason"] == "init: permission denied (-8002)"


def test_a_log_processor_that_raises_ends_the_samples_and_nothing_else(make, v1, recorder, monkeypatch, caplog) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("full")

    monkeypatch.setattr(_source, "emit", broken)
    source = make(v1.path)
    source.open(window(50))
    until(lambda: recorder.queue and samplers() == [])
    assert caplog.messages == ["the memory of the NPUs is not sampled any more: RuntimeError: full"]


def test_a_forked_child_neither_samples_nor_calls_the_driver(make, recorder, reader, v1) -> None:
    source = make(v1.path)
    source.open(window(50))
    until(lambda: recorder.queue)
    assert reader.get_metrics_data() is not None

    def child() -> list[Any]:
        before = v1.calls()
        source.after_fork()
        source.start(leader=False)
        source.open(window(50))
        time.sleep(0.1)
        name = source._driver.hardware_id(1)
        return [len(samplers()), reader.get_metrics_data(), source.describe(), v1.calls() - before, name]

    with source._driver._patience._lock:  # a thread of the parent may hold it
        assert in_child(child) == [0, None, {}, 0, "npu-6"]
    assert len(samplers()) == 1


def test_the_runtime_has_the_sources_with_the_instruments_of_the_process() -> None:
    sources = {source.name: source for source in _make_sources()}
    dcmi = sources["dcmi"]
    assert isinstance(dcmi, DcmiSource)
    assert (dcmi._driver, dcmi._metrics) == (driver, hw_metrics)
    assert list(sources) == ["host", "dcmi", "allocator", "aclprof", "mspti", "torch_profiler"]


def profile(source: DcmiSource, recorder: Recorder, folder: Path, **fields: Any) -> Path:
    """Sample through a real recorder and native sink for a while; the file."""
    path = folder / "config.json"
    content = {"enable": 1, "prof_dir": str(folder / "prof"), "npu_memory_usage_freq": 50, **fields}
    path.write_text(json.dumps(content))

    def change(config: ProfileConfig | None) -> None:
        if config is None:
            source.close()
        else:
            source.open(window(config.npu_memory_usage_freq))

    sink = NativeSink(str(path), on_change=change)
    recorder.start([sink])
    until(lambda: recorder.flush(5) and sink.state().written >= 8)
    file = sink.state().file
    path.write_text(json.dumps({**content, "enable": 0}))
    until(lambda: not sink.state().enabled)
    recorder.shutdown(5)
    assert file is not None
    return file


def query(file: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("fields", [{}, {"domain": "Request", "profiler_level": "ERROR"}])
def test_native_rows_are_there_whatever_the_filters_say(make, recorder, v1, tmp_path, monkeypatch, fields) -> None:
    monkeypatch.delenv("_ASCEND_OTEL_PROFILE_SESSION", raising=False)
    file = profile(make(v1.path), recorder, tmp_path, **fields)
    rows = query(file, "SELECT name, cat, duration, args FROM slice ORDER BY id")
    assert {row[:3] for row in rows} == {("npu", "npu", 0)}
    assert {row[3] for row in rows} == {
        '{"usage=": 61234, "utiliza=": 93, "scope#device": 0, "type": 0}',
        '{"usage=": 1024, "utiliza=": 3, "scope#device": 1, "type": 0}',
    }
    times = [start for (start,) in query(file, "SELECT DISTINCT timestamp FROM slice ORDER BY timestamp")]
    assert 2 * len(times) == len(rows)


def test_the_analyzer_draws_the_counter_and_its_tables_are_as_without_it(
    make, recorder, v1, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv("_ASCEND_OTEL_PROFILE_SESSION", raising=False)
    trace = build_service(tmp_path / "1009-0853")
    before = run_analyzer("analyze", trace.parent, tmp_path / "before")
    file = profile(make(v1.path), recorder, tmp_path)
    api = next(trace.rglob(API_DB))
    ((begin, pid),) = query(api, "SELECT min(timestamp), pid FROM slice")
    columns = "timestamp, duration, name, depth, track_id, cat, args, cname, end_time, flag_id, pid, tid"
    samples = query(file, f"SELECT {columns} FROM slice ORDER BY id")
    ((tid,),) = query(file, "SELECT track_id FROM thread")
    with closing(sqlite3.connect(api)) as connection, connection:
        connection.execute("INSERT INTO thread VALUES(?,?,?,?,0)", (tid, str(tid), str(pid), f"npu({tid})"))
        for number, row in enumerate(samples):
            at = begin + number * 1000
            connection.execute(
                f"INSERT INTO slice({columns}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (at, 0, *row[2:8], at, row[9], pid, row[11]),
            )
    assert check(trace.parent) == []
    after = run_analyzer("analyze", trace.parent, tmp_path / "after")
    assert after == before
    events = json.loads((tmp_path / "after" / "chrome_tracing.json").read_text())
    drawn = [event["args"] for event in events if event["name"] == "NPU Usage" and event["ph"] == "C"]
    assert len(drawn) == len(samples)
    assert {value for args in drawn for value in args.values()} == {61234, 1024}
