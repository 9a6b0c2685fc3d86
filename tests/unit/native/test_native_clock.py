"""The wall clock is set while rows are made: none is lost, none gets a negative duration."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from ascend_opentelemetry.native import MsServiceProfilerSpanExporter
from ascend_opentelemetry.native._clock import WallClock
from ascend_opentelemetry.recorder._record import Record, RecordType

MS = 10**6
HOUR = 3600 * 10**9
BOTH = pytest.mark.parametrize("step", [-HOUR, -50 * MS, 50 * MS, HOUR])

Set = Callable[[int], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets the wall clock forward by so many ns, or back."""
    real, offset = time.time_ns, 0
    monkeypatch.setattr(time, "time_ns", lambda: real() + offset)

    def step(by: int) -> None:
        nonlocal offset
        offset += by

    return step


def made(name: str, start: int | None = None, duration: int = 5) -> Record:
    """A record that waits for the drain."""
    start = time.time_ns() if start is None else start
    return (RecordType("", name), start, start + duration, threading.get_ident(), None, None, None)


def switch(profile: Any, enable: int) -> None:
    """Edit the config file by the wall clock as it is set."""
    profile.config(enable)
    os.utime(profile.path, ns=(time.time_ns(), time.time_ns()))


def names(profile: Any) -> list[str]:
    profile.sink.shutdown(1)
    assert profile.rows("SELECT count(*) FROM slice WHERE duration < 0 OR end_time != timestamp + duration") == [0]
    assert profile.sink.dropped == {}
    return profile.rows()


@BOTH
def test_rows_of_both_clocks_are_written(profile: Any, set_clock: Set, step: int) -> None:
    profile.start(enable=0)
    switch(profile, 1)
    profile.tick()
    waiting = made("waiting")
    set_clock(step)
    profile.sink.write([waiting, made("before the poll")])
    profile.tick()
    profile.sink.write([made("after it")])
    set_clock(-step)
    profile.sink.write([made("set right again")])
    profile.tick()
    assert names(profile) == ["waiting", "before the poll", "after it", "set right again"]


@BOTH
def test_the_window_opens_where_the_clock_was_set_just_before(profile: Any, set_clock: Set, step: int) -> None:
    profile.start(enable=0)
    profile.tick()
    set_clock(step)
    switch(profile, 1)
    waiting = made("waiting")
    time.sleep(0.001)
    profile.tick()
    assert profile.sink._window.opened_ns <= waiting[1]
    profile.sink.write([waiting, made("on")])
    assert names(profile) == ["waiting", "on"]


@BOTH
def test_the_window_opens_where_the_clock_is_set_after_the_edit(profile: Any, set_clock: Set, step: int) -> None:
    profile.start(enable=0)
    profile.tick()
    switch(profile, 1)
    waiting = made("waiting")
    set_clock(step)
    profile.tick()
    rows = [made("on")] if step < 0 else [waiting, made("on")]  # set back, the edit counts from the poll on
    profile.sink.write(rows)
    assert names(profile) == [record[0].name for record in rows]


@BOTH
def test_the_window_closes_while_rows_wait_from_before(profile: Any, set_clock: Set, step: int) -> None:
    profile.start()
    waiting = made("waiting")
    set_clock(step)
    also = made("also")
    time.sleep(0.001)
    switch(profile, 0)
    profile.tick()
    profile.sink.write([waiting, also, made("too late", start=time.time_ns() + 2 * HOUR)])
    assert names(profile) == ["waiting", "also"]


@BOTH
def test_the_limits_move_with_the_clock(profile: Any, set_clock: Set, step: int) -> None:
    profile.start(enable=0)
    profile.tick()
    switch(profile, 1)
    profile.tick()
    set_clock(step)
    profile.tick()
    opened = profile.sink._window.opened_ns
    if step < 0:
        assert -50 * MS < opened - time.time_ns() <= 0
    profile.sink.write([made("began off", start=opened - 1), made("on", start=opened)])
    time.sleep(0.001)
    switch(profile, 0)
    profile.tick()
    closed = profile.sink._window.closed_ns
    assert closed == profile.path.stat().st_mtime_ns
    profile.sink.write([made("queued", start=closed - 5), made("ended off", start=closed - 4)])
    assert names(profile) == ["on", "queued"]


def test_clock_that_is_set_to_and_fro_opens_the_window_no_wider(profile: Any, set_clock: Set) -> None:
    profile.start(enable=0)
    profile.tick()
    switch(profile, 1)
    profile.tick()
    opened = profile.sink._window.opened_ns
    for _ in range(5):
        set_clock(HOUR)
        profile.sink.write([])
        set_clock(-HOUR)
        profile.sink.write([])
    assert opened - 100 * MS < profile.sink._window.opened_ns <= opened


def test_config_is_still_noticed_when_the_file_lies_in_the_future(profile: Any, set_clock: Set) -> None:
    profile.start(enable=0)
    set_clock(-HOUR)
    for enable in (1, 0):
        profile.config(enable)  # by the clock of the file system, which is an hour ahead
        profile.tick()
    assert [config and config.enable for config in profile.changes] == [True, None]


@BOTH
def test_the_time_limit_is_of_the_monotonic_clock(profile: Any, set_clock: Set, step: int) -> None:
    profile.start(timelimit=1800)
    set_clock(step)
    profile.tick()
    assert profile.sink.state().enabled
    profile.sink.write([made("in time")])
    profile.sink._window._deadline = time.monotonic()
    profile.tick()
    assert not profile.sink.state().enabled
    assert names(profile) == ["in time"]


@BOTH
def test_spans_of_the_sdk_have_no_negative_duration(
    profile: Any, set_clock: Set, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile.config()
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", str(profile.path))
    exporter = MsServiceProfilerSpanExporter()
    tracer = TracerProvider().get_tracer("x")
    across = tracer.start_span("across", start_time=time.time_ns())
    set_clock(step)
    across.end(end_time=time.time_ns())
    after = tracer.start_span("after", start_time=time.time_ns())
    after.end(end_time=time.time_ns())
    assert exporter.export([across, after]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    exporter.shutdown()
    (first, duration), (second, _) = profile.rows("SELECT name, duration FROM slice")
    assert (first, second) == ("across", "after")
    assert duration == 0 if step < 0 else duration >= step


def test_drift_is_no_step_until_it_has_come_to_one(set_clock: Set) -> None:
    clock = WallClock()
    for _ in range(3):
        set_clock(-4 * MS)
        step = clock.step()
        if step:
            break
    assert -13 * MS < step <= -10 * MS
    assert clock.step() == 0
    set_clock(HOUR)
    assert abs(clock.step() - HOUR) < 10 * MS
