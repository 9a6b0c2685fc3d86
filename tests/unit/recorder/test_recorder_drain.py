from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ascend_opentelemetry.recorder import Drain, _drain

THREAD = "ascend-otel-drain"


@pytest.fixture
def queue() -> deque[Any]:
    return deque()


@pytest.fixture
def drain(queue: deque[Any]) -> Iterator[Drain]:
    drain = Drain(queue)
    yield drain
    drain.shutdown(1)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No round happens unless the drain is woken."""
    monkeypatch.setattr(_drain, "INTERVAL", 60.0)


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def drain_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return function(), time.monotonic() - start


def test_rounds_come_by_themselves_in_order(drain, queue, sink, number, until) -> None:
    drain.start([sink])
    queue.extend(map(number, range(10)))
    until(lambda: len(sink.values) == 10)
    assert sink.values == list(range(10))
    until(lambda: sink.calls[-1] == "commit")
    assert "request_flush" not in sink.calls
    assert sink.threads == {THREAD}


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("export", [False, True])
def test_wake_drains_at_once_and_exports_if_asked_to(drain, queue, sink, number, until, export) -> None:
    drain.start([sink])
    queue.append(number(1))
    drain.wake(export)
    until(lambda: "commit" in sink.calls)
    drain.flush(5)
    assert sink.calls[:2] == ["write", "commit"]
    assert ("request_flush" in sink.calls) is export


@pytest.mark.usefixtures("never")
def test_slices_grow_with_the_depth_of_the_queue(drain, queue, sink, number) -> None:
    queue.extend([number(0)] * 64_000)
    drain.start([sink])
    assert drain.flush(10) is True
    assert sink.slices[0] == 8000
    assert sink.slices == sorted(sink.slices, reverse=True)
    assert sink.slices[-2] == 64
    assert sum(sink.slices) == 64_000


def test_a_deep_queue_keeps_up_beside_a_thread_that_never_waits(drain, queue, sink, number, until) -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(100))

    busy = threading.Thread(target=spin, daemon=True)
    busy.start()
    record = number(0)
    drain.start([sink])
    try:
        for _ in range(30):
            queue.extend([record] * 1000)
            time.sleep(0.02)
        until(lambda: len(sink.values) == 30_000)
    finally:
        stop.set()
        busy.join()


@pytest.mark.usefixtures("never")
def test_flush_has_everything_out_and_runs_on_the_drain_thread(drain, queue, sink, number) -> None:
    drain.start([sink])
    queue.extend(map(number, range(200)))
    assert drain.flush(5) is True
    assert sink.values == list(range(200))
    assert sink.calls == ["write"] * 4 + ["commit", "flush"]
    assert 0 < sink.timeouts["flush"] <= 5
    assert sink.threads == {THREAD}
    sink.complete = False
    assert drain.flush(5) is False


def test_flush_ends_although_records_keep_coming(drain, queue, sink, number) -> None:
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            queue.append(number(0))

    producer = threading.Thread(target=produce, daemon=True)
    drain.start([sink])
    producer.start()
    try:
        assert drain.flush(8) is True
    finally:
        stop.set()
        producer.join()


def test_flush_of_a_drain_that_is_not_started_loses_nothing(drain, queue, sink, number) -> None:
    assert drain.flush(0.1) is True
    queue.append(number(1))
    assert drain.flush(0.1) is False
    drain.start([sink])
    assert drain.flush(5) is True
    assert sink.values == [1]


@pytest.mark.parametrize("method", ["write", "commit", "flush"])
def test_a_sink_that_hangs_delays_nobody_beyond_the_timeout(
    drain, queue, make_sink, number, until, blocked, method
) -> None:
    hanging, healthy = make_sink(), make_sink()
    hanging.block[method] = blocked
    drain.start([healthy, hanging])
    queue.append(number(1))
    result, seconds = timed(lambda: drain.flush(0.2))
    assert (result, hanging.calls[-1]) == (False, method)
    assert seconds < 1.5
    _, seconds = timed(lambda: drain.shutdown(0.2))
    assert seconds < 1.5
    assert healthy.calls[-1] == "shutdown"
    assert healthy.timeouts["shutdown"] == 0.0
    assert "shutdown" not in hanging.calls  # its thread is still inside of it


def test_a_sink_that_raises_costs_its_own_records_only(drain, queue, make_sink, number, caplog) -> None:
    broken, healthy = make_sink(), make_sink()
    broken.raises = {"write", "commit", "flush", "shutdown"}
    drain.start([broken, healthy])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            queue.extend(map(number, range(5)))
            assert drain.flush(5) is False
        drain.shutdown(5)
    assert healthy.values == list(range(5)) * 3
    assert healthy.calls[-1] == "shutdown"
    assert drain.lost == {"NotingSink": 15}
    assert sorted(record.getMessage() for record in caplog.records) == [
        f"NotingSink.{method} failed; its data are lost, serving goes on"
        for method in ("commit", "flush", "shutdown", "write")
    ]
    assert "write is broken" in caplog.text


def test_a_second_start_changes_the_sinks_and_adds_no_thread(drain, queue, make_sink, number) -> None:
    first, second = make_sink(), make_sink()
    before = len(drain_threads())
    drain.start([first])
    drain.start([first, second])
    assert len(drain_threads()) == before + 1
    queue.append(number(7))
    assert drain.flush(5) is True
    assert (first.values, second.values) == ([7], [7])


@pytest.mark.usefixtures("never")
def test_shutdown_drains_ends_the_sinks_and_the_thread(drain, queue, sink, number) -> None:
    drain.start([sink])
    queue.extend(map(number, range(3)))
    drain.shutdown(5)
    assert sink.values == [0, 1, 2]
    assert [call for call in sink.calls if call in ("flush", "shutdown")] == ["flush", "shutdown"]
    assert 0 < sink.timeouts["shutdown"] <= 5
    assert drain._thread is not None
    assert not drain._thread.is_alive()
    drain.shutdown(5)
    assert sink.calls.count("shutdown") == 1


def test_it_starts_again_after_a_shutdown(drain, queue, sink, number) -> None:
    drain.start([sink])
    drain.shutdown(5)
    drain.start([sink])
    queue.append(number(4))
    assert drain.flush(5) is True
    assert sink.values == [4]
