"""Instruments of the NPU that are read when a metric reader asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from opentelemetry.metrics import MeterProvider

from ascend_opentelemetry.npu._scope import SCOPE
from ascend_opentelemetry.recorder._observed import ObservedInstruments, Read
from ascend_opentelemetry.semconv.metrics import Metric

__all__ = ["ObservedMetrics", "OncePerCollection", "Read"]

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


class ObservedMetrics(ObservedInstruments):
    """Observable instruments of the scope of the NPU.

    Args:
        what: they measure, in a warning.
        reads: by metric.
        provider: None: that of the process, as it is then.
    """

    def __init__(self, what: str, reads: Mapping[Metric, Read], provider: MeterProvider | None = None) -> None:
        super().__init__(SCOPE, what, {**reads}, provider)
