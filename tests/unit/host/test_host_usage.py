from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest

from ascend_opentelemetry.host._usage import CpuUsage, busy, memory

TIMES = {
    "user": 100.0, "nice": 1.0, "system": 20.0, "idle": 500.0, "iowait": 5.0, "irq": 1.0, "softirq": 2.0, "steal": 3.0,
    "guest": 40.0, "guest_nice": 0.0,
}  # fmt: skip


def spend(monkeypatch: pytest.MonkeyPatch, times: dict[str, float], **seconds: float) -> dict[str, float]:
    later = {name: time + seconds.get(name, 0.0) for name, time in times.items()}
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(**later))
    return later


def test_shares_are_those_of_the_time_since_the_reading_before(monkeypatch) -> None:
    cpu = CpuUsage()
    times = spend(monkeypatch, TIMES)
    assert cpu.read() is None
    # 10 s of guests are part of the 30 s of user
    times = spend(monkeypatch, times, user=30, guest=10, idle=50, iowait=10, irq=2, softirq=3, steal=5)
    shares = cpu.read()
    assert shares == {
        "user": 0.3, "nice": 0.0, "system": 0.0, "idle": 0.5, "iowait": 0.1, "interrupt": 0.05, "steal": 0.05,
    }  # fmt: skip
    assert shares is not None
    assert busy(shares) == pytest.approx(0.4)
    times = spend(monkeypatch, times, idle=4)
    shares = cpu.read()
    assert shares is not None
    assert shares["idle"] == 1.0
    assert busy(shares) == 0.0


def test_without_a_step_of_the_counters_the_next_reading_covers_both_times(monkeypatch) -> None:
    cpu = CpuUsage()
    times = spend(monkeypatch, TIMES)
    cpu.read()
    assert cpu.read() is None
    spend(monkeypatch, times, user=1, idle=3)
    shares = cpu.read()
    assert shares is not None
    assert (shares["user"], shares["idle"]) == (0.25, 0.75)


def test_a_counter_that_goes_back_counts_as_nothing(monkeypatch) -> None:
    cpu = CpuUsage()
    times = spend(monkeypatch, TIMES)
    cpu.read()
    spend(monkeypatch, times, iowait=-4, user=1, idle=1)
    shares = cpu.read()
    assert shares is not None
    assert (shares["user"], shares["idle"], shares["iowait"]) == (0.5, 0.5, 0.0)


def test_a_system_without_some_modes_has_them_at_nothing(monkeypatch) -> None:
    cpu = CpuUsage()
    times = spend(monkeypatch, {"user": 1.0, "nice": 0.0, "system": 1.0, "idle": 1.0})
    cpu.read()
    spend(monkeypatch, times, system=1)
    shares = cpu.read()
    assert shares is not None
    assert (shares["system"], shares["steal"], shares["interrupt"]) == (1.0, 0.0, 0.0)


def test_a_busy_machine_is_seen_as_such() -> None:
    cpu = CpuUsage()
    cpu.read()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    shares = cpu.read()
    assert shares is not None
    assert sum(shares.values()) == pytest.approx(1.0)
    assert busy(shares) > 0.5 / (psutil.cpu_count() or 1)


def test_memory_by_state_adds_up_to_all_memory(monkeypatch) -> None:
    found = SimpleNamespace(total=1000, available=600, free=300, cached=250, buffers=50, used=123)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    assert memory() == (pytest.approx(0.4), {"used": 400, "free": 300, "cached": 250, "buffers": 50})


def test_memory_of_this_machine_is_what_the_kernel_says() -> None:
    share, states = memory()
    assert sum(states.values()) == psutil.virtual_memory().total
    assert 0 < share < 1
