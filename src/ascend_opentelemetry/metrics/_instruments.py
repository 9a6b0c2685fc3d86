"""Instruments of a meter, made as their metrics come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Observation

from ascend_opentelemetry.recorder import Measurement, Metric

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

_Key = tuple[Metric, tuple[tuple[str, Any], ...]]
_Read = Callable[[], Iterable[Measurement]]

#: Who is asked for the values of an observable counter, by its meter: the SDK ignores the callbacks of a second one.
_readers: WeakKeyDictionary[Meter, dict[Metric, _Read]] = WeakKeyDictionary()


class Instruments:
    """Gives values to the instruments; those of counters and gauges once a round, which is enough for any reader.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._instruments: dict[Metric, Any] = {}
        self._sums: dict[_Key, float] = {}
        self._last: dict[_Key, float] = {}

    def add(self, measurement: Measurement, context: Context | None) -> None:
        """Take a value.

        Args:
            measurement: of a counter, a gauge or a histogram.
            context: with the span that a histogram's exemplar refers to; None for none.
        """
        metric, value, attributes = measurement
        if metric.instrument == "histogram":
            self._instrument(metric).record(value, dict(attributes), context)
        elif metric.instrument == "counter":
            key = metric, attributes
            self._sums[key] = self._sums.get(key, 0) + value
        else:
            self._last[metric, attributes] = value

    def settle(self) -> None:
        """Hand over what the counters and gauges got since the last call, each value once, whatever an instrument does."""
        while self._sums:
            (metric, attributes), value = self._sums.popitem()
            self._instrument(metric).add(value, dict(attributes))
        while self._last:
            (metric, attributes), value = self._last.popitem()
            self._instrument(metric).set(value, dict(attributes))

    def forget(self) -> None:
        """Drop what was not handed over."""
        self._sums.clear()
        self._last.clear()

    def observe(self, metric: Metric, read: _Read) -> None:
        """Have the values of a counter read whenever somebody collects, from now on from here alone."""
        readers = _readers.setdefault(self._meter, {})
        known = metric in readers
        readers[metric] = read
        if known:
            return

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(attributes)) for _, value, attributes in readers[metric]()]

        self._meter.create_observable_counter(metric.name, [callback], metric.unit, metric.description)

    def _instrument(self, metric: Metric) -> Any:
        instrument = self._instruments.get(metric)
        if instrument is None:
            instrument = self._instruments[metric] = self._make(metric)
        return instrument

    def _make(self, metric: Metric) -> Any:
        if metric.instrument == "histogram":
            boundaries = metric.boundaries or None
            return self._meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=boundaries
            )
        create = self._meter.create_counter if metric.instrument == "counter" else self._meter.create_gauge
        return create(metric.name, metric.unit, metric.description)
