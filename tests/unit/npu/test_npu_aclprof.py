"""CANN's own profiler, against a stand-in of its library."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import parse
from ascend_opentelemetry.npu import _profiling_session
from ascend_opentelemetry.npu.aclprof import _source
from ascend_opentelemetry.npu.aclprof._library import Aclprof, AclprofError, conflict, data_types
from ascend_opentelemetry.npu.aclprof._source import AclprofSource
from ascend_opentelemetry.recorder import SourceWindow
from tests.support.npu_stand_in.aclprof import build_aclprof, write_msprof


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Finds the stand-in, and gives the calls that it has had."""
    for name in ("LD_PRELOAD", "PROFILER_SAMPLECONFIG", "PROFILING_MODE", "LD_LIBRARY_PATH", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)
    build_aclprof(tmp_path / "cann")
    log = tmp_path / "calls"
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path / "cann"))
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/etc/prof.json")
    monkeypatch.setenv("STAND_IN_ACLPROF_LOG", str(log))
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The events that are emitted."""
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        _profiling_session, "emit", lambda name, time_ns, attributes, ids=None: found.append((name, attributes))
    )
    return found


def window(folder: Path, **fields: Any) -> SourceWindow:
    config, problems = parse(json.dumps({"enable": 1, "acl_task_time": 1, **fields}), "config.json")
    assert problems == []
    return SourceWindow(config, folder / "date", time.time_ns())


def opened(folder: Path, *, device: int | None = 3, leader: bool = False, **fields: Any) -> AclprofSource:
    source = AclprofSource(lambda: device)
    source.start(leader=leader)
    source.open(window(folder, **fields))
    return source


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_window_is_one_recording_of_the_workers_device(tmp_path, calls, events, caplog) -> None:
    caplog.set_level(logging.INFO)
    source = opened(tmp_path)
    wait(lambda: "Start" in calls())
    assert source.describe() == {"usable": True, "running": True}
    source.close()
    source.shutdown(10)
    assert calls() == [
        f"Init {tmp_path}/date", "CreateConfig 1 3 1 0x880", "Start", "Stop", "DestroyConfig", "Finalize",
    ]  # fmt: skip
    (folder,) = (tmp_path / "date").glob("PROF_*")
    ((name, attributes),) = events
    assert name == "npu.profiling.session"
    assert 0 < attributes.pop("npu.recording.duration") < 10
    assert attributes == {
        "npu.profiler.name": "aclprof", "npu.profiler.level": "L0", "npu.recording.folder": str(folder),
    }  # fmt: skip
    assert source.describe() == {"usable": True, "running": False, "folder": str(folder)}
    (told,) = caplog.messages
    assert told.startswith("aclprof has recorded 0.")
    assert told.endswith(f" s: ascend-otel npu import {folder}"), "what gives its operators to OTel"


def test_level_types_and_metrics_are_those_of_the_config_file(tmp_path, calls, events) -> None:
    source = opened(
        tmp_path,
        acl_prof_task_time_level="L1",
        aclDataTypeConfig="ACL_PROF_TASK_MEMORY,ACL_PROF_HCCL_TRACE",
        aclprofAicoreMetrics="ACL_AICORE_L2_CACHE",
    )
    source.shutdown(10)
    assert "CreateConfig 1 3 6 0x10a3" in calls()
    assert events[0][1]["npu.profiler.level"] == "L1"


def test_the_host_is_sampled_by_the_first_process_alone(tmp_path, calls, events) -> None:
    opened(tmp_path, host_system_usage_freq=20).shutdown(10)
    assert [call for call in calls() if call.startswith("SetConfig")] == []
    opened(tmp_path, leader=True, host_system_usage_freq=20).shutdown(10)
    settings = ["SetConfig 8 cpu,mem", "SetConfig 9 cpu,mem", "SetConfig 10 20"]
    assert [call for call in calls() if call.startswith("SetConfig")] == settings
    assert len(events) == 2


def test_it_ends_by_itself_after_the_seconds_of_the_level(tmp_path, calls, events) -> None:
    source = opened(tmp_path, acl_prof_task_time_level="L1;1")
    wait(lambda: events)
    assert calls()[-3:] == ["Stop", "DestroyConfig", "Finalize"]
    assert 1 <= events[0][1]["npu.recording.duration"] < 5
    source.close()
    source.shutdown(10)
    assert calls().count("Stop") == 1


def test_a_second_window_waits_for_a_library_that_takes_its_time(tmp_path, calls, events, monkeypatch) -> None:
    stop_after = tmp_path / "stop"
    monkeypatch.setenv("STAND_IN_ACLPROF_STOP_AFTER", str(stop_after))
    source = opened(tmp_path)
    wait(lambda: "Start" in calls())
    source.close()
    source.open(window(tmp_path))
    source.close()
    assert calls()[-1] == "Start", "the drain's thread is not held up"
    stop_after.touch()
    source.shutdown(10)
    one = ["Init", "CreateConfig", "Start", "Stop", "DestroyConfig", "Finalize"]
    assert [call.partition(" ")[0] for call in calls()] == one * 2
    assert len({attributes["npu.recording.folder"] for _, attributes in events}) == 2


def test_nothing_is_called_before_a_device_is_used(tmp_path, calls, events) -> None:
    devices: list[int] = []
    source = AclprofSource(lambda: devices[0] if devices else None)
    source.start(leader=False)
    source.open(window(tmp_path))
    time.sleep(0.3)
    assert calls() == []
    devices.append(0)
    wait(lambda: "Start" in calls())
    source.shutdown(10)
    assert len(events) == 1


def test_a_process_without_a_device_records_nothing(tmp_path, calls, events, caplog) -> None:
    source = opened(tmp_path, device=None)
    source.close()
    source.shutdown(10)
    assert (calls(), events, caplog.records) == ([], [], [])


@pytest.mark.parametrize("way", [0, 2, 3])
def test_other_ways_are_not_its_own(tmp_path, calls, way) -> None:
    source = opened(tmp_path, acl_task_time=way)
    source.shutdown(10)
    assert (calls(), source.describe()) == ([], {})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PROFILER_SAMPLECONFIG", "{}", "msprof profiles this service already"),
        ("PROFILING_MODE", "dynamic", "PROFILING_MODE=dynamic"),
        ("LD_PRELOAD", "/x/libmspti.so", "libmspti.so is preloaded"),
        ("ASCEND_TOOLKIT_HOME", "/nowhere", "source the set_env.sh of CANN"),
    ],
)
def test_what_speaks_against_it_is_one_warning(tmp_path, calls, monkeypatch, caplog, name, value, reason) -> None:
    monkeypatch.setenv(name, value)
    opened(tmp_path, leader=False)
    assert caplog.records == []
    source = opened(tmp_path, leader=True)
    source.close()
    source.open(window(tmp_path))
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert warning.getMessage().startswith('/etc/prof.json: "acl_task_time": 1 records nothing: ')
    assert reason in warning.getMessage()
    assert reason in str(source.describe()["reason"])
    assert calls() == []


def test_another_profiling_mode_is_no_conflict() -> None:
    assert conflict({"PROFILING_MODE": "static"}) == ""


@pytest.mark.parametrize(
    ("function", "after"),
    [
        ("Init", []),
        ("CreateConfig", ["Finalize"]),
        ("Start", ["DestroyConfig", "Finalize"]),
        ("Stop", ["DestroyConfig", "Finalize"]),
    ],
)
def test_a_refused_call_is_one_warning_and_leaves_nothing_open(
    tmp_path, calls, events, monkeypatch, caplog, function, after
) -> None:
    monkeypatch.setenv("STAND_IN_ACLPROF_REFUSE", function)
    source = opened(tmp_path)
    source.shutdown(10)
    names = [call.partition(" ")[0] for call in calls()]
    assert names[names.index(function) + 1 :] == after
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f'/etc/prof.json: "acl_task_time": 1: aclprof{function}')
    assert f"aclprof{function}" in str(source.describe()["reason"])
    assert events == []
    monkeypatch.delenv("STAND_IN_ACLPROF_REFUSE")
    source.open(window(tmp_path))
    source.shutdown(10)
    assert len(events) == 1, "the next window records"


def test_a_library_without_the_functions_is_named(tmp_path) -> None:
    library = tmp_path / "libmsprofiler.so"
    library.write_bytes(b"no library")
    with pytest.raises(AclprofError, match=str(library)):
        Aclprof(library)


def test_the_masks_are_those_of_the_levels() -> None:
    assert data_types("L0", ()) == 0x880
    assert data_types("L1", ()) == 0x83
    assert data_types("L0", ("ACL_PROF_OP_ATTR", "ACL_PROF_AICPU", "ACL_PROF_RUNTIME_API")) == 0x4988


def test_the_device_is_the_one_that_the_allocator_has_used(monkeypatch) -> None:
    monkeypatch.setattr(_source._allocator, "statistics", dict)
    assert _source.used_device() is None
    monkeypatch.setattr(_source._allocator, "statistics", lambda: {5: {"reserved_bytes.all.peak": 1}})
    assert _source.used_device() == 5


def test_npu_top_reads_the_recording_by_msprof(tmp_path, calls, events, monkeypatch, write_database) -> None:
    opened(tmp_path).shutdown(10)
    columns = ("startNs", "endNs", "deviceId", "connectionId", "globalTaskId", "globalPid", "taskType")
    info = ("name", "globalTaskId", "taskType", "opType")
    database = write_database(
        {
            "TASK": (columns, [(10**18, 10**18 + 500, 3, 1, 1, 1, 1)]),
            "COMPUTE_TASK_INFO": (info, [(2, 1, 1, 0)]),
        },
        ["MatMulV3", "AI_CORE", "MatMulV3_1"],
        "exported.db",
    )
    write_msprof(tmp_path)
    monkeypatch.setenv("STAND_IN_MSPROF_DB", str(database))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command = [sys.executable, "-m", "ascend_opentelemetry.cli", "npu", "top", "--json", str(tmp_path / "date")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)["operators"]
    assert (line["type"], line["count"], line["total_ns"]) == ("MatMulV3", 1, 500)
