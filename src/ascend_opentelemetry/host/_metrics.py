"""OTel metrics of the host, read when a metric reader asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from opentelemetry.metrics import MeterProvider, Observation

from ascend_opentelemetry.host._usage import CpuUsage, memory
from ascend_opentelemetry.recorder import Metric
from ascend_opentelemetry.recorder._observed import ObservedInstruments, Read
from ascend_opentelemetry.semconv.attributes import CPU_MODE, SYSTEM_MEMORY_STATE
from ascend_opentelemetry.semconv.metrics import (
    SYSTEM_CPU_UTILIZATION,
    SYSTEM_MEMORY_USAGE,
    SYSTEM_MEMORY_UTILIZATION,
)

SCOPE = "ascend_opentelemetry.host"


class HostMetrics(ObservedInstruments):
    """Instruments that measure while they are on.

    Args:
        provider: None: that of the process, as it is then.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        reads: dict[Metric, Read] = {
            SYSTEM_CPU_UTILIZATION: self._cpu_utilization,
            SYSTEM_MEMORY_USAGE: self._memory_usage,
            SYSTEM_MEMORY_UTILIZATION: self._memory_utilization,
        }
        super().__init__(SCOPE, "the host", reads, provider)
        self._cpu = CpuUsage()
        self._shares: Mapping[str, float] = {}
        self._lock = threading.Lock()  # readers collect on threads of their own

    def turn_on(self) -> None:
        """Measure from now on."""
        self._cpu, self._shares = CpuUsage(), {}
        super().turn_on()

    def begin(self) -> None:
        """Take the first reading, which a share of CPU time needs, on a thread of ours."""
        with self._lock:
            self._cpu.read()

    def _cpu_utilization(self) -> Iterable[Observation]:
        with self._lock:
            # two readers may ask within one tick of the kernel's counters
            self._shares = shares = self._cpu.read() or self._shares
        return [Observation(share, {CPU_MODE: mode}) for mode, share in shares.items()]

    def _memory_usage(self) -> Iterable[Observation]:
        return [Observation(size, {SYSTEM_MEMORY_STATE: state}) for state, size in memory()[1].items()]

    def _memory_utilization(self) -> Iterable[Observation]:
        states = memory()[1]
        total = sum(states.values())
        return [Observation(size / total, {SYSTEM_MEMORY_STATE: state}) for state, size in states.items()]


#: Of this process: an instrument of the SDK cannot be taken back.
host_metrics = HostMetrics()
