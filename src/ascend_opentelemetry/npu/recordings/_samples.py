"""Samples of memory and bandwidth: of each series the last, the largest and the mean value a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ascend_opentelemetry.npu.operators._windows import Ints, Windows, as_ints, merge

#: Columns of ``Samples.rows`` after ``WINDOW`` and ``KEY``: number of samples, their sum, time (ns since 1970) and value of
#: the last one, the largest value, time of the first one.
SAMPLES, SUM, LAST_NS, LAST_VALUE, MAX_VALUE, FIRST_NS = 2, 3, 4, 5, 6, 7
_BLOCKS = (
    (SAMPLES, LAST_NS, np.add),
    (LAST_NS, MAX_VALUE, None),
    (MAX_VALUE, FIRST_NS, np.maximum),
    (FIRST_NS, FIRST_NS + 1, np.minimum),
)


class Samples(Windows):
    """Takes samples in any order.

    Args:
        width_ns: width of a window, ns.
    """

    def __init__(self, width_ns: int, **options: Any) -> None:
        super().__init__(width_ns, _BLOCKS, order_by=LAST_NS, **options)

    def add(self, keys: Sequence[int] | Ints, times: Sequence[int] | Ints, values: Sequence[int] | Ints) -> None:
        """Add samples: numbers of series, ns since 1970, whole numbers."""
        time, value = as_ints(times), as_ints(values)
        ones = np.ones_like(time)
        rows = np.stack([time // self.width_ns, as_ints(keys), ones, value, time, value, value, time], axis=1)
        self._append(merge(rows, self._blocks, self._order_by))
