"""Instruments of a meter, made as their metrics come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Observation

from ascend_opentelemetry.recorder import Measurement, Measurements, Metric

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from ascend_opentelemetry._batch_histogram import BatchHistogram

_Pairs = tuple[tuple[str, Any], ...]
_Read = Callable[[], Iterable[Measurement]]

#: Who is asked for the values of an observable counter, by its meter: the SDK ignores the callbacks of a second one.
_readers: WeakKeyDictionary[Meter, dict[Metric, _Read]] = WeakKeyDictionary()


class Instruments:
    """Gives values to the instruments when it is told to; at once those with an exemplar.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._instruments: dict[Metric, Any] = {}
        self._batches: dict[Metric, BatchHistogram] = {}
        #: Values since the last call of ``settle``, by the id of their metric and attributes.
        self._waiting: dict[tuple[int, _Pairs], tuple[Metric, list[float]]] = {}

    def add(self, measurement: Measurement | Measurements, context: Context | None) -> None:
        """Take a value, or several.

        Args:
            measurement: of a counter, a gauge or a histogram.
            context: with the span that a histogram's exemplar refers to; None for none.
        """
        if isinstance(measurement, Measurements):
            metric, values, attributes = measurement
            self._series(metric, attributes).extend(values)
            return
        metric, value, attributes = measurement
        kind = metric.instrument
        if kind == "histogram" and (context is not None or not value >= 0):
            # at once: for its exemplar, or for the instrument to say what is wrong with it
            self._instrument(metric).record(value, dict(attributes), context)
        elif kind == "counter" and not value >= 0:
            self._instrument(metric).add(value, dict(attributes))
        else:
            self._series(metric, attributes).append(value)

    def _series(self, metric: Metric, attributes: _Pairs) -> list[float]:
        key = id(metric), attributes  # by its id, as the hash of a metric takes long
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = metric, []
        return waiting[1]

    def settle(self) -> None:
        """Hand over what came since the last call, each value once, whatever an instrument does."""
        while self._waiting:
            (_, attributes), (metric, values) = self._waiting.popitem()
            if metric.instrument == "counter":
                self._instrument(metric).add(sum(values), dict(attributes))
            elif metric.instrument == "gauge":
                self._instrument(metric).set(values[-1], dict(attributes))
            else:
                self._record(metric, values, dict(attributes))

    def _record(self, metric: Metric, values: list[float], attributes: dict[str, Any]) -> None:
        import numpy as np  # slow, and of no use to a process that measures nothing

        from ascend_opentelemetry._batch_histogram import BatchHistogram

        batch = self._batches.get(metric)
        if batch is None:
            batch = self._batches[metric] = BatchHistogram(self._instrument(metric))
        batch.record(np.asarray(values, np.float64), attributes)

    def forget(self) -> None:
        """Drop what was not handed over."""
        self._waiting.clear()

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
