"""What a file held, as statistics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ascend_opentelemetry.npu.operators._collective import Collective, Transfer
from ascend_opentelemetry.npu.operators._statistics import Keys, Operator, Statistics
from ascend_opentelemetry.npu.operators._windows import Ints, are_sound, as_ints
from ascend_opentelemetry.npu.recordings._samples import Samples
from ascend_opentelemetry.npu.recordings._sink import Kind, OperatorTotal, RecordingSink, SampleKey

#: Width of a window, ns.
WINDOW_NS = 10**9


class Content(RecordingSink):
    """Statistics of a file, in windows of a second; its memory does not grow with the file.

    Args:
        skip: kinds that another file of the recording has given.

    Attributes:
        kinds: what the file held and was not skipped.
    """

    def __init__(self, skip: Collection[Kind] = ()) -> None:
        super().__init__()
        self._skip = frozenset(skip)
        self.kinds: set[Kind] = set()
        self.operator_keys = Keys(Operator.of)
        self.by_window = Statistics(WINDOW_NS)
        self.by_step = Statistics()
        self.totals: list[OperatorTotal] = []
        self.collective_keys = Keys(Collective.of)
        self.collectives = Statistics(WINDOW_NS)
        self.transfer_keys = Keys(Transfer.of)
        self.transferred = Statistics(WINDOW_NS)
        self.allocation_keys: Keys[tuple[bool, str]] = Keys(tuple)
        self.allocated = Statistics(WINDOW_NS)
        self.sample_keys: Keys[SampleKey] = Keys(lambda key: key)
        self.sampled = Samples(WINDOW_NS)

    def wants(self, kind: Kind) -> bool:
        return kind not in self._skip

    def operators(
        self,
        raw: Sequence[tuple[str, str | None, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> None:
        self._found("operators", raw)
        key, start, duration = as_ints([self.operator_keys[one] for one in raw]), as_ints(starts), as_ints(durations)
        sound = self._sound(start, duration)
        self.by_window.add(key[sound], start[sound], duration[sound])
        if steps is not None:
            step = as_ints(steps)
            inside = sound & (step >= 0)
            self.by_step.add(key[inside], start[inside], duration[inside], windows=step[inside])

    def operator_totals(self, totals: Sequence[OperatorTotal]) -> None:
        self._found("operators", totals)
        self.totals += totals

    def communications(
        self,
        raw: Sequence[tuple[str, str, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        self._found("communication", raw)
        self._add(self.collectives, self.collective_keys, raw, starts, durations, sizes)

    def transfers(
        self,
        raw: Sequence[tuple[str, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        self._found("transfers", raw)
        self._add(self.transferred, self.transfer_keys, raw, starts, durations, sizes)

    def allocations(
        self, raw: Sequence[tuple[bool, str]], starts: Sequence[int], lifetimes: Sequence[int], sizes: Sequence[int]
    ) -> None:
        self._found("allocations", raw)
        self._add(self.allocated, self.allocation_keys, raw, starts, lifetimes, sizes)

    def samples(self, kind: Kind, keys: Sequence[SampleKey], times: Sequence[int], values: Sequence[int]) -> None:
        self._found(kind, keys)
        self._add(self.sampled, self.sample_keys, keys, times, values)

    def _add(
        self,
        table: Statistics | Samples,
        keys: Keys[Any],
        raw: Sequence[Any],
        times: Sequence[int],
        *amounts: Sequence[int],
    ) -> None:
        number, time, *amount = as_ints([keys[one] for one in raw]), as_ints(times), *map(as_ints, amounts)
        sound = self._sound(time, *amount)
        table.add(number[sound], time[sound], *(one[sound] for one in amount))

    def _sound(self, times: Ints, *amounts: Ints) -> npt.NDArray[np.bool_]:
        """Which records can be; the others are counted."""
        sound = are_sound(times, *amounts)
        self.left_out += len(sound) - int(sound.sum())
        return sound

    def _found(self, kind: Kind, rows: Sequence[object]) -> None:
        if rows:
            self.kinds.add(kind)
