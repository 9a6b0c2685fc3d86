"""Rows a window of time and a key, merged as they come: the memory is that of the windows, not of the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]

#: The first columns of every table; the third counts records.
WINDOW, KEY, RECORDS = 0, 1, 2

#: Columns from, to (without the last), and what merges two rows of them; None: those of the later row.
Block: TypeAlias = tuple[int, int, "np.ufunc | None"]


def as_ints(values: Sequence[int] | Ints) -> Ints:
    """As an array.

    Raises:
        OverflowError: a number does not fit into 64 bits.
    """
    return np.asarray(values, dtype=np.int64)


#: Ends of what a recording may say: a time in the year 2116, ns; a duration of 104 days, or 8 PiB.
MAX_TIME, MAX_AMOUNT = 2**62, 2**53


def are_sound(times: Ints, *amounts: Ints) -> npt.NDArray[np.bool_]:
    """Which records have a time, and amounts (ns or bytes) that can be: sums of others would overflow, or go down."""
    sound = (times > 0) & (times < MAX_TIME)
    for amount in amounts:
        sound &= (amount >= 0) & (amount < MAX_AMOUNT)
    return sound


def group_starts(*sorted_columns: Ints) -> Ints:
    """Index of the first row of each run of equal rows."""
    changes = np.zeros(len(sorted_columns[0]), dtype=bool)
    changes[:1] = True
    for column in sorted_columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changes)


def merge(rows: Ints, blocks: Sequence[Block], order_by: int | None = None) -> Ints:
    """Rows of the same window and key as one, sorted by both; ``order_by``: column that says which row is later."""
    if not len(rows):
        return rows
    columns = [rows[:, KEY], rows[:, WINDOW]]
    order = np.lexsort([*([] if order_by is None else [rows[:, order_by]]), *columns])
    rows = rows[order]
    starts = group_starts(rows[:, WINDOW], rows[:, KEY])
    merged = rows[np.append(starts[1:], len(rows)) - 1]
    for begin, end, how in blocks:
        if how is not None:
            merged[:, begin:end] = how.reduceat(rows[:, begin:end], starts, axis=0)
    return merged


class Windows:
    """A table that grows by batches.

    Args:
        width_ns: width of a window, ns; windows get twice as wide when there are too many rows. 0 for windows that
            the caller numbers: rows of new windows are then left out, and ``left_out`` says how many records.
        blocks: how the columns after the first two merge.
        order_by: column that says which of two rows is later.
        max_rows: above it, windows get wider.
    """

    def __init__(
        self, width_ns: int, blocks: Sequence[Block], order_by: int | None = None, max_rows: int = 100_000
    ) -> None:
        self.width_ns = width_ns
        self.left_out = 0
        self._blocks = blocks
        self._order_by = order_by
        self._max_rows = max_rows
        self._columns = max(end for _, end, _ in blocks)
        self._parts: list[Ints] = []
        self._pending = 0

    def _append(self, rows: Ints) -> None:
        self._parts.append(rows)
        self._pending += len(rows)
        if self._pending > self._max_rows:
            self._shrink()

    def _shrink(self) -> None:
        """To half of the rows, unless one window alone has more."""
        rows = self.rows()
        half = self._max_rows // 2
        while len(rows) > half and rows[0, WINDOW] != rows[-1, WINDOW]:
            if self.width_ns:
                self.width_ns *= 2
                rows[:, WINDOW] //= 2
                rows = merge(rows, self._blocks, self._order_by)
            else:
                stays = rows[:, WINDOW] < max(rows[half, WINDOW], rows[0, WINDOW] + 1)
                self.left_out += int(rows[~stays, RECORDS].sum())
                rows = rows[stays]
        self._parts, self._pending = [rows], len(rows)
        self._max_rows = max(self._max_rows, 2 * len(rows))

    def rows(self) -> Ints:
        """One row a window and key, sorted by both."""
        if not self._parts:
            return np.empty((0, self._columns), dtype=np.int64)
        rows = merge(np.concatenate(self._parts), self._blocks, self._order_by)
        self._parts, self._pending = [rows], len(rows)
        return rows

    def take(self) -> Ints:
        """The rows, and begin anew."""
        rows = self.rows()
        self._parts, self._pending = [], 0
        return rows

    def take_before(self, window: int) -> Ints:
        """The rows of windows with a lower number, which are left out from now on."""
        rows = self.take()
        due = rows[:, WINDOW] < window
        self._append(rows[~due])
        return rows[due]
