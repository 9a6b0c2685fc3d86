"""Sends points and events by the SDK's OTLP exporters, which know endpoint, headers and retries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.npu._scope import SCOPE
from ascend_opentelemetry.npu.operators._window_event import Event
from ascend_opentelemetry.npu.recordings._telemetry import BOUNDS, Histogram, Point
from ascend_opentelemetry.semconv.metrics import Metric
from ascend_opentelemetry.version import __version__

#: Of a request: a gRPC server takes 4 MiB, a point of a histogram is about 500 bytes, an event with ten operators 1.5 kB.
_POINTS = 2000
_EVENTS = 400


class SendError(Exception):
    """The endpoint did not take it; the exporter has logged why."""


def protocol(env: Mapping[str, str], signal: str) -> str:
    """What the variables name for ``METRICS`` or ``LOGS``; grpc, as in the distribution, when none does."""
    return env.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"


def wants_delta(env: Mapping[str, str]) -> bool:
    """Whether the variables ask for delta temporality."""
    preference = env.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    return preference in ("delta", "lowmemory")


class OtlpSender:
    """Sends; made of the standard variables.

    Args:
        env: the variables.

    Raises:
        ValueError: a protocol that is neither grpc nor http/protobuf.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._metrics: Any = _exporter(protocol(env, "METRICS"), "metric_exporter", "OTLPMetricExporter")
        self._logs: Any = _exporter(protocol(env, "LOGS"), "_log_exporter", "OTLPLogExporter")
        self._delta = wants_delta(env)

    def send(self, attributes: Mapping[str, Any], points: Iterable[Point], events: Iterable[Event]) -> int:
        """Send all, and wait for the answers.

        Args:
            attributes: of the resource, beside those of the environment.
            points: in the order of time.
            events: the same.

        Returns:
            The number of points and events.

        Raises:
            SendError: something was not taken.
        """
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create(dict(attributes))
        sent = 0
        for batch in _batches(points, _POINTS):
            if self._metrics.export(_metrics_data(resource, batch, self._delta)) is not MetricExportResult.SUCCESS:
                raise SendError(f"the metrics endpoint {without_secrets(self._metrics._endpoint)} did not take them")
            sent += len(batch)
        for batch in _batches(events, _EVENTS):
            records = [_log_record(resource, event) for event in batch]
            if self._logs.export(records) is not LogRecordExportResult.SUCCESS:
                raise SendError(f"the logs endpoint {without_secrets(self._logs._endpoint)} did not take them")
            sent += len(batch)
        return sent

    def close(self) -> None:
        """Close the connections."""
        self._metrics.shutdown()
        self._logs.shutdown()


def _exporter(name: str, module: str, exporter: str) -> Any:
    from importlib import import_module

    packages = {"grpc": "grpc", "http/protobuf": "http"}
    if name not in packages:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {name!r}; set grpc or http/protobuf")
    return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{packages[name]}.{module}"), exporter)()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _metrics_data(resource: Any, batch: Iterable[Point], delta: bool) -> Any:
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics

    by_metric: dict[Metric, list[Point]] = {}
    for point in batch:
        by_metric.setdefault(point.metric, []).append(point)
    metrics = [_metric(metric, points, delta) for metric, points in by_metric.items()]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(_scope(), metrics, "")], "")])


def _metric(metric: Metric, points: Iterable[Point], delta: bool) -> Any:
    from opentelemetry.sdk.metrics import export

    numbers: list[Any] = []
    for _, attributes, start, time, value in points:
        if isinstance(value, Histogram):
            shape = value.count, value.sum, value.buckets, BOUNDS, value.min, value.max
            numbers.append(export.HistogramDataPoint(dict(attributes), start, time, *shape))
        else:
            numbers.append(export.NumberDataPoint(dict(attributes), start, time, value))
    temporality = export.AggregationTemporality
    if metric.instrument == "gauge":
        data: Any = export.Gauge(numbers)
    elif metric.instrument == "updowncounter":
        data = export.Sum(numbers, temporality.CUMULATIVE, is_monotonic=False)
    else:
        chosen = temporality.DELTA if delta else temporality.CUMULATIVE
        counter = metric.instrument == "counter"
        data = export.Sum(numbers, chosen, is_monotonic=True) if counter else export.Histogram(numbers, chosen)
    return export.Metric(metric.name, metric.description, metric.unit, data)


def _log_record(resource: Any, event: Event) -> Any:
    from time import time_ns

    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord

    record = LogRecord(
        timestamp=event.time_ns,
        observed_timestamp=time_ns(),
        severity_number=SeverityNumber.INFO,
        body=event.body,
        attributes=dict(event.attributes),
        event_name=event.name,
    )
    return ReadableLogRecord(record, resource, _scope())


def _scope() -> Any:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    return InstrumentationScope(SCOPE, __version__)
