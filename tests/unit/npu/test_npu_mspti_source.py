"""The source of operators: who collects and when, and what a library that misbehaves does to it."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry._runtime import _make_sources
from ascend_opentelemetry._sources import HeldBack, Sources
from ascend_opentelemetry.npu import _events
from ascend_opentelemetry.npu.mspti import _collector, _source
from ascend_opentelemetry.npu.mspti._collector import MsptiCollector
from ascend_opentelemetry.npu.mspti._source import MsptiSource, device_is_used
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.npu.operators._metrics import OperatorMetrics
from ascend_opentelemetry.recorder import forwards
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti
from tests.unit.npu.mspti import Events, Metrics, until, window
from tests.unit.recorder.test_recorder_fork import in_child

THREAD = "ascend-otel-mspti"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MsptiStandIn:
    library = build_mspti(tmp_path / "cann")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "cann"))
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/etc/prof.json")
    for name in ("ASCEND_TOOLKIT_HOME", "LD_PRELOAD", "OTEL_PYTHON_VLLM_NPU_OPERATORS"):
        monkeypatch.delenv(name, raising=False)
    return MsptiStandIn(library)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def source(metrics: Metrics, events: Events, monkeypatch: pytest.MonkeyPatch) -> Iterator[MsptiSource]:
    def make(wake: threading.Event) -> MsptiCollector:
        return MsptiCollector(wake, OperatorWindows(OperatorMetrics(metrics.provider), events.emit))

    monkeypatch.setattr("ascend_opentelemetry.npu.mspti._source._collector", make)
    source = MsptiSource(lambda: True)
    yield source
    source.shutdown(5)
    assert forwards.watcher is None


class Untouched:
    """Is told of no forward."""

    def begin(self, span_id: int) -> None:
        raise AssertionError(span_id)

    def end(self) -> None:
        raise AssertionError


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def subscribed(source: MsptiSource) -> bool:
    return bool(source.describe().get("subscribed"))


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    (path,) = folder.rglob("ascend_service_profiler_*.db")
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 2, 1").fetchall()
    finally:
        connection.close()


def test_a_window_gives_metrics_events_and_a_file_and_lets_go_of_the_library(
    source, stand_in, metrics, events, tmp_path
) -> None:
    source.start(leader=False)
    assert threads() == []
    source.open(window(tmp_path, stand_in.base))
    until(lambda: subscribed(source))
    assert forwards.watcher is not None
    stand_in.api(10, 5, "aclnnAdd", id_=1)
    stand_in.kernel(100, 4000, "aclnnAdd_AddAiCore_Add", id_=1)
    stand_in.kernel(5000, 3000, "aclnnAdd_AddAiCore_Add", id_=2)
    stand_in.kernel(9000, 50_000, "MatMulV3_0123456789abcdef_7", "KERNEL_AICORE", device=1, id_=3)
    source.close()
    until(lambda: stand_in.unsubscribed == 1)
    until(lambda: not subscribed(source))
    source.shutdown(5)
    assert metrics.values("npu.operator.count") == {
        ("npu-0", "AI_VECTOR_CORE", "Add"): 2, ("npu-1", "AI_CORE", "MatMulV3"): 1,
    }  # fmt: skip
    assert metrics.values("npu.operator.time") == {
        ("npu-0", "AI_VECTOR_CORE", "Add"): pytest.approx(7e-6), ("npu-1", "AI_CORE", "MatMulV3"): pytest.approx(5e-5),
    }  # fmt: skip
    durations = metrics.points("npu.operator.duration")["npu-0", "AI_VECTOR_CORE", "Add"]
    assert (durations.count, durations.sum, durations.min, durations.max) == (2, pytest.approx(7e-6), 3e-6, 4e-6)
    assert durations.explicit_bounds[:3] == (1e-6, 2e-6, 5e-6)
    assert durations.bucket_counts[:4] == (0, 0, 2, 0)
    assert {(event.name, event.attributes["hw.id"], event.attributes["npu.operator.count"]) for event in events} == {
        ("npu.operator.window", "npu-0", 2), ("npu.operator.window", "npu-1", 1),
    }  # fmt: skip
    base, pid = stand_in.base, os.getpid()
    assert rows(tmp_path, "Api") == [("aclnnAdd", base + 10, base + 15, pid, 11, 1)]
    assert len(rows(tmp_path, "Kernel")) == 3
    assert threads() == []


def test_the_setting_collects_without_a_window_and_writes_no_file(
    source, stand_in, metrics, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "mspti")
    source.start(leader=False)
    until(lambda: subscribed(source))
    stand_in.kernel(100, 4000, "a", id_=1)
    source.open(window(tmp_path, stand_in.base + 150))
    until(lambda: source._thread._collector._database is not None)
    stand_in.kernel(200, 4000, "b", id_=2)
    source.close()
    until(lambda: source._thread._collector._database is None)
    stand_in.kernel(300, 4000, "c", id_=3)
    assert stand_in.unsubscribed == 0
    source.shutdown(5)
    assert stand_in.unsubscribed == 1
    assert metrics.values("npu.operator.count") == {("npu-0", "AI_VECTOR_CORE", name): 1 for name in "abc"}
    assert {row[1] for row in rows(tmp_path, "Kernel")} == {"b"}


@pytest.mark.parametrize("way", [1, 3])
def test_it_pauses_while_a_window_records_by_another_profiler(source, stand_in, tmp_path, monkeypatch, way) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "mspti")
    source.start(leader=False)
    until(lambda: subscribed(source))
    source.open(window(tmp_path, acl_task_time=way))
    until(lambda: stand_in.unsubscribed == 1)
    assert source.describe()["paused"] is True
    source.close()
    until(lambda: subscribed(source), 10)
    assert "paused" not in source.describe()
    assert list(tmp_path.rglob("*.db")) == []


def test_it_goes_on_where_aclprof_is_refused(source, stand_in, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", "mspti")
    monkeypatch.setenv("LD_PRELOAD", f"/x/liba.so:{stand_in.path}")
    source.start(leader=False)
    source.open(window(tmp_path, acl_task_time=1))
    until(lambda: subscribed(source))
    assert "paused" not in source.describe()


def test_a_flush_hands_on_what_waits_for_later(source, stand_in, metrics, events, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_collector, "FLUSH_SECONDS", 3600)
    monkeypatch.setattr(_source, "FLUSH_SECONDS", 10)
    exported: list[int] = []
    provider = SimpleNamespace(force_flush=lambda: exported.append(len(events)))
    monkeypatch.setattr(_events, "get_logger_provider", lambda: provider)
    assert source.flush(10)
    source.open(window(tmp_path, stand_in.base))
    until(lambda: subscribed(source))
    sources = HeldBack(Sources([source]))
    assert sources.flush(10)
    stand_in.kernel(100, 4000, "a", id_=1)
    assert metrics.values("npu.operator.count") == {}
    assert source.describe()["waiting"] == 0, "the library has it"
    assert sources.flush(10)
    assert list(metrics.values("npu.operator.count").values()) == [1]
    assert len(events) == 1
    assert exported[-1] == 1, "a worker may be killed right after"
    assert len(rows(tmp_path, "Kernel")) == 1
    stand_in.set("stall_flush", 1)
    assert not sources.flush(0.2)
    stand_in.set("stall_flush", 0)


def test_what_was_read_and_what_was_lost_is_told(source, stand_in, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    source.open(window(tmp_path / "file"))
    until(lambda: subscribed(source))
    stand_in.kernel(100, 4000, "a", id_=1)
    stand_in.api(100, 4000, "a", id_=1)
    source.close()
    until(lambda: not subscribed(source))
    assert source.describe() == {
        "asked": False, "found": stand_in.path, "usable": True, "needs_preload": ["MEMORY", "MEMCPY"],
        "subscribed": False, "records": {"KERNEL": 1, "API": 1}, "windows": 1, "waiting": 0, "rows": 0, "lost": {"rows": 2},
    }  # fmt: skip


@pytest.mark.parametrize("fields", [{"acl_task_time": 0}, {"acl_task_time": 1}, {"acl_task_time": 3}])
def test_other_values_of_acl_task_time_start_nothing(source, stand_in, tmp_path, fields) -> None:
    source.start(leader=True)
    source.open(window(tmp_path, **fields))
    assert threads() == []
    source.close()
    assert source.describe() == {"usable": True, "asked": False}


def test_without_the_library_it_is_not_usable(tmp_path, monkeypatch) -> None:
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)
    source = MsptiSource()
    assert source.describe() == {"reason": "there is no libmspti.so of CANN here", "asked": False}
    source.open(window(tmp_path))
    assert source.describe() == {
        "asked": True, "reason": "there is no libmspti.so of CANN here", "waits_for": "a device in use by torch_npu",
    }  # fmt: skip
    source.shutdown(5)


def test_a_process_without_a_device_does_not_subscribe(stand_in, tmp_path, monkeypatch) -> None:
    source = MsptiSource()
    source.open(window(tmp_path))
    time.sleep(0.5)
    assert source.describe() == {"asked": True, "usable": True, "waits_for": "a device in use by torch_npu"}
    npu = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(npu=npu))
    assert not device_is_used()
    npu.is_initialized = lambda: True
    assert not device_is_used()
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace())
    assert device_is_used()
    until(lambda: subscribed(source))
    source.shutdown(5)
    assert stand_in.unsubscribed == 1


def test_another_subscriber_is_a_status_and_one_warning_until_it_goes(
    source, stand_in, tmp_path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(_collector, "RETRY_SECONDS", 0.1)
    other = stand_in.subscribe()
    source.open(window(tmp_path))
    until(lambda: "another one" in str(source.describe().get("reason")))
    time.sleep(0.5)
    warnings = [message for message in caplog.messages if "another one" in message]
    expected = (
        '/etc/prof.json: "acl_task_time": 2: operators are not collected: another one in this process subscribes to '
        "MSPTI, which takes one: torch_npu's profiler, msMonitor (MSMONITOR_USE_DAEMON), ms_service_profiler or a monitor "
        "of CANN's mspti package; end that one; tried again every 0 s"
    )
    assert warnings == [expected]
    stand_in.unsubscribe(other)
    until(lambda: subscribed(source))


def test_a_missing_library_is_a_status_and_one_warning(source, tmp_path, caplog, monkeypatch) -> None:
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    source.open(window(tmp_path))
    until(lambda: "cannot be loaded" in str(source.describe().get("reason")))
    source.close()
    source.open(window(tmp_path))
    time.sleep(0.3)
    assert len([message for message in caplog.messages if "cannot be loaded" in message]) == 1


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize(
    ("word", "asker"),
    [("mspti", "OTEL_PYTHON_VLLM_NPU_OPERATORS=mspti"), ("", '/etc/prof.json: "acl_task_time": 2')],
)
def test_the_first_process_says_once_what_workers_will_not_find(
    tmp_path, caplog, monkeypatch, leader, word, asker
) -> None:
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "LD_PRELOAD", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/etc/prof.json")
    if word:
        monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", word)
    source = MsptiSource(lambda: False)
    source.start(leader=leader)
    source.open(window(tmp_path))
    source.shutdown(5)
    expected = (
        f"{asker}: operators are not collected: there is no libmspti.so of CANN here; source CANN's set_env.sh and run, before "
        "the service starts: export LD_PRELOAD=$ASCEND_TOOLKIT_HOME/lib64/libmspti.so"
    )
    assert caplog.messages == [expected] * leader
    build_mspti(tmp_path / "cann")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/x::{tmp_path}/cann/lib64")
    caplog.clear()
    source = MsptiSource(lambda: False)
    source.start(leader=leader)
    source.shutdown(5)
    assert caplog.messages == []


@pytest.mark.parametrize(("word", "warns"), [("MSPTI ", False), ("off", False), ("", False), ("on", True)])
def test_a_word_that_is_no_setting_is_one_warning_of_the_first_process(
    stand_in, caplog, monkeypatch, word, warns
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_OPERATORS", word)
    for leader in (True, False):
        source = MsptiSource(lambda: False)
        source.start(leader=leader)
        assert source.describe()["asked"] is (word == "MSPTI ")
        source.shutdown(5)
    message = "OTEL_PYTHON_VLLM_NPU_OPERATORS is 'on': off is used; set off, mspti or torch"
    assert caplog.messages == [message] * warns


def test_what_needs_the_library_preloaded_is_said_once_with_the_line_to_run(source, stand_in, tmp_path, caplog) -> None:
    for _ in range(2):
        source.open(window(tmp_path))
        until(lambda: subscribed(source))
        assert source.describe()["needs_preload"] == ["MEMORY", "MEMCPY"]
        source.close()
        until(lambda: not subscribed(source))
    line = f"export LD_PRELOAD={stand_in.path}"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f'/etc/prof.json: "acl_task_time": 2: MSPTI records no MEMORY, MEMCPY here; for those, run before the service starts: {line}'
    ]


@pytest.mark.parametrize("where", ["stall_subscribe", "stall_flush"])
def test_a_library_that_does_not_return_delays_nobody(source, stand_in, tmp_path, monkeypatch, where) -> None:
    monkeypatch.setattr(_source, "STALLED_SECONDS", 0.3)
    stand_in.set(where, 1)
    begin = time.monotonic()
    source.open(window(tmp_path))
    time.sleep(0.2)
    source.close()
    assert time.monotonic() - begin < 5
    until(lambda: "has not returned for" in str(source.describe().get("reason")))
    forwards.watcher = Untouched()
    source.shutdown(0.2)
    assert forwards.watcher is None, "the model runner's thread would call the library"
    (thread,) = threads()
    stand_in.set(where, 0)
    thread.join(10)
    assert threads() == []


def test_a_library_that_is_removed_while_it_works_goes_on(source, stand_in, metrics, tmp_path) -> None:
    source.open(window(tmp_path))
    until(lambda: subscribed(source))
    Path(stand_in.path).unlink()
    stand_in.kernel(100, 4000, "a", id_=1)
    source.close()
    until(lambda: not subscribed(source))
    source.open(window(tmp_path))
    until(lambda: subscribed(source))
    source.shutdown(5)
    assert list(metrics.values("npu.operator.count").values()) == [1]


def test_an_error_of_ours_ends_the_thread_and_frees_the_subscription(
    source, stand_in, tmp_path, monkeypatch, caplog
) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise ZeroDivisionError("in a test")

    monkeypatch.setattr(_collector.MsptiOperators, "take", broken)
    source.open(window(tmp_path))
    until(lambda: subscribed(source))
    stand_in.kernel(100, 4000, "a", id_=1)
    until(lambda: stand_in.unsubscribed == 1)
    until(lambda: threads() == [])
    assert source.describe() == {"asked": True, "reason": "ZeroDivisionError: in a test"}
    assert "operators are not collected any more: ZeroDivisionError: in a test" in caplog.messages
    assert source.flush(0.2), "a flush waits for nobody then"


def test_records_of_a_window_that_opens_while_the_library_holds_back_are_in_its_file(
    source, stand_in, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(_collector, "FLUSH_SECONDS", 60.0)
    source.open(window(tmp_path / "first"))
    until(lambda: subscribed(source))
    stand_in.kernel(time.time_ns(), 4000, "of_first", id_=1)
    time.sleep(0.01)
    # the thread hears of both at once
    monkeypatch.setattr(source._thread._wake, "set", lambda: None)
    source.close()
    opened_ns = time.time_ns()
    stand_in.kernel(opened_ns + 1, 4000, "of_second", id_=2)
    monkeypatch.undo()
    source.open(window(tmp_path / "second", opened_ns))
    until(lambda: list((tmp_path / "second").rglob("*.db")))
    source.close()
    until(lambda: not subscribed(source))
    assert [name for _, name, *_ in rows(tmp_path / "first", "Kernel")] == ["of_first"]
    assert [name for _, name, *_ in rows(tmp_path / "second", "Kernel")] == ["of_second"]


def test_600_000_kernels_of_four_threads_are_all_counted(source, stand_in, metrics, tmp_path) -> None:
    source.open(window(tmp_path, kernel_filter=("nothing like that",)))
    until(lambda: subscribed(source))
    stand_in.produce(4, 150_000)
    source.shutdown(60)
    assert stand_in["dropped"] == 0
    assert source.describe() == {"usable": True, "asked": False}
    counts = metrics.values("npu.operator.count")
    assert sum(counts.values()) == 600_000
    assert set(counts.values()) == {75_000}
    points = metrics.points("npu.operator.duration")
    assert sum(point.count for point in points.values()) == 600_000
    assert sum(metrics.values("npu.operator.time").values()) == pytest.approx(600_000 * 503.5e-9)


def test_a_forked_child_leaves_the_subscription_alone(source, stand_in, tmp_path) -> None:
    source.open(window(tmp_path))
    until(lambda: subscribed(source))

    def child() -> list[Any]:
        source.after_fork()
        source.start(leader=False)
        source.open(window(tmp_path))
        return [len(threads()), source.describe(), forwards.watcher is None]

    reason = "MSPTI was in use when this process was forked: only a new process can use it"
    assert forwards.watcher is not None
    assert in_child(child) == [0, {"reason": reason}, True]


def test_a_child_of_a_process_that_only_waits_collects(stand_in, tmp_path) -> None:
    ready: list[bool] = []
    source = MsptiSource(lambda: bool(ready))
    source.open(window(tmp_path))
    until(lambda: len(threads()) == 1)

    def child() -> list[Any]:
        source.after_fork()
        source.start(leader=False)
        ready.append(True)
        source.open(window(tmp_path))
        until(lambda: subscribed(source))
        source.shutdown(5)
        return [stand_in.unsubscribed]

    assert in_child(child) == [1]
    source.shutdown(5)


def test_the_runtime_has_the_source() -> None:
    assert [type(source) for source in _make_sources() if source.name == "mspti"] == [MsptiSource]
