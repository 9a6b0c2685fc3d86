"""Operators by MSPTI: from the buffers of the library to metrics and windows, as multiples of plain numpy.

    python -m benchmarks operators [--quick]

The stand-in of ``libmspti.so`` (a C compiler is needed) makes kernels from four threads. With launches, buffers are
made here, in which 1 to 3 API calls precede each kernel, the last of them with its correlation id. The reference has as
many kernels in one array and counts and sums durations by name with ``numpy.unique`` and ``numpy.bincount``: it neither
walks buffers nor makes histograms, windows or metrics.
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._library import Kind, Library
from ascend_opentelemetry.npu.mspti._operators import MsptiOperators
from ascend_opentelemetry.npu.mspti._records import FIELDS, Bytes, Names, Reader, Records
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.npu.operators._metrics import OperatorMetrics
from ascend_opentelemetry.recorder import Forward
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti

THREADS = 4
KERNELS = 600_000
#: In one buffer of 8 MB, with the API calls.
LAUNCHED = 50_000
#: The goal for the whole way, in multiples of the reference: 0.5 us where that takes 0.04 us.
MOST = 12.0


class _Launches:
    """Buffers with kernels and the API calls before them, as a device with one busy stream gives them."""

    _SIZES = {Kind.KERNEL: 7, Kind.API: 6}  # noqa: RUF012 - words

    def __init__(self, buffers: int, base: int) -> None:
        names = [f"aclnnOp{letter}_Op{letter}AiCore_Op{letter}".encode() for letter in "ABCDEFGH"]
        self._texts = [ctypes.create_string_buffer(text) for text in (*names, b"KERNEL_AIVEC")]
        *names_at, self._type_at = (ctypes.addressof(text) for text in self._texts)
        self._names_at = np.asarray(names_at, dtype=np.uint64)
        self._random = np.random.default_rng(7)
        made = [self._buffer(base, number * LAUNCHED) for number in range(buffers)]
        self.buffers = [buffer for buffer, _ in made]
        self.count = sum(count for _, count in made)

    def _buffer(self, base: int, first: int) -> tuple[Bytes, int]:
        """A buffer, and how many records it has."""
        calls = self._random.integers(1, 4, LAUNCHED)
        kinds = np.full(int(calls.sum()) + LAUNCHED, Kind.API)
        kinds[np.cumsum(calls + 1) - 1] = Kind.KERNEL
        kernel = first + np.cumsum(kinds == Kind.KERNEL) - (kinds == Kind.KERNEL)
        ends = np.cumsum([self._SIZES[Kind(kind)] for kind in kinds.tolist()])
        words = np.zeros(int(ends[-1]), dtype=np.uint64)
        for kind, size in self._SIZES.items():
            here = kinds == kind
            fields = FIELDS[kind]
            rows = np.zeros(int(here.sum()), dtype=np.dtype({
                "names": ["kind", *fields], "formats": ["<u4", *(format_ for format_, _ in fields.values())],
                "offsets": [0, *(offset for _, offset in fields.values())], "itemsize": 8 * size,
            }))  # fmt: skip
            ids = kernel[here]
            rows["kind"], rows["correlation"], rows["name"] = kind, ids, self._names_at[ids % 8]
            rows["start"] = base + ids * 1000 + (20_000 if kind == Kind.KERNEL else 0)
            rows["end"] = rows["start"] + np.uint64(500)
            if kind == Kind.KERNEL:
                rows["stream"], rows["type"] = 2, self._type_at
            words[(ends[here] - size)[:, None] + np.arange(size)] = rows.view(np.uint64).reshape(-1, size)
        return words.view(np.uint8), len(kinds)


class _Bench:
    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self._stand_in = MsptiStandIn(build_mspti(folder))
        library = Library(self._stand_in.path)
        self._reader = Reader(library)
        self._session = MsptiSession(library, Buffers(threading.Event()), self._reader)
        self._provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        #: One traced forward in a hundred, as the sampled steps are.
        base = self._stand_in.base
        traced = [
            Forward(start, start + 10**6, (1, 1 + number, 0, 1))
            for number, start in enumerate(range(base, base + count * 1000, 10**8))
        ]
        self._traced = lambda after: [forward for forward in traced if forward.end_ns > after]
        self._none: list[Forward] = []
        self._launches = _Launches(count // LAUNCHED // 2, base)
        self.launched = self._launches.count
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

    def kernels(self, traced: bool) -> float:
        """CPU us of a record: the buffers, the conversion, metrics and windows."""
        self._stand_in.produce(THREADS, self.count // THREADS)
        self._session.flush()
        return self._whole(traced, self._session.read, self.count)

    def launches(self, traced: bool) -> float:
        """The same of kernels among API calls."""
        buffers = self._launches.buffers
        return self._whole(
            traced, lambda: (self._reader.read(buffer, len(buffer)) for buffer in buffers), self._launches.count
        )

    def _whole(self, traced: bool, read: Callable[[], Iterable[dict[Kind, Records]]], count: int) -> float:
        operators = self._operators(traced)
        begin = time.thread_time()
        for records in read():
            operators.take(records, time.time_ns())
        operators.settle(time.time_ns(), all_=True)
        seconds = time.thread_time() - begin
        taken = sum(operators.taken.values())
        assert taken == count, f"{count - taken} of {count} records are lost"
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
                "kernels, no forward traced": lambda: bench.kernels(False),
                "kernels, one forward in 100 traced": lambda: bench.kernels(True),
                "with API calls, no forward traced": lambda: bench.launches(False),
                "with API calls, one in 100 traced": lambda: bench.launches(True),
            },
        )
    reference, *ways = measured
    title = f"{KERNELS} kernels of {THREADS} threads, {bench.launched} kernels and API calls; none lost"
    show_rounds(title, "CPU us a record", measured)
    return show_ratios(
        [(f"{way} / numpy", per_round(measured, lambda a, b: a / b, way, reference), MOST) for way in ways]
    )
