"""Instruments that are read when a metric reader asks, and silent while they are off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from ascend_opentelemetry.npu._scope import SCOPE
from ascend_opentelemetry.recorder import meters
from ascend_opentelemetry.semconv.metrics import Metric

_logger = logging.getLogger(__name__)

#: What gives the values of a metric.
Read = Callable[[], Iterable[Observation]]
#: Seconds in which the instruments of one collection ask one after the other.
_COLLECTION = 0.25

_T = TypeVar("_T")


class OncePerCollection(Generic[_T]):
    """Gives all instruments of a collection the same values, which are read for the first one.

    The SDK does not say where a collection begins: what was read holds for a quarter of a second.

    Args:
        read: reads the values; readers on several threads wait for each other.
    """

    def __init__(self, read: Callable[[], _T]) -> None:
        self._read = read
        self.reset()

    def reset(self) -> None:
        """Forget what was read; also in a forked child, where a thread of the parent may hold the lock."""
        self._lock = threading.Lock()
        self._values: _T | None = None
        self._until = 0.0

    def __call__(self) -> _T:
        with self._lock:
            values = self._values
            if values is None or time.monotonic() >= self._until:
                values = self._values = self._read()
                self._until = time.monotonic() + _COLLECTION
            return values


class ObservedMetrics:
    """Observable instruments, made when they are first turned on: one of the SDK cannot be taken back.

    Args:
        what: they measure, in a warning.
        reads: by metric.
        provider: None: that of the process, as it is then.
    """

    def __init__(self, what: str, reads: Mapping[Metric, Read], provider: MeterProvider | None = None) -> None:
        self._what = what
        self._reads = reads
        self._provider = provider
        self._made = False
        self.is_on = False

    def turn_on(self) -> None:
        """Measure from now on."""
        self.is_on = True
        if not self._made:
            self._made = True
            meter = meters.get(SCOPE, self._provider)
            for metric, read in self._reads.items():
                _CREATE[metric.instrument](meter, metric, self._guarded(read))

    def turn_off(self) -> None:
        """Give no more values."""
        self.is_on = False

    def _guarded(self, read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001
            if not self.is_on:
                return ()
            try:
                return list(read())
            except Exception as error:  # noqa: BLE001 - the SDK would log each one, with each collection
                self.is_on = False
                _logger.warning("metrics of %s are off: %s: %s", self._what, type(error).__name__, error)
                return ()

        return callback


_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def _counter(meter: Meter, metric: Metric, callback: _Callback) -> None:
    meter.create_observable_counter(metric.name, [callback], metric.unit, metric.description)


def _up_down_counter(meter: Meter, metric: Metric, callback: _Callback) -> None:
    meter.create_observable_up_down_counter(metric.name, [callback], metric.unit, metric.description)


def _gauge(meter: Meter, metric: Metric, callback: _Callback) -> None:
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)


_CREATE: Mapping[str, Callable[[Meter, Metric, _Callback], None]] = {
    "counter": _counter,
    "updowncounter": _up_down_counter,
    "gauge": _gauge,
}
