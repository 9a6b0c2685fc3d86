"""Memory and state of the NPUs: metrics while somebody reads them, samples while a native window asks for them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_DCMI_LIBRARY, OTEL_PYTHON_VLLM_NPU_METRICS
from ascend_opentelemetry.npu._devices import Device
from ascend_opentelemetry.npu._events import emit
from ascend_opentelemetry.npu._observed import ObservedMetrics
from ascend_opentelemetry.npu._settings import mode
from ascend_opentelemetry.npu.dcmi import _hw_metrics
from ascend_opentelemetry.npu.dcmi._driver import Driver, driver
from ascend_opentelemetry.npu.dcmi._reader import Memory
from ascend_opentelemetry.recorder import NativeRow, Record, RecordType, SourceWindow, Ticker, recorder
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv.events import NPU_MEMORY_SAMPLE

_logger = logging.getLogger(__name__)

#: ``cat`` and name of the rows: of those with this name the analyzer makes its counter ``NPU Usage``.
DOMAIN = NAME = "npu"
_MEGABYTE = 1 << 20


def _rows(record: Record) -> Iterable[NativeRow]:
    device: Device
    memory: Memory
    for device, memory in record[5]:
        # both in one row: the analyzer draws a gap of the counter for a row without "usage="
        args = {"usage=": memory.used // _MEGABYTE, "utiliza=": memory.percent, "scope#device": device.position}
        yield record[1], 0, NAME, DOMAIN, json.dumps({**args, "type": 0})


#: Without a domain and at the lowest level: no filter leaves out what a field of its own asks for.
NPU_TYPE = RecordType("", NAME, level=0, traces=False, span=False, rows=_rows)

#: Of this process: an instrument of the SDK cannot be taken back.
hw_metrics = _hw_metrics.make(driver)


class DcmiSource:
    """Measures the NPUs in the first process of a service.

    Args:
        driver: of this process.
        metrics: the instruments of this process.
    """

    name = "dcmi"

    def __init__(self, driver: Driver = driver, metrics: ObservedMetrics = hw_metrics) -> None:
        self._driver = driver
        self._metrics = metrics
        self._leader = False
        self._sampler: _Sampler | None = None
        self._warned = False

    def start(self, *, leader: bool) -> None:
        """Measure where this process is the first one, and there is a driver."""
        self._leader = leader
        wanted = mode(os.environ, warn=leader)
        if not leader or wanted == "off":
            return
        if self._driver.is_found():
            self._metrics.turn_on()
        elif wanted == "on":
            self._warn(f"{OTEL_PYTHON_VLLM_NPU_METRICS}=on", "no libdcmi.so of the Ascend driver")

    def open(self, window: SourceWindow) -> None:
        """Begin to sample where the configuration of the window asks for it."""
        hertz: int = window.config.npu_memory_usage_freq
        if self._leader and hertz > 0:
            self._sampler = _Sampler(hertz, self._driver, self._warn)
            self._sampler.ticker.start()

    def close(self) -> None:
        """Sample no more."""
        self._end(0.0)

    def shutdown(self, timeout: float) -> None:
        """Sample no more, and wait for a sample that is taken now."""
        self._end(timeout)

    def silence(self) -> None:
        """Measure no more."""
        self._metrics.turn_off()

    def _end(self, timeout: float) -> None:
        if self._sampler is not None:
            self._sampler.ticker.stop(timeout)

    def after_fork(self) -> None:
        """In the child: the thread is the parent's, and the child is not the one that measures."""
        self._sampler = None
        self._metrics.turn_off()
        self._driver.after_fork()

    def describe(self) -> Mapping[str, object]:
        """The driver, and what the last window was given; nothing where another process measures."""
        if not self._leader:
            return {}
        sampler = self._sampler
        given = {} if sampler is None else {"samples": sampler.samples, "missed": sampler.ticker.missed}
        return {**self._driver.describe(), "metrics": self._metrics.is_on, **given}

    def _warn(self, asked: str, reason: str) -> None:
        """Once: what was asked for and is not there."""
        if not self._warned:
            self._warned = True
            _logger.warning(
                "%s: NPUs cannot be measured: %s; install the Ascend driver, mount it into the container, or name its"
                " libdcmi.so by %s",
                asked, reason, OTEL_PYTHON_VLLM_DCMI_LIBRARY,
            )  # fmt: skip


class _Sampler:
    """One window's samples.

    Args:
        hertz: samples a second.
        driver: what is read.
        warn: told once when there is nothing to read.
    """

    def __init__(self, hertz: int, driver: Driver, warn: Callable[[str, str], None]) -> None:
        self.ticker = Ticker("ascend-otel-dcmi", hertz, self._sample)
        self.samples = 0
        self._hertz = hertz
        self._driver = driver
        self._warn = warn

    def _sample(self) -> None:
        try:
            now = time.time_ns()
            found = self._driver.memory()
            if not found:
                self._warn(f'"npu_memory_usage_freq": {self._hertz}', self._driver.reason or "no device answers")
                return
            recorder.emit((NPU_TYPE, now, now, threading.get_ident(), None, found, None))
            self.samples += 1
            for device, memory in found:
                emit(NPU_MEMORY_SAMPLE, now, _event(device, memory))
        except Exception as error:  # noqa: BLE001 - log processors of anybody
            self.ticker.stop()
            _logger.warning("the memory of the NPUs is not sampled any more: %s: %s", type(error).__name__, error)


def _event(device: Device, memory: Memory) -> dict[str, str | int | float]:
    return {
        keys.HW_ID: device.hardware_id,
        keys.NPU_MEMORY_KIND: memory.kind,
        keys.NPU_MEMORY_USAGE: memory.used,
        keys.NPU_MEMORY_LIMIT: memory.limit,
        keys.NPU_MEMORY_UTILIZATION: memory.percent / 100,
    }
