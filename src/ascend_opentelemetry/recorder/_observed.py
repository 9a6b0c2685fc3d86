"""Instruments that are read when a metric reader asks, and silent while they are off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from ascend_opentelemetry.recorder._meters import meters
from ascend_opentelemetry.recorder._metric import Metric

_logger = logging.getLogger(__name__)

#: What gives the values of a metric.
Read = Callable[[], Iterable[Observation]]


class ObservedInstruments:
    """Observable instruments of the meter provider that a process has now, which may become another one.

    They are made once a provider, when they are first turned on there: the SDK cannot take one back, and drops the
    callbacks of a second one of the same name. Those of a former provider give no values.

    Args:
        scope: name of the instrumentation scope.
        what: they measure, in a warning.
        reads: by metric, whose ``instrument`` is ``counter``, ``updowncounter`` or ``gauge``.
        provider: None: that of the process, as it is then.
    """

    def __init__(
        self, scope: str, what: str, reads: Mapping[Metric, Read], provider: MeterProvider | None = None
    ) -> None:
        self._scope = scope
        self._what = what
        self._reads = reads
        self._provider = provider
        #: Those that have the instruments; None: the global one.
        self._made: list[MeterProvider | None] = []
        self.is_on = False

    def turn_on(self) -> None:
        """Measure from now on."""
        self.is_on = True
        self._make()
        meters.on_change(self._make)

    def turn_off(self) -> None:
        """Give no more values."""
        self.is_on = False

    def _wanted(self) -> MeterProvider | None:
        return self._provider or meters.provider

    def _make(self) -> None:
        provider = self._wanted()
        if not self.is_on or any(_are_one(provider, made) for made in self._made):
            return
        try:
            meter = meters.get(self._scope, provider)
            create = {
                "counter": meter.create_observable_counter,
                "updowncounter": meter.create_observable_up_down_counter,
                "gauge": meter.create_observable_gauge,
            }
            for metric, read in self._reads.items():
                callback = self._guarded(read, provider)
                create[metric.instrument](metric.name, [callback], metric.unit, metric.description)
            self._made.append(provider)
        except Exception as error:  # noqa: BLE001 - providers of anybody
            self._fail(error)

    def _guarded(
        self, read: Read, provider: MeterProvider | None
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001
            if not self.is_on or not _are_one(provider, self._wanted()):
                return ()
            try:
                return list(read())
            except Exception as error:  # noqa: BLE001 - the SDK would log each one, with each collection
                self._fail(error)
                return ()

        return callback

    def _fail(self, error: Exception) -> None:
        self.is_on = False
        _logger.warning("metrics of %s are off: %s: %s", self._what, type(error).__name__, error)


def _are_one(provider: MeterProvider | None, other: MeterProvider | None) -> bool:
    """Whether they are the same, where None is the global one: one that was given may have become it."""
    if provider is None or other is None:
        common = metrics.get_meter_provider()
        provider, other = provider or common, other or common
    return provider is other
