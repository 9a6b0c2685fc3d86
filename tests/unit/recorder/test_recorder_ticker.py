from __future__ import annotations

import threading
import time

from ascend_opentelemetry.recorder import _ticker
from ascend_opentelemetry.recorder._ticker import Ticker


class Clock:
    """Time that passes only while the ticker waits, or as a call takes it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[float] = []

    def monotonic(self) -> float:
        return self.now


class Waits:
    """Stands in for ``threading.Event``: a wait takes exactly its time, plus ``late``."""

    def __init__(self, clock: Clock, ticks: int, late: float = 0.0) -> None:
        self._clock = clock
        self._ticks = ticks
        self._late = late

    def wait(self, timeout: float) -> bool:
        self._clock.now += max(timeout, 0.0) + self._late
        self._ticks -= 1
        return self._ticks < 0


def run(clock: Clock, monkeypatch, waits: Waits, takes: dict[int, float], hertz: float = 10) -> Ticker:
    monkeypatch.setattr(_ticker, "time", clock)

    def call() -> None:
        clock.calls.append(round(clock.now - 1000, 6))
        clock.now += takes.get(len(clock.calls), 0.0)

    ticker = Ticker("test", hertz, call)
    monkeypatch.setattr(ticker, "_stopped", waits)
    ticker._run()
    return ticker


def test_ticks_are_multiples_of_the_period_from_the_start(monkeypatch) -> None:
    clock = Clock()
    ticker = run(clock, monkeypatch, Waits(clock, 5, late=0.003), {})
    # each wait is 3 ms late, and the next one does not start from there
    assert clock.calls == [0.003, 0.103, 0.203, 0.303, 0.403]
    assert ticker.missed == 0


def test_a_call_that_takes_its_time_shifts_nothing(monkeypatch) -> None:
    clock = Clock()
    ticker = run(clock, monkeypatch, Waits(clock, 4), {1: 0.05, 2: 0.09})
    assert clock.calls == [0.0, 0.1, 0.2, 0.3]
    assert ticker.missed == 0


def test_missed_ticks_are_left_out_and_counted(monkeypatch) -> None:
    clock = Clock()
    ticker = run(clock, monkeypatch, Waits(clock, 4), {2: 0.35})
    # the call at 0.1 ends at 0.45: 0.2, 0.3 and 0.4 are gone, nothing comes in a burst
    assert clock.calls == [0.0, 0.1, 0.5, 0.6]
    assert ticker.missed == 3


def test_a_stopped_ticker_calls_no_more_and_waits_for_a_running_call() -> None:
    entered, ended = threading.Event(), threading.Event()
    calls: list[str] = []

    def call() -> None:
        calls.append(threading.current_thread().name)
        entered.set()
        time.sleep(0.1)
        ended.set()

    ticker = Ticker("a-name", 50, call)
    ticker.start()
    assert entered.wait(5)
    ticker.stop(5)
    assert ended.is_set()
    assert not ticker._thread.is_alive()
    assert calls == ["a-name"]
    assert ticker._thread.daemon


def test_a_ticker_can_stop_itself() -> None:
    ticker = Ticker("self", 50, lambda: ticker.stop())
    ticker.start()
    ticker._thread.join(5)
    assert not ticker._thread.is_alive()
