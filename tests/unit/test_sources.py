"""Sources hear of windows in order, and a broken one harms nobody."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ascend_opentelemetry._sources import Sources
from ascend_opentelemetry.recorder import SourceWindow

WINDOW = SourceWindow(config=None, folder=Path("/prof/1126-0300"), opened_ns=5)


class Journal:
    """A source that writes down what it is told."""

    def __init__(self, name: str, said: list[tuple[object, ...]], raises: str = "") -> None:
        self.name = name
        self._said = said
        self._raises = raises

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


def test_a_source_is_told_of_start_window_and_end(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.start(leader=True)
    sources.set_window(WINDOW)
    sources.set_window(None)
    sources.shutdown(2.0)
    assert said == [("host", "start", True), ("host", "open", WINDOW), ("host", "close"), ("host", "shutdown", 2.0)]


def test_a_second_window_closes_the_first(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.set_window(WINDOW)
    sources.set_window(WINDOW)
    assert [what[1] for what in said] == ["open", "close", "open"]


def test_a_shutdown_closes_an_open_window_and_ends_sources_in_reverse_order(said) -> None:
    sources = Sources([Journal("host", said), Journal("dcmi", said)])
    sources.set_window(WINDOW)
    said.clear()
    sources.shutdown(2.0)
    sources.shutdown(2.0)
    assert [what[:2] for what in said] == [
        ("host", "close"), ("dcmi", "close"), ("dcmi", "shutdown"), ("host", "shutdown"),
    ]  # fmt: skip


def test_a_forked_child_starts_again_and_is_no_leader(said) -> None:
    sources = Sources([Journal("host", said)])
    sources.start(leader=True)
    sources.set_window(WINDOW)
    said.clear()
    sources.after_fork()
    assert said == [("host", "after_fork"), ("host", "start", False), ("host", "open", WINDOW)]


def test_a_source_that_raises_is_ended_with_one_warning_and_the_others_go_on(said, caplog) -> None:
    sources = Sources([Journal("dcmi", said, raises="open"), Journal("host", said)])
    with caplog.at_level(logging.WARNING):
        sources.set_window(WINDOW)
        sources.set_window(None)
        sources.set_window(WINDOW)
    assert [what[:2] for what in said] == [("host", "open"), ("host", "close"), ("host", "open")]
    assert [record.getMessage() for record in caplog.records] == [
        "dcmi is not collected any more: OSError('libdcmi.so is gone')"
    ]
    assert sources.describe() == {
        "dcmi": {"reason": "OSError: libdcmi.so is gone"},
        "host": {"usable": True},
    }
