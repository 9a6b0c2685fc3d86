"""A batch is what its values recorded one by one would be, for every view and reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
    View,
)

from ascend_opentelemetry import _batch_histogram
from ascend_opentelemetry._batch_histogram import BatchHistogram

VALUES = np.random.default_rng(7).exponential(0.001, 500)
BOUNDS = [0.0001, 0.001, 0.01]
VIEWS = {
    "none": [],
    "other keys": [View(instrument_name="d", attribute_keys={"a"})],
    "other buckets": [View(instrument_name="d", name="e", aggregation=ExplicitBucketHistogramAggregation([0.0005]))],
    "without extremes": [
        View(instrument_name="d", aggregation=ExplicitBucketHistogramAggregation(BOUNDS, record_min_max=False))
    ],
    "two views": [View(instrument_name="d", name="one"), View(instrument_name="d", name="two", attribute_keys=set())],
    "dropped": [View(instrument_name="d", aggregation=DropAggregation())],
    "exponential": [View(instrument_name="d", aggregation=ExponentialBucketHistogramAggregation())],
    "a sum": [View(instrument_name="d", aggregation=SumAggregation())],
}


def points(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    found: list[Any] = []
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points if scope.scope.name == "test" else ():
                    numbers = [
                        getattr(point, name, None)
                        for name in ("count", "bucket_counts", "explicit_bounds", "min", "max", "scale", "positive")
                    ]
                    total = round(getattr(point, "sum", None) or point.value, 9)
                    found.append((metric.name, dict(point.attributes), total, *numbers))
    return found


def recorded(views: list[View], batch: bool) -> list[Any]:
    delta = {Histogram: AggregationTemporality.DELTA}
    readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=delta)]
    provider = MeterProvider(readers, views=views, shutdown_on_exit=False)
    histogram = provider.get_meter("test").create_histogram("d", explicit_bucket_boundaries_advisory=BOUNDS)
    found: list[Any] = []
    for round_ in range(3):
        values, attributes = VALUES * (round_ + 1), {"a": "x", "b": round_ % 2}
        if batch:
            BatchHistogram(histogram).record(values, attributes)
        else:
            for value in values.tolist():
                histogram.record(value, attributes)
        found += [points(reader) for reader in readers]
    provider.shutdown()
    return found


@pytest.mark.parametrize("views", VIEWS)
def test_the_points_are_those_of_single_values(views) -> None:
    expected = recorded(VIEWS[views], batch=False)
    assert recorded(VIEWS[views], batch=True) == expected
    assert views == "dropped" or len(expected[-1]) >= 1


def test_a_prometheus_reader_sees_them() -> None:
    exporter = pytest.importorskip("opentelemetry.exporter.prometheus")
    client = pytest.importorskip("prometheus_client")
    reader = exporter.PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    histogram = provider.get_meter("test").create_histogram("d", "s", explicit_bucket_boundaries_advisory=BOUNDS)
    BatchHistogram(histogram).record(np.asarray([0.00005, 0.0005, 0.0005, 5.0]), {"a": "x"})
    text = client.generate_latest().decode()
    provider.shutdown()
    assert 'd_seconds_bucket{a="x",le="0.001",otel_scope_name="test"' in text
    (count,) = [line for line in text.splitlines() if line.startswith('d_seconds_count{a="x"')]
    assert count.endswith(" 4.0")


def test_an_sdk_of_another_make_gets_each_value(monkeypatch) -> None:
    monkeypatch.setattr(_batch_histogram, "_storages", lambda _: [])
    expected = recorded([], batch=False)
    assert recorded([], batch=True) == expected

    class Foreign:
        def __init__(self) -> None:
            self.taken: list[Any] = []

        def record(self, value: float, attributes: Any) -> None:
            self.taken.append((value, attributes))

    foreign = Foreign()
    BatchHistogram(foreign).record(np.asarray([1.0, 2.0]), {"a": 1})
    assert foreign.taken == [(1.0, {"a": 1}), (2.0, {"a": 1})]


def test_without_a_provider_nothing_is_done(monkeypatch) -> None:
    histogram = api.NoOpMeterProvider().get_meter("test").create_histogram("d")
    monkeypatch.setattr(type(histogram), "record", lambda *_: pytest.fail("recorded"))
    BatchHistogram(histogram).record(VALUES, {})
    BatchHistogram(histogram).record(VALUES[:0], {})
