"""Operators by time, with exact medians: a duration of 4 bytes is kept for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ascend_opentelemetry.npu.operators._names import collective, label, operator_type, printable
from ascend_opentelemetry.npu.operators._statistics import Keys
from ascend_opentelemetry.npu.operators._windows import are_sound, as_ints, group_starts
from ascend_opentelemetry.npu.recordings._sink import Kind, OperatorTotal, RecordingSink

#: What the lines are: operator types, names as recorded, or core types.
By: TypeAlias = Literal["type", "name", "core"]

#: Core type of a collective.
COMMUNICATION = "COMMUNICATION"


@dataclass(frozen=True)
class Line:
    """Operators of one type, name or core; ``median`` is None where a file has only statistics; times are ns."""

    label: str
    cores: tuple[str, ...]
    count: int
    total: int
    share: float
    min: int
    median: float | None
    max: int


class Top(RecordingSink):
    """Collects operators and collectives of a file.

    Args:
        by: what the lines are.
        skip: kinds that another file of the recording has given.
    """

    def __init__(self, by: By, skip: Collection[Kind] = ()) -> None:
        super().__init__()
        self._skip = frozenset(skip)
        self.kinds: set[Kind] = set()
        label_of: Callable[[tuple[str, str | None, str, str]], tuple[str, str]] = {
            "type": lambda raw: (operator_type(raw[0], raw[1]), label(raw[2])),
            "name": lambda raw: (printable(raw[0]), label(raw[2])),
            "core": lambda raw: (label(raw[2]), label(raw[2])),
        }[by]
        self._by = by
        self._keys = Keys(label_of)
        #: Durations of each pair of label and core type, in parts.
        self._durations: dict[tuple[str, str], list[npt.NDArray[Any]]] = {}
        self._totals: list[OperatorTotal] = []

    def wants(self, kind: Kind) -> bool:
        return kind in ("operators", "communication") and kind not in self._skip

    def operators(
        self,
        raw: Sequence[tuple[str, str | None, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        steps: Sequence[int] | None = None,  # noqa: ARG002
    ) -> None:
        self.kinds.add("operators")
        self._add([self._keys[one] for one in raw], starts, durations)

    def communications(
        self,
        raw: Sequence[tuple[str, str, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        sizes: Sequence[int],  # noqa: ARG002
    ) -> None:
        self.kinds.add("communication")
        names = [(one[0], collective(one[0]), COMMUNICATION, "") for one in raw]
        self._add([self._keys[one] for one in names], starts, durations)

    def operator_totals(self, totals: Sequence[OperatorTotal]) -> None:
        self.kinds.add("operators")
        self._totals += totals

    def _add(self, numbers: Sequence[int], starts: Sequence[int], durations: Sequence[int]) -> None:
        key, values = as_ints(numbers), as_ints(durations)
        sound = are_sound(as_ints(starts), values)
        key, values = key[sound], values[sound]
        self.left_out += len(sound) - len(key)
        if not len(key):
            return
        order = np.argsort(key, kind="stable")
        key, values = key[order], values[order]
        small = values.astype(np.uint32) if values.max() < 2**32 else values
        begins = group_starts(key)
        for number, part in zip(key[begins], np.split(small, begins[1:]), strict=True):
            self._durations.setdefault(self._keys.keys_by_number[number], []).append(part)

    def update(self, other: Top) -> None:
        """Add what another file held."""
        for key, parts in other._durations.items():
            self._durations.setdefault(key, []).extend(parts)
        self._totals += other._totals
        self.left_out += other.left_out

    def lines(self) -> list[Line]:
        """Longest first."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for key in self._durations:
            groups.setdefault(key[0], []).append(key)
        found = {name: self._line(name, keys) for name, keys in groups.items()}
        for one in self._totals:
            name = one.core if self._by == "core" else one.type
            line = Line(name, (one.core,), one.count, one.total, 0, one.min, None, one.max)
            found[name] = _join(line, found[name]) if name in found else line
        whole = sum(line.total for line in found.values()) or 1
        lines = [replace(line, share=line.total / whole) for line in found.values()]
        return sorted(lines, key=lambda line: (-line.total, line.label))

    def _line(self, label: str, keys: Sequence[tuple[str, str]]) -> Line:
        values = np.concatenate([part for key in keys for part in self._durations[key]])
        least, most = int(values.min()), int(values.max())
        total = int(values.sum(dtype=np.int64))
        cores = tuple(sorted(core for _, core in keys))
        return Line(label, cores, len(values), total, 0, least, float(np.median(values)), most)


def _join(one: Line, other: Line) -> Line:
    cores = tuple(sorted({*one.cores, *other.cores}))
    sums = one.count + other.count, one.total + other.total
    return Line(one.label, cores, *sums, 0, min(one.min, other.min), None, max(one.max, other.max))
