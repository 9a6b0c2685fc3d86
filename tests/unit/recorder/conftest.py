"""A sink that notes what is done to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ascend_opentelemetry.recorder import Record, RecordType

NUMBERS = RecordType("Test", "number", ("value",))


class NotingSink:
    """Keeps records and calls; ``block`` (method -> event) makes a method wait, ``raises`` makes it fail."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.slices: list[int] = []
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.timeouts: dict[str, float] = {}
        self.block: dict[str, threading.Event] = {}
        self.raises: set[str] = set()
        self.complete = True

    def _note(self, method: str) -> None:
        self.calls.append(method)
        self.threads.add(threading.current_thread().name)
        if method in self.block:
            self.block[method].wait(10)
        if method in self.raises:
            raise RuntimeError(f"{method} is broken")

    def write(self, records: Sequence[Record]) -> None:
        self._note("write")
        self.values += [record[5][0] for record in records]
        self.slices.append(len(records))

    def commit(self) -> None:
        self._note("commit")

    def request_flush(self) -> None:
        self._note("request_flush")

    def flush(self, timeout: float) -> bool:
        self.timeouts["flush"] = timeout
        self._note("flush")
        return self.complete

    def shutdown(self, timeout: float) -> None:
        self.timeouts["shutdown"] = timeout
        self._note("shutdown")

    def after_fork(self) -> None:
        self._note("after_fork")


@pytest.fixture
def make_sink() -> Callable[[], NotingSink]:
    return NotingSink


@pytest.fixture
def sink() -> NotingSink:
    return NotingSink()


@pytest.fixture
def number() -> Callable[[int], Record]:
    """A record that holds a number."""
    return lambda value: (NUMBERS, 1, 2, threading.get_ident(), None, (value,), None)


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "waited for 10 s"
            time.sleep(0.002)

    return wait
