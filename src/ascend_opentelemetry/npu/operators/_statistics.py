"""Statistics of operators and collectives, vectorised: about 0.1 us a record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ascend_opentelemetry.npu.operators import _windows
from ascend_opentelemetry.npu.operators._names import label, operator_type
from ascend_opentelemetry.npu.operators._windows import KEY, WINDOW, Ints, Windows, as_ints

#: Upper bounds of the histogram's buckets, ns: 1 us to 100 ms.
BOUNDS_NS = (*(step * 10**power for power in range(3, 8) for step in (1, 2, 5)), 10**8)
BUCKETS = len(BOUNDS_NS) + 1
#: Series of operators beside ``OTHER``.
MAX_SERIES = 100
OTHER = "__other__"

#: Columns of ``Statistics.rows`` after ``WINDOW`` and ``KEY``; times are ns, ``AMOUNT`` is what the caller counts (bytes).
COUNT, TOTAL, AMOUNT, HISTOGRAM = 2, 3, 4, 5
MIN, FIRST, MAX, LAST = (HISTOGRAM + BUCKETS + number for number in range(4))
_BLOCKS = ((COUNT, MIN, np.add), (MIN, MAX, np.minimum), (MAX, LAST + 1, np.maximum))
#: A kept series is replaced by one that took more than this many times as long.
_HYSTERESIS = 1.5

K = TypeVar("K", bound=Hashable)


class Operator(NamedTuple):
    """A series: ``device`` is the number of the NPU as text, or empty."""

    type: str
    core: str
    device: str = ""

    @classmethod
    def of(cls, raw: tuple[str, str | None, str, str]) -> Operator:
        """Of name, recorded type, core type and device."""
        name, given, core, device = raw
        return cls(operator_type(name, given), label(core), device)


class Keys(dict[Any, int], Generic[K]):
    """Numbers for keys: ``keys[raw]`` is the number of the key that ``make`` makes of it, always the same.

    Args:
        make: the key of what was recorded; many raw values may have one key.
    """

    _MAX_RAW = 65_536

    def __init__(self, make: Callable[[Any], K]) -> None:
        super().__init__()
        self._make = make
        self._numbers: dict[K, int] = {}
        #: The key of each number.
        self.keys_by_number: list[K] = []

    def __missing__(self, raw: Any) -> int:
        number = self.number(self._make(raw))
        if len(self) >= self._MAX_RAW:
            self.clear()
        self[raw] = number
        return number

    def number(self, key: K) -> int:
        """The number of a key."""
        number = self._numbers.setdefault(key, len(self.keys_by_number))
        if number == len(self.keys_by_number):
            self.keys_by_number.append(key)
        return number


class Statistics(Windows):
    """Count, total, smallest, largest and histogram of durations, a window and key.

    ``rows()`` has the columns above; ``FIRST`` is the earliest start, ``LAST`` the latest end.

    Args:
        width_ns: width of a window, ns since 1970; 0: the caller numbers the windows.
    """

    def __init__(self, width_ns: int = 0, **options: Any) -> None:
        super().__init__(width_ns, _BLOCKS, **options)

    def add(
        self,
        keys: Sequence[int] | Ints,
        starts: Sequence[int] | Ints,
        durations: Sequence[int] | Ints,
        amounts: Sequence[int] | Ints | None = None,
        windows: Sequence[int] | Ints | None = None,
    ) -> None:
        """Add records.

        Args:
            keys: numbers, of ``Keys``.
            starts: ns since 1970.
            durations: ns.
            amounts: summed, e.g. bytes.
            windows: numbers of the windows; by default, those that the starts lie in (0 without a width).
        """
        number, start, duration = as_ints(keys), as_ints(starts), as_ints(durations)
        if not len(number):
            return
        if windows is not None:
            window = as_ints(windows)
        else:
            window = start // self.width_ns if self.width_ns else np.zeros_like(start)
        order = np.lexsort((number, window))
        number, start, duration, window = number[order], start[order], duration[order], window[order]
        begins = _windows.group_starts(window, number)
        rows = np.empty((len(begins), self._columns), dtype=np.int64)
        rows[:, WINDOW], rows[:, KEY] = window[begins], number[begins]
        sizes = np.diff(np.append(begins, len(number)))
        rows[:, COUNT] = sizes
        rows[:, TOTAL] = np.add.reduceat(duration, begins)
        rows[:, AMOUNT] = 0 if amounts is None else np.add.reduceat(as_ints(amounts)[order], begins)
        bucket = np.searchsorted(BOUNDS_NS, duration) + np.repeat(np.arange(len(begins)) * BUCKETS, sizes)
        rows[:, HISTOGRAM:MIN] = np.bincount(bucket, minlength=len(begins) * BUCKETS).reshape(-1, BUCKETS)
        rows[:, MIN] = np.minimum.reduceat(duration, begins)
        rows[:, MAX] = np.maximum.reduceat(duration, begins)
        rows[:, FIRST] = np.minimum.reduceat(start, begins)
        rows[:, LAST] = np.maximum.reduceat(start + duration, begins)
        self._append(rows)


def by_key(rows: Ints) -> Ints:
    """One row a key, over all windows."""
    rows = rows.copy()
    rows[:, WINDOW] = 0
    return _windows.merge(rows, _BLOCKS)


def fold(
    rows: Ints, keys: Keys[Operator], limit: int = MAX_SERIES, kept: set[tuple[str, str]] | None = None
) -> tuple[Ints, set[tuple[str, str]]]:
    """Rows of all but the ``limit`` longest series as rows of ``OTHER``.

    Args:
        rows: of a ``Statistics``.
        keys: of those rows; gets a key for ``OTHER`` where needed.
        limit: number of pairs of operator type and core type that stay; devices do not count.
        kept: pairs that stayed before, and do so again unless another took much longer.

    Returns:
        The rows, and the pairs that stayed.
    """
    totals: dict[tuple[str, str], float] = {}
    for number, total in by_key(rows)[:, [KEY, TOTAL]].tolist():
        type_, core, _ = keys.keys_by_number[number]
        bonus = _HYSTERESIS if kept and (type_, core) in kept else 1
        totals[type_, core] = totals.get((type_, core), 0) + total * bonus
    stay = set(sorted(totals, key=lambda pair: totals[pair], reverse=True)[:limit])
    if len(stay) == len(totals):
        return rows, stay
    numbers = np.arange(len(keys.keys_by_number))
    for number, key in enumerate(list(keys.keys_by_number)):
        if (key.type, key.core) not in stay:
            numbers[number] = keys.number(Operator(OTHER, "", key.device))
    rows = rows.copy()
    rows[:, KEY] = numbers[rows[:, KEY]]
    return _windows.merge(rows, _BLOCKS), stay
