"""Sends points and events by the SDK's OTLP exporters, which know endpoint, headers and retries."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import Any, Literal, TypeAlias

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.npu._scope import SCOPE
from ascend_opentelemetry.npu.operators._window_event import Event
from ascend_opentelemetry.npu.recordings._telemetry import BOUNDS, Histogram, Point
from ascend_opentelemetry.semconv.attributes import SERVICE_INSTANCE_ID
from ascend_opentelemetry.semconv.metrics import Metric
from ascend_opentelemetry.version import __version__

#: Of a request: a gRPC server takes 4 MiB, a point of a histogram is about 500 bytes, an event with ten operators 1.5 kB.
_POINTS = 2000
_EVENTS = 400

#: As variables spell them.
Signal: TypeAlias = Literal["METRICS", "LOGS"]

#: Module and class of the exporter of a signal, package of a protocol.
_EXPORTERS: Mapping[Signal, tuple[str, str]] = {
    "METRICS": ("metric_exporter", "OTLPMetricExporter"),
    "LOGS": ("_log_exporter", "OTLPLogExporter"),
}
_PACKAGES = {"grpc": "grpc", "http/protobuf": "http"}

#: Namespace that the conventions name for a ``service.instance.id`` made of what an instance is known by.
_INSTANCES = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")


class SendError(Exception):
    """The endpoint did not take it; the exporter has logged why."""


def _is_wanted(env: Mapping[str, str], signal: Signal) -> bool:
    return env.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"


def wants_delta(env: Mapping[str, str]) -> bool:
    """Whether the variables ask for delta temporality."""
    preference = env.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    return preference in ("delta", "lowmemory")


class OtlpSender:
    """Sends; made of the standard variables.

    Args:
        env: the variables.

    Raises:
        ValueError: a variable that cannot be used, or no signal is wanted.

    Attributes:
        signals: those that are sent.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.signals: list[Signal] = [signal for signal in _EXPORTERS if _is_wanted(env, signal)]
        if not self.signals:
            raise ValueError("OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER are both none: nothing would be sent")
        self._exporters: dict[Signal, Any] = {signal: _exporter(env, signal) for signal in self.signals}
        self._delta = wants_delta(env)
        self._named = f"{SERVICE_INSTANCE_ID}=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")

    def send(
        self, attributes: Mapping[str, Any], points: Iterable[Point], events: Iterable[Event], content: str
    ) -> int:
        """Send all, and wait for the answers.

        Args:
            attributes: of the resource, beside those of the environment.
            points: in the order of time.
            events: the same.
            content: digest of the file: its ``service.instance.id`` is made of it, so that a file that is sent twice is
                one series, and two files are two.

        Returns:
            The number of points and events.

        Raises:
            SendError: something was not taken.
        """
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from opentelemetry.sdk.resources import Resource

        instance = {} if self._named else {SERVICE_INSTANCE_ID: str(uuid.uuid5(_INSTANCES, content))}
        resource = Resource.create({**instance, **attributes})
        sent = 0
        for batch in _batches(points if "METRICS" in self._exporters else (), _POINTS):
            exporter = self._exporters["METRICS"]
            if exporter.export(_metrics_data(resource, batch, self._delta)) is not MetricExportResult.SUCCESS:
                raise SendError(f"the metrics endpoint {without_secrets(exporter._endpoint)} did not take them")
            sent += len(batch)
        for batch in _batches(events if "LOGS" in self._exporters else (), _EVENTS):
            exporter = self._exporters["LOGS"]
            if exporter.export([_log_record(resource, event) for event in batch]) is not LogRecordExportResult.SUCCESS:
                raise SendError(f"the logs endpoint {without_secrets(exporter._endpoint)} did not take them")
            sent += len(batch)
        return sent

    def close(self) -> None:
        """Close the connections."""
        for exporter in self._exporters.values():
            exporter.shutdown()


def _exporter(env: Mapping[str, str], signal: Signal) -> Any:
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variable = next((one for one in variables if env.get(one)), "")
    protocol = env.get(variable) or "grpc"  # as in the distribution
    if protocol not in _PACKAGES:
        raise ValueError(f"{variable} is {protocol!r}; set grpc or http/protobuf")
    module, name = _EXPORTERS[signal]
    package = f"opentelemetry.exporter.otlp.proto.{_PACKAGES[protocol]}"
    try:
        return getattr(import_module(f"{package}.{module}"), name)()
    except Exception as error:  # each version of the SDK raises its own
        what = f"an OTEL_EXPORTER_OTLP_ variable of {signal.lower()} cannot be used"
        raise ValueError(f"{what}: {error}") from error


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
