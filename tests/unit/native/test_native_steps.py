"""``profiler_step_num``: profiling stops with the last step that it allows."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

import pytest

from ascend_opentelemetry.recorder._record import LEVEL_DETAILED, RecordType

STEP = RecordType("Execute", "modelRunnerExec")
OTHER = RecordType("Execute", "forward")


def steps(profile: Any, count: int, record_type: RecordType = STEP) -> None:
    for _ in range(count):
        profile.record(record_type)


def test_rows_after_the_last_step_are_left_out_and_the_file_is_switched_off(
    profile: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    profile.start(profiler_step_num=3, domain="")
    text = profile.path.read_text()
    steps(profile, 2)
    steps(profile, 5, OTHER)
    assert profile.sink.state().enabled
    begin = time.time_ns()
    profile.sink.write(
        [(record_type, begin + at, begin + at + 1, 7, None, (), None) for record_type, at in
         ((OTHER, 0), (STEP, 10), (OTHER, 12), (STEP, 20))]
    )  # fmt: skip
    assert not profile.sink.state().enabled
    assert profile.path.read_text() == text.replace('"enable": 1', '"enable": 0')
    assert [config and config.enable for config in profile.changes] == [True, None]
    profile.tick()
    assert profile.rows() == ["modelRunnerExec"] * 2 + ["forward"] * 6 + ["modelRunnerExec"]
    assert profile.rows("SELECT max(end_time) FROM slice") == [begin + 11]
    head = f"[msservice_profiler] [PID:{os.getpid()}] [INFO]"
    assert caplog.messages[-3:] == [
        f"{head} Profiler Step Limit Reached! Current=3, Target=3. Stopping...",
        f"{head} Profiler Disabled Successfully!",
        f"{head} profile enable_: false",
    ]


def test_the_next_enabling_counts_anew(profile: Any) -> None:
    profile.start(profiler_step_num=2)
    steps(profile, 1)
    profile.config(0, profiler_step_num=2)
    profile.tick()
    profile.tick()
    profile.config(1, profiler_step_num=2)
    profile.tick()
    steps(profile, 1)
    assert profile.sink.state().enabled
    steps(profile, 1)
    assert not profile.sink.state().enabled


def test_a_process_that_did_not_start_the_service_stops_it_too(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ASCEND_OTEL_PROFILE_SESSION", f"0304-0506,{os.getppid()}")
    profile.start(profiler_step_num=1)
    steps(profile, 1)
    assert json.loads(profile.path.read_text())["enable"] == 0


def test_a_read_only_file_stops_without_being_rewritten(profile: Any) -> None:
    profile.start(profiler_step_num=1)
    profile.path.chmod(0o444)
    steps(profile, 2)
    profile.tick()
    assert not profile.sink.state().enabled
    assert json.loads(profile.path.read_text())["enable"] == 1
    assert profile.rows() == ["modelRunnerExec"]


@pytest.mark.parametrize(
    ("record_type", "fields"),
    [
        (RecordType("Execute", "modelRunnerExec", native=False), {}),
        (RecordType("Execute", "modelRunnerExec", level=LEVEL_DETAILED), {}),
        (STEP, {"domain": "Engine"}),
        (OTHER, {}),
    ],
)
def test_only_rows_that_are_written_count(profile: Any, record_type: RecordType, fields: dict[str, str]) -> None:
    profile.start(profiler_step_num=1, **fields)
    steps(profile, 3, record_type)
    assert profile.sink.state().enabled


def test_a_step_that_began_before_the_window_does_not_count(profile: Any) -> None:
    profile.start(profiler_step_num=1)
    profile.record(STEP, start=time.time_ns() - 60_000_000_000)
    assert profile.sink.state().enabled


def test_without_a_limit_nothing_is_counted(profile: Any) -> None:
    profile.start()
    steps(profile, 50)
    assert profile.sink.state().enabled
