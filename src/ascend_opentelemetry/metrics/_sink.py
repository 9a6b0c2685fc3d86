"""The sink that measures records."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from ascend_opentelemetry.metrics._fork import after_fork
from ascend_opentelemetry.metrics._instruments import Instruments
from ascend_opentelemetry.metrics._provider import flush
from ascend_opentelemetry.recorder import SAMPLED, Measurement, Metric, Record, RecordType, SpanIds
from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

_logger = logging.getLogger(__name__)

#: Name of the instrumentation scope.
SCOPE = "ascend_opentelemetry"
#: Seconds between two looks for a provider.
INTERVAL = 1.0
#: Seconds at most for which values of a busy process are kept: giving them to the SDK costs much, however many they are.
KEPT_SECONDS = 1.0
#: Seconds at most that a flush waits for the exporters of metrics.
FLUSH_SECONDS = 0.5


class Totals(NamedTuple):
    """A counter that is read whenever somebody collects.

    Attributes:
        metric: of the values.
        read: gives the values since the start of the process; from any thread.
    """

    metric: Metric
    read: Callable[[], Iterable[Measurement]]


class MetricsSink:
    """Measures records whose type says how, by instruments of a provider; while there is none, it does nothing.

    Args:
        find: the provider to use, and whether its other counts are ours to reset in a forked child; None while nobody
            reads metrics.
        switch: told when the first provider is found, and at the end.
        totals: counters that need no records.
    """

    def __init__(
        self,
        find: Callable[[], tuple[MeterProvider, bool] | None],
        switch: Callable[[bool], None],
        totals: Sequence[Totals] = (),
    ) -> None:
        self._find = find
        self._switch = switch
        self._totals = totals
        self._due = self._settle_due = 0.0
        self._closed = False
        self._provider: MeterProvider | None = None
        self._owned = False
        self._instruments: Instruments | None = None
        #: Number of providers that were found: only the last one is told totals.
        self._found = 0
        self._flushing: _Flush | None = None
        self._failed: set[RecordType] = set()
        #: Records that could not be measured.
        self.failed = 0

    def look(self) -> None:
        """Measure from now on if somebody reads metrics."""
        found = self._find()
        if found is None:
            self._instruments = self._provider = None
            self._switch(False)
            return
        if found[0] is self._provider:
            return
        self._provider, self._owned = found
        self._found += 1
        self._instruments = self._make_instruments(self._provider)
        self._switch(self._instruments is not None)

    def _make_instruments(self, provider: MeterProvider) -> Instruments | None:
        """None, and one message a provider, when it raises."""
        try:
            instruments = Instruments(provider.get_meter(SCOPE, __version__))
            for totals in self._totals:
                instruments.observe(totals.metric, functools.partial(self._read, totals, self._found))
        except Exception as error:  # noqa: BLE001 - the program's class may do anything
            name = type(provider).__name__
            _logger.warning("the meter provider %s makes no instruments, nothing is measured: %r", name, error)
            return None
        return instruments

    def _read(self, totals: Totals, found: int) -> Iterable[Measurement]:
        return totals.read() if self._instruments is not None and self._found == found else ()

    def write(self, records: Sequence[Record]) -> None:
        """Measure records."""
        instruments = self._instruments
        if instruments is None:
            return
        for record in records:
            record_type = record[0]
            if record_type.measure is None:
                continue
            try:
                context = _context(record[4])
                for measurement in record_type.measure(record):
                    instruments.add(measurement, context)
            except Exception as error:  # noqa: BLE001 - a fault in a handler costs its values only
                self._lose(record_type, error)

    def _lose(self, record_type: RecordType, error: Exception) -> None:
        self.failed += 1
        if record_type not in self._failed:
            self._failed.add(record_type)
            _logger.warning("%r: its records cannot be measured: %r", record_type, error)

    def commit(self) -> None:
        """Hand over values once a second; look for a provider while there is none."""
        if self._instruments is not None:
            if time.monotonic() >= self._settle_due:
                self._settle()
        elif not self._closed and time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL
            self.look()

    def _settle(self) -> None:
        if self._instruments is not None:
            self._settle_due = time.monotonic() + KEPT_SECONDS
            self._instruments.settle()

    def request_flush(self) -> None:
        """Hand over values: the process has nothing to do. Readers collect when it is their time."""
        self._settle()

    def flush(self, timeout: float) -> bool:
        """Have periodic readers export, on a thread of its own: exporters retry for longer than we wait."""
        self._settle()
        if self._provider is None:
            return True
        flushing = self._flushing
        if flushing is None or not flushing.is_alive():
            flushing = self._flushing = _Flush(self._provider, timeout)
            flushing.start()
        flushing.join(min(timeout, FLUSH_SECONDS))
        return flushing.complete

    @property
    def exporting(self) -> bool:
        """Whether an export that a flush began still goes on."""
        return self._flushing is not None and self._flushing.is_alive()

    def shutdown(self, timeout: float) -> None:  # noqa: ARG002
        """Let go of the provider, which is ended by its owner."""
        if self._instruments is not None:
            self._settle()
            self._switch(False)
        self._closed = True
        self._instruments = self._provider = None

    def after_fork(self) -> None:
        """In the child: count from zero."""
        self._flushing = None
        self.failed = 0
        if self._instruments is not None and self._provider is not None:
            self._instruments.forget()
            after_fork(self._provider, None if self._owned else SCOPE)


class _Flush(threading.Thread):
    """One export of all that was measured until now."""

    def __init__(self, provider: Any, timeout: float) -> None:
        super().__init__(name="ascend-otel-metrics", daemon=True)
        self._provider = provider
        self._timeout = timeout
        self.complete = False

    def run(self) -> None:
        try:
            self.complete = flush(self._provider, self._timeout)
        except Exception as error:  # noqa: BLE001 - exporters of anybody
            _logger.warning("metrics could not be exported: %r", error)


def _context(ids: SpanIds | None) -> Context | None:
    """With the span of a record, for exemplars; None when it is not recorded."""
    if ids is None or not ids[3] & SAMPLED:
        return None
    span = SpanContext(ids[0], ids[1], is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span), Context())
