"""Metrics by name from a real provider, and record types that are measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.metrics import MetricsSink, Totals
from ascend_opentelemetry.recorder import Measurement, Record, RecordType
from ascend_opentelemetry.semconv.metrics import Metric

WAITED = Metric("test.waited", "histogram", "s", "Time waited.", (1.0, 2.0))
TAKEN = Metric("test.taken", "counter", "{thing}", "Things taken.")
FILLED = Metric("test.filled", "gauge", "1", "Share filled.")
LOST = Metric("test.lost", "counter", "{thing}", "Things lost.")
ATTRIBUTES = (("kind", "a"),)


def _measure(record: Record) -> Iterator[Measurement]:
    for metric, value in record[5]:
        yield Measurement(metric, value, ATTRIBUTES)


MEASURED = RecordType("Test", "measured", traces=False, native=False, measure=_measure)


def measured(*values: tuple[Metric, float], ids: Any = None) -> Record:
    """A record with these values."""
    return MEASURED, 1, 2, 3, ids, values, None


class Measuring(NamedTuple):
    """A sink, the reader of its provider, and what the switch was told."""

    sink: MetricsSink
    reader: InMemoryMetricReader
    provider: MeterProvider
    switched: list[bool]

    def metrics(self) -> dict[str, Any]:
        """What is collected now of our scope: the SDK's metrics by name."""
        data = self.reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data is not None else []
        ours = [scope for scope in scopes if scope.scope.name == "ascend_opentelemetry"]
        return {metric.name: metric for scope in ours for metric in scope.metrics}


@pytest.fixture
def measuring() -> Iterator[Measuring]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    switched: list[bool] = []
    sink = MetricsSink(
        lambda: (provider, False), switched.append, [Totals(LOST, lambda: [Measurement(LOST, 7, ATTRIBUTES)])]
    )
    sink.look()
    yield Measuring(sink, reader, provider, switched)
    sink.shutdown(1)
    provider.shutdown()
