"""torch_npu's caching allocator as OTel metrics, in each process that has initialised it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.metrics import MeterProvider, Observation

from ascend_opentelemetry.npu._events import emit
from ascend_opentelemetry.npu._observed import ObservedMetrics, OncePerCollection
from ascend_opentelemetry.npu._settings import mode
from ascend_opentelemetry.npu.dcmi._driver import Driver, driver
from ascend_opentelemetry.recorder import SourceWindow
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import metrics
from ascend_opentelemetry.semconv.events import NPU_MEMORY_OOM

#: The allocator of torch_npu, as torch_npu's own recordings call it.
COMPONENT = "PTA"
STATES = ("allocated", "reserved", "active", "inactive_split", "requested")

Stats = Mapping[str, int]


def statistics() -> dict[int, Stats]:
    """``torch.npu.memory_stats`` of each device that this process has used, by its number in this process.

    Empty unless torch_npu is imported and initialised, which this function is never the first to do. Devices are named
    by their number: the current one of a thread of ours is not the worker's, and asking for it could open a context.
    """
    npu: Any = getattr(sys.modules.get("torch"), "npu", None)
    # another thread may be importing it now
    is_initialized = getattr(npu, "is_initialized", None)
    if "torch_npu" not in sys.modules or is_initialized is None or not is_initialized():
        return {}
    found = {device: npu.memory_stats(device) for device in range(npu.device_count())}
    return {device: stats for device, stats in found.items() if stats.get("reserved_bytes.all.peak", 0)}


class Allocator:
    """Reads the statistics for the instruments, and tells of allocations that have failed.

    Args:
        driver: knows the names of devices.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ooms: dict[int, int] = {}
        #: ``hw.id`` by number, of all devices that were told of.
        self.names: dict[int, str] = {}
        #: See ``statistics``; read once a collection.
        self.devices = OncePerCollection(statistics)

    def memory(self, what: str) -> Iterator[Observation]:
        """``current`` or ``peak`` of each state, in bytes."""
        for index, stats in self.devices().items():
            for state in STATES:
                key = f"{state}_bytes.all.{what}"
                if key in stats:
                    yield Observation(stats[key], {**self._attributes(index), keys.NPU_MEMORY_STATE: state})

    def count(self, key: str) -> Iterator[Observation]:
        """A counter of the allocator, where this version of torch_npu has it."""
        for index, stats in self.devices().items():
            if key in stats:
                yield Observation(stats[key], self._attributes(index))

    def ooms(self) -> Iterable[Observation]:
        """Failed allocations; see ``tell`` for the event."""
        self.tell()
        return self.count("num_ooms")

    def tell(self) -> None:
        """Emit an event for the allocations that have failed since the call before, if any has."""
        for index, stats in self.devices().items():
            number = stats.get("num_ooms", 0)
            new = number - self._ooms.get(index, 0)
            self._ooms[index] = number
            if new > 0:
                emit(NPU_MEMORY_OOM, time.time_ns(), self._event(index, stats, new), warn=True)

    def _name(self, index: int) -> str:
        """Asks the driver once, when there is something to tell of the device."""
        if index not in self.names:
            self.names[index] = self._driver.hardware_id(index)
        return self.names[index]

    def _attributes(self, index: int) -> dict[str, str]:
        return {keys.HW_ID: self._name(index), keys.NPU_MEMORY_COMPONENT: COMPONENT}

    def _event(self, index: int, stats: Stats, new: int) -> dict[str, str | int | float]:
        return {
            keys.HW_ID: self._name(index),
            keys.NPU_ALLOCATOR_OOM: new,
            keys.NPU_ALLOCATOR_ALLOCATED: stats.get("allocated_bytes.all.current", 0),
            keys.NPU_ALLOCATOR_RESERVED: stats.get("reserved_bytes.all.current", 0),
        }


def make(allocator: Allocator, provider: MeterProvider | None = None) -> ObservedMetrics:
    """The instruments."""
    reads: dict[metrics.Metric, Callable[[], Iterable[Observation]]] = {
        metrics.NPU_ALLOCATOR_MEMORY: lambda: allocator.memory("current"),
        metrics.NPU_ALLOCATOR_PEAK: lambda: allocator.memory("peak"),
        metrics.NPU_ALLOCATOR_RETRIES: lambda: allocator.count("num_alloc_retries"),
        metrics.NPU_ALLOCATOR_OOM: allocator.ooms,
    }
    return ObservedMetrics("the allocator of torch_npu", reads, provider)


#: Of this process: an instrument of the SDK cannot be taken back.
_allocator = Allocator(driver)
_metrics = make(_allocator)


class AllocatorSource:
    """Measures the allocator in each process that has one.

    Args:
        allocator: of this process.
        metrics: its instruments.
    """

    name = "allocator"

    def __init__(self, allocator: Allocator = _allocator, metrics: ObservedMetrics = _metrics) -> None:
        self._allocator = allocator
        self._metrics = metrics

    def start(self, *, leader: bool) -> None:  # noqa: ARG002
        """Measure from now on, or from when torch_npu is initialised."""
        if mode(os.environ, warn=False) != "off":
            self._metrics.turn_on()

    def open(self, window: SourceWindow) -> None:
        """Do nothing: the native files have no rows of it."""

    def close(self) -> None:
        """Do nothing."""

    def shutdown(self, timeout: float) -> None:  # noqa: ARG002
        """Tell what has failed since the last collection: it may be why the process ends."""
        if self._metrics.is_on:
            self._allocator.devices.reset()
            self._allocator.tell()

    def silence(self) -> None:
        """Measure no more."""
        self._metrics.turn_off()

    def after_fork(self) -> None:
        """In the child: silent until ``start``."""
        self._metrics.turn_off()
        self._allocator.devices.reset()

    def describe(self) -> Mapping[str, object]:
        """What torch_npu has said; nothing in a process without it."""
        if "torch_npu" not in sys.modules:
            return {}
        version = getattr(sys.modules["torch_npu"], "__version__", "")
        state = {"found": True, "version": str(version), "metrics": self._metrics.is_on}
        names = list(self._allocator.names.values())
        if names:
            return {**state, "usable": True, "devices": names}
        return {**state, "reason": "no device is initialised, or nobody has read metrics"}
