"""Sources hear of windows in order, and a broken one harms nobody."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import pytest

from ascend_opentelemetry._sources import Sources
from ascend_opentelemetry.recorder import SourceWindow
from tests.unit.recorder.test_recorder_fork import in_child

WINDOW = SourceWindow(config=None, folder=Path("/prof/1126-0300"), opened_ns=5)


class Journal:
    """A source that writes down what it is told."""

    def __init__(self, name: str, said: list[tuple[object, ...]], raises: str = "") -> None:
        self.name = name
        self._said = said
        self._raises = raises

    def forget(self) -> None:
        self._said.clear()

    def _tell(self, *what: object) -> None:
        if what[0] == self._raises:
            raise OSError("libdcmi.so is gone")
        self._said.append((self.name, *what))

    def start(self, *, leader: bool) -> None:
        self._tell("start", leader)

    def open(self, window: SourceWindow) -> None:
        self._tell("open", window)

    def close(self) -> None:
        self._tell("close")

    def shutdown(self, timeout: float) -> None:
        self._tell("shutdown", timeout)

    def after_fork(self) -> None:
        self._tell("after_fork")

    def describe(self) -> dict[str, object]:
        self._tell("describe")
        return {"usable": True}


@pytest.fixture
def said() -> list[tuple[object, ...]]:
    return []


def started(*sources: Journal) -> Sources:
    """Sources that have been told of the start, which is in no journal."""
    made = Sources(sources)
    made.start(leader=True)
    for source in sources:
        source.forget()
    return made


def test_a_source_is_told_of_start_window_and_end(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.start(leader=True)
    sources.set_window(WINDOW)
    sources.set_window(None)
    sources.shutdown(2.0)
    assert said[:-1] == [("host", "start", True), ("host", "open", WINDOW), ("host", "close")]
    assert said[-1][:2] == ("host", "shutdown")


def test_a_window_that_opens_before_the_start_is_told_after_it(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.set_window(WINDOW)
    assert (said, sources.describe()) == ([], {})
    sources.start(leader=True)
    assert said == [("host", "start", True), ("host", "open", WINDOW)]


def test_a_window_that_closes_before_the_start_is_never_told(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.set_window(WINDOW)
    sources.set_window(None)
    sources.start(leader=True)
    sources.shutdown(2.0)
    assert [what[1] for what in said] == ["start", "shutdown"]


def test_a_second_window_closes_the_first(said) -> None:
    sources = started(Journal("host", said))
    sources.set_window(WINDOW)
    sources.set_window(WINDOW)
    assert [what[1] for what in said] == ["open", "close", "open"]


def test_a_shutdown_closes_an_open_window_and_ends_sources_in_reverse_order(said) -> None:
    sources = started(Journal("host", said), Journal("dcmi", said))
    sources.set_window(WINDOW)
    said.clear()
    sources.shutdown(2.0)
    sources.shutdown(2.0)
    sources.set_window(WINDOW)
    sources.set_window(None)
    assert [what[:2] for what in said] == [
        ("host", "close"), ("dcmi", "close"), ("dcmi", "shutdown"), ("host", "shutdown"),
    ]  # fmt: skip
    first, second = (what[2] for what in said[2:])
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert 2.0 >= first >= second > 0, "they share the time"


class Measuring(Journal):
    """With instruments, which readers collect after the shutdown too."""

    def silence(self) -> None:
        self._tell("silence")


def test_instruments_of_a_process_that_goes_on_are_silent_after_the_shutdown(said) -> None:
    sources = started(Journal("host", said), Measuring("dcmi", said), Measuring("allocator", said, raises="silence"))
    sources.silence()
    sources.shutdown(2.0)
    said.clear()
    sources.silence()
    assert said == [("dcmi", "silence")]


def test_a_shutdown_waits_for_a_window_that_is_being_opened(said) -> None:
    class Slow(Journal):
        def open(self, window: SourceWindow) -> None:
            opening.set()
            go_on.wait(10)
            super().open(window)

    opening, go_on = threading.Event(), threading.Event()
    sources = started(Slow("host", said))
    drain = threading.Thread(target=sources.set_window, args=[WINDOW])
    drain.start()
    opening.wait(10)
    end = threading.Thread(target=sources.shutdown, args=[10.0])
    end.start()
    go_on.set()
    drain.join(10)
    end.join(10)
    assert [what[1] for what in said] == ["open", "close", "shutdown"]


def test_a_shutdown_does_not_wait_for_a_source_that_hangs(said) -> None:
    class Hanging(Journal):
        def open(self, window: SourceWindow) -> None:
            opening.set()
            go_on.wait(10)

    opening, go_on = threading.Event(), threading.Event()
    sources = started(Hanging("dcmi", said), Journal("host", said))
    drain = threading.Thread(target=sources.set_window, args=[WINDOW])
    drain.start()
    opening.wait(10)
    sources.shutdown(0.05)
    assert ("host", "shutdown", 0.0) in said
    go_on.set()
    drain.join(10)


def test_a_forked_child_starts_again_and_is_no_leader(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.start(leader=True)
    sources.set_window(WINDOW)
    said.clear()
    sources.after_fork()
    assert said == [("host", "after_fork"), ("host", "start", False), ("host", "open", WINDOW)]


def test_a_child_does_not_wait_for_what_the_parent_was_doing(said) -> None:
    sources = started(Journal("host", said))

    def child() -> list[object]:
        signal.alarm(10)
        sources.after_fork()
        return [what[1] for what in said]

    with sources._lock:
        assert in_child(child) == ["after_fork", "start"]


def test_a_source_that_raises_is_ended_with_one_warning_and_the_others_go_on(said, caplog) -> None:
    sources = started(Journal("dcmi", said, raises="open"), Journal("host", said))
    with caplog.at_level(logging.WARNING):
        sources.set_window(WINDOW)
        sources.set_window(None)
        sources.set_window(WINDOW)
    assert [what[:2] for what in said] == [
        ("dcmi", "shutdown"), ("host", "open"), ("host", "close"), ("host", "open"),
    ]  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "dcmi is not collected any more: OSError('libdcmi.so is gone')"
    ]
    assert sources.describe() == {
        "dcmi": {"reason": "OSError: libdcmi.so is gone"},
        "host": {"usable": True},
    }
