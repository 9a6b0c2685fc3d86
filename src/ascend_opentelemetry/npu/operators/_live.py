"""What the NPU executed in a forward of the model, or in a second, as metrics and ``npu.operator.window`` events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from ascend_opentelemetry.npu import _events
from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._metrics import OperatorMetrics
from ascend_opentelemetry.npu.operators._statistics import Keys, Operator, Statistics
from ascend_opentelemetry.npu.operators._window_event import window_event
from ascend_opentelemetry.npu.operators._windows import KEY, WINDOW, Ints, as_ints
from ascend_opentelemetry.recorder import FORWARDS_KEPT, Forward, SpanIds, forwards

SECOND_NS = 10**9
#: Clocks of host and device differ by some us; a kernel may seem to start before its launch.
SLACK_NS = 10_000

Emit = Callable[..., None]


class OperatorWindows:
    """Takes operators in any order; used by one thread.

    An operator belongs to the traced forward that launched it, else to the second in which it began.

    Args:
        metrics: get every operator.
        emit: of ``_events``.
        known: gives the traced forwards that ended after a time, ns since 1970.
    """

    def __init__(
        self,
        metrics: OperatorMetrics | None = None,
        emit: Emit = _events.emit,
        known: Callable[[int], Sequence[Forward]] = forwards.ended_after,
    ) -> None:
        #: Numbers for name, recorded type (None), core type and number of the NPU (text).
        self.keys: Keys[Operator] = Keys(Operator.of)
        self.metrics = metrics or OperatorMetrics()
        #: Events emitted.
        self.events = 0
        #: Operators in these.
        self.told = 0
        self._emit = emit
        self._known = known
        self._seconds = Statistics(SECOND_NS)
        self._by_forward = Statistics()
        self._numbers: dict[int, int] = {}
        self._forwards: dict[int, Forward] = {}
        self._next = 0

    def add(
        self,
        keys: Sequence[int] | Ints,
        starts: Sequence[int] | Ints,
        durations: Sequence[int] | Ints,
        launches: Sequence[int] | Ints | None = None,
        spans: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Add operators.

        Args:
            keys: numbers, of ``self.keys``.
            starts: ns since 1970.
            durations: ns.
            launches: when the host launched each, ns since 1970; by default, when it started.
            spans: the span of the forward that is known to have launched each; 0 where it is not.
        """
        number, start, duration = as_ints(keys), as_ints(starts), as_ints(durations)
        if not len(number):
            return
        self.metrics.add_operators(self.keys.keys_by_number, number, duration)
        window = self._windows_of(start if launches is None else as_ints(launches), spans)
        alone = window < 0
        self._seconds.add(number[alone], start[alone], duration[alone])
        inside = ~alone
        self._by_forward.add(number[inside], start[inside], duration[inside], windows=window[inside])

    @property
    def left_out(self) -> int:
        """Operators that are in no window: there were too many forwards at a time."""
        return self._by_forward.left_out

    def _windows_of(self, launches: Ints, spans: npt.NDArray[np.uint64] | None) -> Ints:
        """Number of the forward of each operator, or -1."""
        # a span that the library names may have ended a little before
        since = int(launches.min()) - SECOND_NS
        found = [forward for forward in self._known(since) if self._number(forward) is not None]
        windows = np.full(len(launches), -1, dtype=np.int64)
        if not found:
            return windows
        found.sort(key=lambda forward: forward.start_ns)
        number = as_ints([self._numbers[forward.ids[1]] for forward in found])
        begin = as_ints([forward.start_ns for forward in found])
        end = as_ints([forward.end_ns for forward in found])
        place = np.searchsorted(begin, launches + SLACK_NS, side="right") - 1
        inside = (place >= 0) & (launches <= end[place] + SLACK_NS)
        windows[inside] = number[place[inside]]
        if spans is not None and spans.any():
            ids = np.asarray([forward.ids[1] for forward in found], dtype=np.uint64)
            order = np.argsort(ids)
            place = np.minimum(np.searchsorted(ids[order], spans), len(ids) - 1)
            exact = ids[order][place] == spans
            windows[exact] = number[order][place[exact]]
        return windows

    def _number(self, forward: Forward) -> int | None:
        """The number of a forward, in the order of ends; None where its event is out already."""
        span_id = forward.ids[1]
        number = self._numbers.get(span_id)
        if number is None:
            number = self._numbers[span_id] = self._next
            self._forwards[number] = forward
            self._next += 1
        return number if number in self._forwards else None

    def settle(self, until_ns: int) -> None:
        """Emit the events of windows that ended before this time."""
        for rows in _by_window(self._seconds.take_before(until_ns // self._seconds.width_ns), self.keys):
            self._emit_window(rows, None)
        open_ = [number for number, forward in self._forwards.items() if forward.end_ns >= until_ns]
        first_open = min(open_, default=self._next)
        for rows in _by_window(self._by_forward.take_before(first_open), self.keys):
            self._emit_window(rows, self._forwards[rows[0][WINDOW]].ids)
        for number in [number for number in self._forwards if number < first_open]:
            del self._forwards[number]
        for span_id in list(self._numbers)[: -2 * FORWARDS_KEPT]:
            del self._numbers[span_id]

    def _emit_window(self, rows: Sequence[Sequence[int]], ids: SpanIds | None) -> None:
        keys = self.keys.keys_by_number
        event = window_event(rows, keys, keys[rows[0][KEY]].device, None)
        self._emit(event.name, event.time_ns, dict(event.attributes), body=event.body, ids=ids)
        self.events += 1
        self.told += sum(row[columns.COUNT] for row in rows)


def _by_window(rows: Ints, keys: Keys[Operator]) -> list[list[list[int]]]:
    """Rows of each window and device, the longest first."""

    def group(row: list[int]) -> tuple[Any, ...]:
        return row[WINDOW], keys.keys_by_number[row[KEY]].device

    ordered = sorted(rows.tolist(), key=lambda row: (*group(row), -row[columns.TOTAL]))
    return [list(found) for _, found in groupby(ordered, key=group)]
