"""A recorder that keeps its records in the queue, and a handler that notes what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import context as otel_context

from ascend_opentelemetry.recorder import Record, RecordType
from ascend_opentelemetry.recorder import recorder as global_recorder


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    """Whatever a hook does, the current context is what it was."""
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() is before


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has said is news to the next one."""
    monkeypatch.setenv("_ASCEND_OTEL_SAID", "")


@pytest.fixture
def recorder() -> Iterator[Any]:
    """The recorder of the process, tracing, without a drain."""
    global_recorder.queue.clear()
    global_recorder.dropped = 0
    global_recorder.set_traces(True)
    yield global_recorder
    global_recorder.set_traces(False)
    global_recorder.set_native(None)
    global_recorder.unregister_all()
    global_recorder.queue.clear()
    global_recorder.dropped = 0


@pytest.fixture
def records(recorder: Any) -> Callable[[], list[Record]]:
    """Takes the records made so far."""

    def take() -> list[Record]:
        return [recorder.queue.popleft() for _ in range(len(recorder.queue))]

    return take


@pytest.fixture
def call_type(recorder: Any) -> RecordType:
    return recorder.register(RecordType("Test", "call"))


class Switch:
    on = True


class NotingHandler:
    """Notes each end of a call; ``raises`` names the methods that fail."""

    def __init__(self) -> None:
        self.switch = Switch()
        self.raises: set[str] = set()
        self.entered: list[tuple[Any, Any]] = []
        self.ended: list[tuple[Any, ...]] = []

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self.entered.append((args, dict(kwargs)))
        if "enter" in self.raises:
            raise RuntimeError("enter is broken")
        return len(self.entered)

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: BaseException | None) -> None:
        self.ended.append((state, args, dict(kwargs), result, type(error).__name__))
        if "exit" in self.raises:
            raise RuntimeError("exit is broken")


@pytest.fixture
def handler() -> NotingHandler:
    return NotingHandler()
