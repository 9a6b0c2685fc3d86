"""OTel metrics of the host, read when a metric reader asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import Asynchronous, CallbackOptions, MeterProvider, Observation

from ascend_opentelemetry.host._usage import CpuUsage, memory
from ascend_opentelemetry.recorder import meters
from ascend_opentelemetry.semconv.attributes import CPU_MODE, SYSTEM_MEMORY_STATE
from ascend_opentelemetry.semconv.metrics import (
    SYSTEM_CPU_UTILIZATION,
    SYSTEM_MEMORY_USAGE,
    SYSTEM_MEMORY_UTILIZATION,
    Metric,
)

_logger = logging.getLogger(__name__)

SCOPE = "ascend_opentelemetry.host"

_Read = Callable[[], Iterable[Observation]]


class HostMetrics:
    """Instruments that measure while they are on; made once, when they are first turned on.

    Args:
        provider: None: that of the process, as it is then.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._provider = provider
        self._made = False
        self._on = False
        self._cpu = CpuUsage()
        self._shares: Mapping[str, float] = {}
        self._lock = threading.Lock()  # readers collect on threads of their own

    def turn_on(self) -> None:
        """Measure from now on."""
        self._cpu, self._shares = CpuUsage(), {}
        self._on = True
        if not self._made:
            self._made = True
            self._make()

    def begin(self) -> None:
        """Take the first reading, which a share of CPU time needs, on a thread of ours."""
        with self._lock:
            self._cpu.read()

    def turn_off(self) -> None:
        """Give no more values."""
        self._on = False

    def _make(self) -> None:
        meter = meters.get(SCOPE, self._provider)
        self._add(meter.create_observable_gauge, SYSTEM_CPU_UTILIZATION, self._cpu_utilization)
        self._add(meter.create_observable_up_down_counter, SYSTEM_MEMORY_USAGE, self._memory_usage)
        self._add(meter.create_observable_gauge, SYSTEM_MEMORY_UTILIZATION, self._memory_utilization)

    def _add(self, create: Callable[..., Asynchronous], metric: Metric, read: _Read) -> None:
        create(metric.name, [self._guarded(read)], metric.unit, metric.description)

    def _guarded(self, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001
            if not self._on:
                return ()
            try:
                return list(read())
            except Exception as error:  # noqa: BLE001 - the SDK would log each one, with each collection
                self._on = False
                _logger.warning("metrics of the host are off: %s: %s", type(error).__name__, error)
                return ()

        return callback

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
