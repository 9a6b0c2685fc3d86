"""Records of MSPTI as operators, collectives, copies and allocations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ascend_opentelemetry.npu.mspti._launches import Launches
from ascend_opentelemetry.npu.mspti._library import Kind
from ascend_opentelemetry.npu.mspti._records import Names, Numbers, Records
from ascend_opentelemetry.npu.operators._collective import Collective
from ascend_opentelemetry.npu.operators._live import SECOND_NS, OperatorWindows
from ascend_opentelemetry.npu.operators._metrics import Allocations, Copies
from ascend_opentelemetry.npu.operators._names import payload
from ascend_opentelemetry.npu.operators._statistics import Keys
from ascend_opentelemetry.npu.operators._windows import Ints, as_ints
from ascend_opentelemetry.recorder import Forward, forwards

#: A kernel waits so long for the end of the forward that launched it, and for its launch.
HOLD_NS = SECOND_NS
#: A window waits so long for its last kernels.
SETTLE_NS = 2 * SECOND_NS

#: Core types, as the recordings of the vendor's profilers name them, by ``msptiActivityKernel.type``.
_CORES = {"AICORE": "AI_CORE", "AIVEC": "AI_VECTOR_CORE", "AICPU": "AI_CPU"}
#: ``msptiCommunicationDataType``.
_DATA_TYPES = (
    "INT8", "INT16", "INT32", "FP16", "FP32", "INT64", "UINT64", "UINT8", "UINT16", "UINT32", "FP64", "BFP16", "INT128",
    "", "HIF8", "FP8E4M3", "FP8E5M2", "FP8E8M0",
)  # fmt: skip
#: ``msptiActivityMemcpyKind``.
_DIRECTIONS = ("unknown", "h2h", "h2d", "d2h", "d2d", "unknown")
#: ``msptiActivityMemoryOperationType``.
_OPERATIONS = ("allocate", "release")


class MsptiOperators:
    """Feeds windows and metrics; used by one thread.

    Args:
        windows: get the kernels.
        names: texts that the records point to.
        known: as that of ``OperatorWindows``.
    """

    def __init__(
        self, windows: OperatorWindows, names: Names, known: Callable[[int], Any] = forwards.ended_after
    ) -> None:
        self.windows = windows
        #: Records taken, by kind.
        self.taken: dict[str, int] = {}
        self._names = names
        self._known = known
        self._launches = Launches()
        self._waiting: deque[tuple[int, Records]] = deque()
        self._combined = Numbers()
        #: Number of the key, by number of name, type and device.
        self._key_of: list[int] = []
        self._collectives: Keys[Collective] = Keys(Collective.of)
        self._copies: Keys[Copies] = Keys(lambda raw: Copies(*raw))
        self._allocations: Keys[Allocations] = Keys(lambda raw: Allocations(*raw))

    @property
    def waiting(self) -> int:
        """Kernels that are in no event yet; from any thread, roughly."""
        return self.taken.get(Kind.KERNEL.name, 0) - self.windows.told - self.windows.left_out

    def take(self, records: dict[Kind, Records], time_ns: int) -> None:
        """Take the records of a buffer.

        Args:
            records: by kind.
            time_ns: now, ns since 1970.
        """
        for kind, found in records.items():
            self.taken[kind.name] = self.taken.get(kind.name, 0) + len(found)
        self._launches.add(records, time_ns)
        takers: dict[Kind, Callable[[Records], None]] = {
            Kind.KERNEL: lambda kernels: self._waiting.append((time_ns, kernels)),
            Kind.COMMUNICATION: self._add_collectives,
            Kind.MEMCPY: self._add_copies,
            Kind.MEMORY: self._add_allocations,
        }
        for kind, found in records.items():
            if len(found) and kind in takers:
                takers[kind](found)

    def settle(self, time_ns: int, *, all_: bool = False) -> None:
        """Hand on kernels that have waited long enough, and emit the windows that are complete.

        Args:
            time_ns: now, ns since 1970.
            all_: nothing more will come.
        """
        while self._waiting and (all_ or self._waiting[0][0] <= time_ns - HOLD_NS):
            self._add_kernels(self._waiting.popleft()[1])
        self.windows.settle(time_ns + SECOND_NS if all_ else time_ns - SETTLE_NS)

    def _add_kernels(self, kernels: Records) -> None:
        starts = as_ints(kernels["start"])
        durations = np.maximum(as_ints(kernels["end"]) - starts, 0)
        traced: list[Forward] = self._known(int(starts.min()) - SETTLE_NS)
        if not traced:  # nobody asks for launches
            self.windows.add(self._keys(kernels), starts, durations)
            return
        launched = self._launches.of(kernels)
        self.windows.add(self._keys(kernels), starts, durations, launched.times, launched.spans)

    def _keys(self, kernels: Records) -> Ints:
        names, types = self._names.of(kernels["name"]), self._names.of(kernels["type"])
        combined = (names << 40) | (types << 16) | (as_ints(kernels["device"]) & 0xFFFF)
        numbers = self._combined.of(combined.view(np.uint64))
        for value in self._combined.values[len(self._key_of) :]:
            name, type_, device = value >> 40, value >> 16 & 0xFFFFFF, value & 0xFFFF
            raw = self._names.texts[name], None, _core(self._names.texts[type_]), str(device)
            self._key_of.append(self.windows.keys[raw])
        return as_ints(self._key_of)[numbers]

    def _add_collectives(self, records: Records) -> None:
        starts, ends = as_ints(records["start"]), as_ints(records["end"])
        names, groups = self._names.of(records["name"]), self._names.of(records["group"])
        keys: list[int] = []
        sizes: list[int] = []
        columns = zip(
            names.tolist(), groups.tolist(), records["data_type"].tolist(), records["count"].tolist(),
            records["device"].tolist(), strict=True,
        )  # fmt: skip
        for name, group, type_, count, device in columns:
            data_type = _DATA_TYPES[type_] if type_ < len(_DATA_TYPES) else ""
            keys.append(self._collectives[self._names.texts[name], data_type, self._names.texts[group], str(device)])
            sizes.append(payload(data_type, count))
        known = self._collectives.keys_by_number
        self.windows.metrics.add_collectives(known, as_ints(keys), np.maximum(ends - starts, 0), as_ints(sizes))

    def _add_copies(self, records: Records) -> None:
        durations = np.maximum(as_ints(records["end"]) - as_ints(records["start"]), 0)
        pairs = zip(records["copy"].tolist(), records["device"].tolist(), strict=True)
        keys = [self._copies[_word(_DIRECTIONS, copy), str(device)] for copy, device in pairs]
        known = self._copies.keys_by_number
        self.windows.metrics.add_copies(known, as_ints(keys), durations, as_ints(records["bytes"]))

    def _add_allocations(self, records: Records) -> None:
        pairs = zip(records["operation"].tolist(), records["device"].tolist(), strict=True)
        keys = [self._allocations[_word(_OPERATIONS, operation), str(device)] for operation, device in pairs]
        known = self._allocations.keys_by_number
        self.windows.metrics.add_allocations(known, as_ints(keys), as_ints(records["bytes"]))


def _core(type_: str) -> str:
    short = type_.removeprefix("KERNEL_")
    return _CORES.get(short, short)


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else "unknown"
