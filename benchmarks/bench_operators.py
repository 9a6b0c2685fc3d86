"""Operators by MSPTI: from the buffers of the library to metrics and windows, as multiples of plain numpy.

    python -m benchmarks operators [--quick]

The stand-in of ``libmspti.so`` (a C compiler is needed) makes kernels from four threads. The reference has as
many records in one array and counts and sums durations by name with ``numpy.unique`` and ``numpy.bincount``: it neither
walks buffers nor makes histograms, windows or metrics.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._library import Kind, Library
from ascend_opentelemetry.npu.mspti._operators import MsptiOperators
from ascend_opentelemetry.npu.mspti._records import Names, Reader, Records
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.npu.operators._metrics import OperatorMetrics
from ascend_opentelemetry.recorder import Forward
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti

THREADS = 4
KERNELS = 600_000
#: The goal for the whole way, in multiples of the reference: 0.5 us where that takes 0.04 us.
MOST = 12.0


class _Bench:
    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self._stand_in = MsptiStandIn(build_mspti(folder))
        library = Library(self._stand_in.path)
        self._session = MsptiSession(library, Buffers(threading.Event()), Reader(library))
        self._provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        #: One traced forward in a hundred, as the sampled steps are.
        base = self._stand_in.base
        traced = [
            Forward(start, start + 10**6, (1, 1 + number, 0, 1))
            for number, start in enumerate(range(base, base + count * 1000, 10**8))
        ]
        self._traced = lambda after: [forward for forward in traced if forward.end_ns > after]
        self._none: list[Forward] = []

        self._records = np.concatenate(self._kernels())

    def _kernels(self) -> list[Records]:
        """One round of records, read and copied."""
        self._stand_in.produce(THREADS, self.count // THREADS)
        self._session.flush()
        return [records[Kind.KERNEL] for records in self._session.read()]

    def _operators(self, traced: bool) -> MsptiOperators:
        known = self._traced if traced else lambda _: self._none
        windows = OperatorWindows(OperatorMetrics(self._provider), lambda *_, **__: None, known)
        return MsptiOperators(windows, Names(), known)

    def whole(self, traced: bool) -> float:
        """CPU us of a record: the buffers, the conversion, metrics and windows."""
        operators = self._operators(traced)
        self._stand_in.produce(THREADS, self.count // THREADS)
        self._session.flush()
        begin = time.thread_time()
        for records in self._session.read():
            operators.take(records, time.time_ns())
        operators.settle(time.time_ns(), all_=True)
        seconds = time.thread_time() - begin
        taken = operators.taken["KERNEL"]
        assert taken == self.count, f"{self.count - taken} of {self.count} kernels are lost"
        return seconds / taken * 1e6

    def reference(self) -> float:
        """CPU us of a record with plain numpy, which has the records in one array already."""
        records = self._records
        begin = time.thread_time()
        _, numbers = np.unique(records["name"], return_inverse=True)
        np.bincount(numbers, records["end"] - records["start"])
        np.bincount(numbers)
        return (time.thread_time() - begin) / self.count * 1e6


def run(quick: bool) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), KERNELS)
        measured = interleaved(
            3 if quick else 9,
            {
                "numpy: count and sum by name": bench.reference,
                "operators, no forward traced": lambda: bench.whole(False),
                "operators, one forward in 100 traced": lambda: bench.whole(True),
            },
        )
    reference, *ways = measured
    show_rounds(f"{KERNELS} kernels of {THREADS} threads, none lost", "CPU us a record", measured)
    return show_ratios(
        [(f"{way} / numpy", per_round(measured, lambda a, b: a / b, way, reference), MOST) for way in ways]
    )
