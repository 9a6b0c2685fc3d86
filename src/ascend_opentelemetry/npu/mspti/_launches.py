"""Which kernel was launched when, and in which forward: by correlation id, else by the lag that others had."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ascend_opentelemetry.npu.mspti._library import EXTERNAL_KIND, Kind
from ascend_opentelemetry.npu.mspti._records import Records
from ascend_opentelemetry.npu.operators._live import SECOND_NS, SLACK_NS
from ascend_opentelemetry.npu.operators._windows import Ints

#: How long after its launch a kernel may start; what seems to be later is another use of the id.
LONGEST_LAG_NS = 2 * SECOND_NS


class Launched(NamedTuple):
    """Of each kernel: ns since 1970, and the span id of its forward (0: not said by the library)."""

    times: Ints
    spans: npt.NDArray[np.uint64]


class _Known:
    """What the last seconds said of correlation ids; of each the first word counts.

    Later API calls of a thread have the id of its last launch.
    """

    def __init__(self) -> None:
        self._batches: deque[tuple[int, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]] = deque()

    def add(self, time_ns: int, ids: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> None:
        while self._batches and self._batches[0][0] < time_ns - 2 * LONGEST_LAG_NS:
            self._batches.popleft()
        if len(ids):
            self._batches.append((time_ns, ids, values))

    def find(self, ids: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
        """Whether each id is known, and its value."""
        if not self._batches:
            return np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=np.uint64)
        known, first = np.unique(np.concatenate([batch[1] for batch in self._batches]), return_index=True)
        values = np.concatenate([batch[2] for batch in self._batches])[first]
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return known[place] == ids, values[place]


class Launches:
    """Remembers API calls and external ids for the kernels that come later."""

    def __init__(self) -> None:
        self._apis = _Known()
        self._spans = _Known()
        #: Between launch and start, as measured; ns.
        self.lag_ns = 0

    def add(self, records: dict[Kind, Records], time_ns: int) -> None:
        """Take note of a buffer.

        Args:
            records: of the buffer.
            time_ns: now, ns since 1970.
        """
        if Kind.API in records:
            apis = records[Kind.API]
            apis = apis[np.argsort(apis["start"], kind="stable")]
            self._apis.add(time_ns, apis["correlation"], apis["start"])
        if Kind.EXTERNAL_CORRELATION in records:
            external = records[Kind.EXTERNAL_CORRELATION]
            external = external[external["external_kind"] == EXTERNAL_KIND]
            self._spans.add(time_ns, external["correlation"], external["external"])

    def of(self, kernels: Records) -> Launched:
        """When these were launched.

        The kernels of a replayed graph have the id of its capture, all replays the same: their launch is known by the
        lag of others alone.
        """
        starts = kernels["start"].astype(np.int64)
        ids = kernels["correlation"]
        _, numbers, counts = np.unique(ids, return_inverse=True, return_counts=True)
        known, times = self._apis.find(ids)
        lags = starts - times.astype(np.int64)
        known &= (counts[numbers] == 1) & (lags >= -SLACK_NS) & (lags <= LONGEST_LAG_NS)
        if known.any():
            self.lag_ns = max(int(np.median(lags[known])), 0)
        said, spans = self._spans.find(ids)
        return Launched(
            np.where(known, times.astype(np.int64), starts - self.lag_ns),
            np.where(said & known, spans, np.uint64(0)),
        )
