"""CPU and memory of the host while a native window asks for them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping

from ascend_opentelemetry.host._metrics import HostMetrics, host_metrics
from ascend_opentelemetry.host._usage import CpuUsage, busy, memory
from ascend_opentelemetry.recorder import NativeRow, Record, RecordType, SourceWindow, Ticker, recorder

_logger = logging.getLogger(__name__)

#: ``cat`` of the rows; their names are those of the analyzer's counters of the same (``exporter_trace.py``).
DOMAIN = "host"
CPU_ROW = "CPU Usage"
MEMORY_ROW = "Memory Usage"


def _rows(record: Record) -> Iterable[NativeRow]:
    for name, share in record[5]:
        yield record[1], 0, name, DOMAIN, json.dumps({"usage=": round(share * 100, 2), "type": 0})


#: Without a domain and at level 0, below all names of levels: no filter leaves out what a field of its own asks for.
HOST_TYPE = RecordType("", "host", level=0, traces=False, span=False, rows=_rows)


class HostSource:
    """Samples the host as often as ``host_system_usage_freq`` says, in the first process of a service.

    While it does, the OTel metrics of the host are on too.

    Args:
        metrics: the instruments of this process.
    """

    name = "host"

    def __init__(self, metrics: HostMetrics = host_metrics) -> None:
        self._metrics = metrics
        self._leader = False
        self._sampler: _Sampler | None = None

    def start(self, *, leader: bool) -> None:
        """Take note of whether this process samples."""
        self._leader = leader

    def open(self, window: SourceWindow) -> None:
        """Begin where the configuration of the window asks for it."""
        hertz: int = window.config.host_system_usage_freq
        if self._leader and hertz > 0:
            self._metrics.turn_on()
            self._sampler = _Sampler(hertz, self._metrics)
            self._sampler.ticker.start()

    def close(self) -> None:
        """Sample no more."""
        self._end(0.0)

    def shutdown(self, timeout: float) -> None:
        """Sample no more, and wait for a sample that is taken now."""
        self._end(timeout)

    def _end(self, timeout: float) -> None:
        if self._sampler is not None:
            self._sampler.ticker.stop(timeout)
            self._metrics.turn_off()

    def after_fork(self) -> None:
        """In the child: the thread is the parent's, and the child is not the one that measures."""
        self._sampler = None
        self._metrics.turn_off()

    def describe(self) -> Mapping[str, object]:
        """What the last window was given."""
        sampler = self._sampler
        if sampler is None:
            return {"usable": True}
        state = {"reason": sampler.error} if sampler.error else {"usable": True}
        return {**state, "samples": sampler.samples, "missed": sampler.ticker.missed}


class _Sampler:
    """One window's samples."""

    def __init__(self, hertz: int, metrics: HostMetrics) -> None:
        self.ticker = Ticker("ascend-otel-host", hertz, self._sample)
        self.samples = 0
        self.error = ""
        self._metrics = metrics
        self._cpu = CpuUsage()

    def _sample(self) -> None:
        try:
            shares = self._cpu.read()
            found = [(MEMORY_ROW, memory()[0])]
            if shares is not None:
                found.append((CPU_ROW, busy(shares)))
            if not self.samples:
                self._metrics.begin()
            now = time.time_ns()
            recorder.emit((HOST_TYPE, now, now, threading.get_ident(), None, found, None))
            self.samples += 1
        except Exception as error:  # noqa: BLE001 - psutil raises what /proc of this machine makes it
            self.error = f"{type(error).__name__}: {error}"
            self.ticker.stop()
            _logger.warning("CPU and memory of the host cannot be sampled: %s", self.error)
