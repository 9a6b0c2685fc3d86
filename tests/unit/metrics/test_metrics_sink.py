"""Records become measurements: buckets, sums, last values, exemplars, views, Prometheus."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from ascend_opentelemetry.metrics import MetricsSink, Totals, _sink, is_read
from ascend_opentelemetry.recorder import Measurement, Measurements, RecordType
from ascend_opentelemetry.semconv.metrics import Metric
from tests.unit.metrics.conftest import ATTRIBUTES, FILLED, LOST, MEASURED, TAKEN, WAITED, Measuring, measured


def test_values_go_to_instruments_of_their_kind(measuring: Measuring) -> None:
    measuring.sink.write([measured((WAITED, 0.5), (TAKEN, 2), (FILLED, 0.1)), measured((WAITED, 1.5), (TAKEN, 3))])
    measuring.sink.write([measured((FILLED, 0.4))])
    measuring.sink.commit()
    found = measuring.metrics()
    assert {name: (type(metric.data).__name__, metric.unit, metric.description) for name, metric in found.items()} == {
        "test.waited": ("Histogram", "s", "Time waited."),
        "test.taken": ("Sum", "{thing}", "Things taken."),
        "test.filled": ("Gauge", "1", "Share filled."),
        "test.lost": ("Sum", "{thing}", "Things lost."),
    }
    waited, taken, filled, lost = (found[metric.name].data.data_points[0] for metric in (WAITED, TAKEN, FILLED, LOST))
    assert (waited.explicit_bounds, waited.bucket_counts, waited.count, waited.sum) == ((1.0, 2.0), (1, 1, 0), 2, 2.0)
    assert (taken.value, filled.value, lost.value) == (5, 0.4, 7)
    assert {tuple(dict(point.attributes).items()) for point in (waited, taken, filled, lost)} == {ATTRIBUTES}
    assert found["test.taken"].data.is_monotonic
    assert found["test.lost"].data.is_monotonic


def test_a_value_of_a_sampled_record_has_an_exemplar(measuring: Measuring) -> None:
    measuring.sink.write([measured((WAITED, 0.5), ids=(0xA, 0xB, 0, 1)), measured((WAITED, 1.5), ids=(0xC, 0xD, 0, 0))])
    measuring.sink.write([measured((WAITED, 3))])
    measuring.sink.commit()
    point = measuring.metrics()["test.waited"].data.data_points[0]
    assert point.count == 3
    assert [(one.trace_id, one.span_id, one.value) for one in point.exemplars] == [(0xA, 0xB, 0.5)]


def test_a_busy_process_hands_values_over_once_a_second_and_an_idle_one_at_once(
    measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(hand_over: Callable[[], object]) -> float:
        measuring.sink.write([measured((TAKEN, 1))])
        hand_over()
        return measuring.metrics()["test.taken"].data.data_points[0].value

    monkeypatch.setattr(_sink, "KEPT_SECONDS", 1000.0)
    assert [taken(measuring.sink.commit) for _ in range(3)] == [1, 1, 1]
    assert taken(measuring.sink.request_flush) == 4
    assert taken(measuring.sink.commit) == 4
    assert taken(lambda: measuring.sink.flush(1)) == 6
    monkeypatch.setattr(_sink, "KEPT_SECONDS", 0.0)
    assert taken(measuring.sink.request_flush) == 7
    assert [taken(measuring.sink.commit) for _ in range(2)] == [8, 9]


def test_values_wait_to_be_handed_over_and_those_with_an_exemplar_do_not(measuring: Measuring) -> None:
    measuring.sink.write([measured((TAKEN, 1), (FILLED, 1), (WAITED, 1))])
    assert set(measuring.metrics()) == {"test.lost"}
    measuring.sink.write([measured((WAITED, 2), ids=(0xA, 0xB, 0, 1))])
    assert measuring.metrics()["test.waited"].data.data_points[0].sum == 2
    for _ in range(2):
        measuring.sink.commit()
        assert set(measuring.metrics()) == {"test.lost", "test.taken", "test.filled", "test.waited"}
        (point,) = measuring.metrics()["test.waited"].data.data_points
        assert (point.count, point.sum, point.min, point.max) == (2, 3, 1, 2)


def test_series_of_a_histogram_are_kept_apart_until_the_end_of_the_round(measuring: Measuring) -> None:
    kinds = ("a", "b", "a")
    series = RecordType(
        "Test", "series", measure=lambda record: [Measurement(WAITED, record[5][0], (("kind", record[5][1]),))]
    )
    measuring.sink.write([(series, 1, 2, 3, None, (number, kind), None) for number, kind in enumerate(kinds)])
    measuring.sink.commit()
    points = measuring.metrics()["test.waited"].data.data_points
    found = {point.attributes["kind"]: (point.bucket_counts, point.sum) for point in points}
    assert found == {"a": ((1, 1, 0), 2), "b": ((1, 0, 0), 1)}


@pytest.mark.parametrize("metric", [WAITED, TAKEN])
def test_a_value_that_its_instrument_refuses_costs_only_itself(
    measuring: Measuring, caplog: pytest.LogCaptureFixture, metric: Metric
) -> None:
    wrong: Any = "text"
    with caplog.at_level(logging.WARNING):
        measuring.sink.write([measured((metric, 2)), measured((metric, -1)), measured((metric, wrong))])
        measuring.sink.commit()
    point = measuring.metrics()[metric.name].data.data_points[0]
    assert (point.sum if metric is WAITED else point.value) == 2
    assert measuring.sink.failed == 1
    assert [record.name.partition(".")[0] for record in caplog.records] == ["opentelemetry", "ascend_opentelemetry"]


SEVERAL = RecordType(
    "Test", "several", measure=lambda record: [Measurements(WAITED, values, ATTRIBUTES) for values in record[5]]
)


def test_several_values_at_once_are_counted_each(measuring: Measuring) -> None:
    record = (SEVERAL, 1, 2, 3, (0xA, 0xB, 0, 1), ([0.5, 1.5, 1.5], [4.0]), None)
    measuring.sink.write([record, measured((WAITED, 0.5))])
    assert measuring.sink.failed == 0
    measuring.sink.commit()
    (point,) = measuring.metrics()["test.waited"].data.data_points
    assert (point.bucket_counts, point.count, point.sum, point.min, point.max) == ((2, 2, 1), 5, 8.0, 0.5, 4.0)


def test_records_that_nobody_measures_pass(measuring: Measuring) -> None:
    measuring.sink.write([(RecordType("Test", "other"), 1, 2, 3, (1, 2, 0, 1), (), None)])
    assert (set(measuring.metrics()), measuring.sink.failed) == ({"test.lost"}, 0)


def test_a_record_that_cannot_be_measured_is_told_once(measuring: Measuring, caplog: pytest.LogCaptureFixture) -> None:
    broken = (MEASURED, 1, 2, 3, None, 5, None)
    with caplog.at_level(logging.WARNING):
        measuring.sink.write([broken, measured((WAITED, 1)), broken])
    assert measuring.sink.failed == 2
    measuring.sink.commit()
    assert measuring.metrics()["test.waited"].data.data_points[0].count == 1
    assert [record.message for record in caplog.records] == [
        "RecordType('Test', 'measured'): its records cannot be measured: TypeError(\"'int' object is not iterable\")"
    ]


def test_a_filter_that_takes_values_without_a_span_gets_each() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter(), shutdown_on_exit=False)
    sink = MetricsSink(lambda: (provider, False), lambda on: None)
    sink.look()
    sink.write([measured((WAITED, 0.5)), measured((WAITED, 1.5)), measured((WAITED, 3))])
    sink.commit()
    point = Measuring(sink, reader, provider, []).metrics()["test.waited"].data.data_points[0]
    assert (point.count, sorted(one.value for one in point.exemplars)) == (3, [0.5, 1.5, 3])
    sink.shutdown(1)
    provider.shutdown()


def test_views_of_the_user_apply() -> None:
    reader = InMemoryMetricReader()
    views = [
        View(
            instrument_name="test.waited", aggregation=ExplicitBucketHistogramAggregation([5.0]), attribute_keys=set()
        ),
        View(instrument_name="test.taken", name="mine"),
    ]
    provider = MeterProvider([reader], views=views, shutdown_on_exit=False)
    sink = MetricsSink(lambda: (provider, False), lambda on: None)
    sink.look()
    sink.write([measured((WAITED, 6), (TAKEN, 1))])
    sink.commit()
    data: Any = reader.get_metrics_data()
    found = {metric.name: metric.data.data_points[0] for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(found) == {"test.waited", "mine"}
    waited = found["test.waited"]
    assert (waited.explicit_bounds, waited.bucket_counts, dict(waited.attributes)) == ((5.0,), (0, 1), {})


def test_prometheus_reads_them_and_a_flush_doubles_nothing() -> None:
    prometheus = pytest.importorskip("opentelemetry.exporter.prometheus")
    from prometheus_client import REGISTRY, generate_latest

    reader = prometheus.PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        sink = MetricsSink(lambda: (provider, False), lambda on: None)
        sink.look()
        sink.write([measured((WAITED, 1.5), (TAKEN, 2), (FILLED, 0.5))])
        sink.commit()
        assert sink.flush(1)
        lines = [line for line in generate_latest(REGISTRY).decode().splitlines() if line.startswith("test_")]
        values = {line.partition("{")[0]: line.rpartition(" ")[2] for line in lines if "_bucket" not in line}
        assert values == {
            "test_waited_seconds_count": "1.0",
            "test_waited_seconds_sum": "1.5",
            "test_taken_total": "2.0",
            "test_filled": "0.5",
        }
        assert len(lines) == len(set(lines))
        buckets = [line for line in lines if line.startswith("test_waited_seconds_bucket")]
        assert [line.rpartition(" ")[2] for line in buckets] == ["0.0", "1.0", "1.0"]
    finally:
        provider.shutdown()


def test_nothing_is_measured_until_somebody_reads() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    switched: list[bool] = []
    sink = MetricsSink(lambda: (provider, False) if is_read(provider) else None, switched.append)
    sink.look()
    assert (switched, sink.flush(1)) == ([False], True)
    sink.write([measured((TAKEN, 1))])
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this SDK takes readers at its start alone")
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    sink.commit()
    assert switched == [False, True]
    sink.write([measured((TAKEN, 2))])
    sink.commit()
    data: Any = reader.get_metrics_data()
    assert data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value == 2


@pytest.mark.parametrize(
    "provider", [api.NoOpMeterProvider(), api.get_meter_provider(), MeterProvider(shutdown_on_exit=False)]
)
def test_providers_that_nobody_reads(provider: api.MeterProvider) -> None:
    assert not is_read(provider)


def test_a_provider_that_is_not_of_the_sdk_is_used() -> None:
    class Own(api.NoOpMeterProvider):
        pass

    assert is_read(Own())


class _Broken(MeterProvider):
    """Makes no meters, or counters that fail as often as they are told to."""

    fails = 0

    def __init__(self, reader: InMemoryMetricReader, fails: int) -> None:
        super().__init__([reader], shutdown_on_exit=False)
        self.fails = fails

    def get_meter(self, *args: Any, **kwargs: Any) -> Any:
        if self.fails < 0:
            raise RuntimeError("no meters here")
        meter = super().get_meter(*args, **kwargs)
        create = meter.create_counter

        def create_counter(*args: Any) -> Any:
            counter = create(*args)
            add = counter.add

            def fail(*args: Any) -> None:
                if self.fails:
                    self.fails -= 1
                    raise RuntimeError("full")
                add(*args)

            counter.add = fail  # pyright: ignore[reportAttributeAccessIssue]
            return counter

        meter.create_counter = create_counter  # pyright: ignore[reportAttributeAccessIssue]
        return meter


def test_an_instrument_that_raises_has_no_value_counted_twice() -> None:
    reader = InMemoryMetricReader()
    sink = MetricsSink(lambda: (provider, False), lambda on: None)
    provider = _Broken(reader, fails=1)
    sink.look()
    other = Metric("test.other", "counter", "{thing}", "Other things.")
    sink.write([measured((TAKEN, 1), (other, 1))])
    with pytest.raises(RuntimeError, match="full"):
        sink.commit()
    sink.request_flush()
    sink.request_flush()
    data: Any = reader.get_metrics_data()
    points = [metric.data.data_points[0].value for metric in data.resource_metrics[0].scope_metrics[0].metrics]
    assert points == [1]


def test_a_provider_that_makes_no_meters_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    provider = _Broken(InMemoryMetricReader(), fails=-1)
    switched: list[bool] = []
    sink = MetricsSink(lambda: (provider, False), switched.append)
    for _ in range(3):
        sink.look()
    assert switched == [False]
    assert [record.message for record in caplog.records] == [
        "the meter provider _Broken makes no instruments, nothing is measured: RuntimeError('no meters here')"
    ]


def test_totals_go_to_the_provider_that_was_found_last() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    providers = [MeterProvider([reader], shutdown_on_exit=False) for reader in readers]
    found = iter([providers[0], providers[1], providers[0]])
    collected: list[int] = []
    reads: list[int] = []

    def read() -> list[Measurement]:
        reads.append(collected[-1])
        return [Measurement(LOST, 7, ATTRIBUTES)]

    sink = MetricsSink(lambda: (next(found), False), lambda on: None, [Totals(LOST, read)])
    for _ in range(3):
        sink.look()
        for number, reader in enumerate(readers):
            collected.append(number)
            reader.get_metrics_data()
    assert reads == [0, 1, 0]


def test_after_the_end_nothing_is_measured_or_observed(measuring: Measuring) -> None:
    measuring.sink.write([measured((TAKEN, 1))])
    measuring.sink.shutdown(1)
    assert measuring.switched == [True, False]
    measuring.sink.write([measured((TAKEN, 1))])
    measuring.sink.commit()
    found = measuring.metrics()
    assert found["test.taken"].data.data_points[0].value == 1
    assert "test.lost" not in found


class _Hanging(MetricExporter):
    """An export lasts until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.exports = 0
        self.released = threading.Event()

    def export(self, metrics_data: object, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.exports += 1
        self.released.wait(30)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None: ...


def test_a_flush_does_not_wait_for_a_slow_exporter_and_starts_no_second_one() -> None:
    exporter = _Hanging()
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    sink = MetricsSink(lambda: (provider, False), lambda on: None)
    sink.look()
    sink.write([measured((TAKEN, 1))])
    sink.commit()
    assert [sink.flush(0.1), sink.flush(60)] == [False, False]  # half a second is all that metrics get
    assert exporter.exports == 1
    exporter.released.set()
    deadline = time.monotonic() + 10
    while not sink.flush(5):
        assert time.monotonic() < deadline
    provider.shutdown()


def test_an_exporter_that_raises_fails_the_flush_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Reader(InMemoryMetricReader):
        _exporter = None

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            raise OSError("no endpoint")

    provider = MeterProvider([Reader()], shutdown_on_exit=False)
    sink = MetricsSink(lambda: (provider, False), lambda on: None)
    sink.look()
    assert not sink.flush(5)
    assert [record.message for record in caplog.records] == ["metrics could not be exported: OSError('no endpoint')"]
