"""The host's operators of a recording as metrics and ``npu.operator.window`` events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ascend_opentelemetry.npu.operators._self_times import SelfTimes
from ascend_opentelemetry.npu.torch._profiler import HostOperator

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.operators._live import OperatorWindows

#: ``npu.core.type`` of what the host executes.
CORE = "CPU"
#: Worked on at once, about 1 ms, and seconds until the next: each operator of a step that lets go of the interpreter would
#: wait for this thread to be interrupted else, 5 ms each time.
_READ, _NESTED, _GIVEN = 128, 512, 1024
_PAUSE = 0.004
#: Later than any window.
_ALL = 2**62

T = TypeVar("T")


class HostOperators:
    """Gives operators, one recording after the other; from any thread."""

    def __init__(self) -> None:
        #: Operators so far.
        self.given = 0
        #: No step waits any more: no pauses.
        self.hurried = False
        self._windows: OperatorWindows | None = None
        self._lock = threading.Lock()

    @property
    def events(self) -> int:
        """Window events so far."""
        return self._windows.events if self._windows is not None else 0

    def give(self, operators: Iterable[HostOperator]) -> int:
        """Give the operators of a recording, each with the time that it did not spend in others.

        Args:
            operators: in any order.

        Returns:
            Their number.
        """
        with self._lock:
            return self._give(operators)

    def _give(self, operators: Iterable[HostOperator]) -> int:
        found = [operator for batch in self._batches(operators, _READ) for operator in batch]
        found.sort(key=lambda one: (one[2], -one[3]))
        rows: list[tuple[str, int, int]] = []
        times = SelfTimes[str](lambda name, start, duration: rows.append((name, start, duration)))
        for batch in self._batches(found, _NESTED):
            for thread, name, start, duration in batch:
                times.add(thread, name, start, duration)
        times.end()
        rows.sort(key=lambda row: row[1])
        self._add(rows)
        self.given += len(rows)
        return len(rows)

    def _batches(self, items: Iterable[T], size: int) -> Iterator[list[T]]:
        remaining = iter(items)
        while batch := list(islice(remaining, size)):
            yield batch
            if not self.hurried:
                time.sleep(_PAUSE)

    def _add(self, rows: list[tuple[str, int, int]]) -> None:
        from ascend_opentelemetry.npu.operators._live import OperatorWindows  # numpy, which few processes need

        windows = self._windows = self._windows or OperatorWindows()
        for batch in self._batches(rows, _GIVEN):
            windows.add(
                [windows.keys[name, None, CORE, ""] for name, _, _ in batch],
                [start for _, start, _ in batch],
                [duration for _, _, duration in batch],
            )
            windows.settle(batch[-1][1])
        windows.settle(_ALL)
