from __future__ import annotations

import json
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ascend_opentelemetry.recorder import Recorder, RecordType, getrandbits


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.shutdown(1)


def in_child(function: Callable[[], Any]) -> Any:
    """What the function returns in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: threads and fork
        pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(function())
        except BaseException:
            answer = json.dumps(traceback.format_exc())
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def test_a_child_starts_with_nothing_of_the_parents(recorder, sink, number) -> None:
    for value in range(3):
        recorder.emit(number(value))  # not started: they wait
    recorder.dropped = 4
    inherited = in_child(lambda: (len(recorder.queue), recorder.dropped))
    assert inherited == [0, 0]
    assert (len(recorder.queue), recorder.dropped) == (3, 4)


def test_the_drain_of_a_child_takes_its_records_to_the_same_sinks(recorder, sink, number) -> None:
    recorder.start([sink])
    recorder.emit(number(1))
    assert recorder.flush(5) is True

    def child() -> Any:
        sink.calls.clear()
        recorder.emit(number(2))
        complete = recorder.flush(5)
        threads = [thread.name for thread in threading.enumerate()]
        return complete, sink.values, threads.count("ascend-otel-drain")

    assert in_child(child) == [True, [1, 2], 1]
    assert sink.values == [1]
    recorder.emit(number(3))
    assert recorder.flush(5) is True
    assert sink.values == [1, 3]


def test_sinks_hear_of_the_fork_once_and_before_any_record(recorder, sink, number) -> None:
    recorder.start([sink])
    recorder.flush(5)
    sink.calls.clear()

    def child() -> Any:
        recorder.emit(number(2))
        recorder.flush(5)
        return [call for call in sink.calls if call in ("after_fork", "write")]

    assert in_child(child) == ["after_fork", "write"]
    assert "after_fork" not in sink.calls


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_fork_while_the_drain_is_busy_does_not_hang_the_child(recorder, sink, number, until, method) -> None:
    sink.block[method] = threading.Event()
    recorder.start([sink])
    recorder.emit(number(1))
    if method == "flush":
        threading.Thread(target=recorder.flush, args=(5,), daemon=True).start()
    until(lambda: method in sink.calls)

    def child() -> Any:
        sink.block.clear()
        recorder.emit(number(2))
        return recorder.flush(5), [value for value in sink.values if value != 1]

    assert in_child(child) == [True, [2]]
    sink.block[method].set()


def test_a_sink_that_fails_after_a_fork_does_not_stop_the_others(recorder, make_sink, number) -> None:
    broken, healthy = make_sink(), make_sink()
    broken.raises = {"after_fork"}
    recorder.start([broken, healthy])

    def child() -> Any:
        recorder.emit(number(5))
        return recorder.flush(5), healthy.values

    assert in_child(child) == [True, [5]]


def test_a_child_has_ids_of_its_own(recorder) -> None:
    ours = in_child(lambda: [getrandbits(64) for _ in range(4)])
    assert set(ours).isdisjoint(getrandbits(64) for _ in range(4))


def test_switches_and_shutdown_are_inherited(recorder, sink, number) -> None:
    record_type = recorder.register(RecordType("Test", "call"))
    recorder.set_traces(True)
    assert in_child(lambda: (recorder.on, record_type.traces_on)) == [True, True]
    recorder.start([sink])
    recorder.shutdown(5)

    def child() -> Any:
        recorder.emit(number(1))
        return recorder.on, recorder.dropped, [thread.name for thread in threading.enumerate()]

    assert in_child(child) == [False, 1, ["MainThread"]]
