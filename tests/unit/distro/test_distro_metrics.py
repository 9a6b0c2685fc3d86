"""Which meter provider measures: one that is given, the global one whenever it comes, ours until the process ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ascend_opentelemetry import VLLMInstrumentor, _instrumentor, _runtime
from ascend_opentelemetry._measuring import Measuring
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.npu._observed import OncePerCollection
from ascend_opentelemetry.npu.torch import _allocator
from ascend_opentelemetry.npu.torch._allocator import AllocatorSource
from ascend_opentelemetry.recorder import Recorder, meters
from ascend_opentelemetry.version import __version__
from ascend_opentelemetry.vllm._metrics import REQUEST_METRICS, request_ended
from devtools.otlp_receiver import OtlpReceiver
from devtools.server import free_port
from tests.support.npu_stand_in import build_dcmi
from tests.support.otlp_metrics import last_values


@pytest.fixture
def instrumentor(monkeypatch: pytest.MonkeyPatch, global_recorder: Recorder) -> Iterator[VLLMInstrumentor]:
    runtime = Runtime()
    monkeypatch.setattr(_instrumentor, "runtime", runtime)
    instrumentor = VLLMInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    runtime.shutdown()


def make() -> tuple[MeterProvider, InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def count(reader: InMemoryMetricReader) -> int:
    """Requests that were measured."""
    data: Any = reader.get_metrics_data()
    scopes = data.resource_metrics[0].scope_metrics if data is not None else []
    return sum(
        point.count
        for scope in scopes
        for metric in scope.metrics
        if metric.name == "gen_ai.server.request.duration"
        for point in metric.data.data_points
    )


def request() -> None:
    request_ended(0, 1, None, {"gen_ai.operation.name": "chat"})


def test_without_a_provider_nothing_is_recorded(instrumentor: VLLMInstrumentor, global_recorder: Recorder) -> None:
    instrumentor.instrument()
    assert (global_recorder.metrics_on, global_recorder.on) == (False, False)


def test_a_provider_that_is_given_measures(instrumentor: VLLMInstrumentor, global_recorder: Recorder) -> None:
    provider, reader = make()
    instrumentor.instrument(meter_provider=provider)
    assert (global_recorder.metrics_on, global_recorder.on, global_recorder.traces_on) == (True, True, False)
    request()
    assert global_recorder.flush(5)
    assert count(reader) == 1
    instrumentor.uninstrument()
    assert (global_recorder.metrics_on, global_recorder.on) == (False, False)
    provider.shutdown()


def test_the_global_provider_measures_when_it_comes_later(
    instrumentor: VLLMInstrumentor, global_recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrumentor.instrument()
    provider, reader = make()
    monkeypatch.setattr(api, "get_meter_provider", lambda: provider)
    deadline = time.monotonic() + 10
    while not global_recorder.metrics_on:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    request()
    assert global_recorder.flush(5)
    assert count(reader) == 1
    provider.shutdown()


def test_a_provider_that_is_given_wins_over_the_global_one(
    instrumentor: VLLMInstrumentor, global_recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other, other_reader), (provider, reader) = make(), make()
    monkeypatch.setattr(api, "get_meter_provider", lambda: other)
    _instrumentor.runtime.start()
    assert global_recorder.metrics_on
    instrumentor.instrument(meter_provider=provider)
    request()
    assert global_recorder.flush(5)
    assert (count(other_reader), count(reader)) == (0, 1)
    instrumentor.uninstrument()
    instrumentor.instrument(meter_provider=api.NoOpMeterProvider())
    assert not global_recorder.metrics_on
    other.shutdown()
    provider.shutdown()


class OwnSource:
    """A source that has an instrument of its own from the start."""

    name = "measuring"

    def start(self, *, leader: bool) -> None:
        meters.get("scope").create_counter("own").add(1)

    def open(self, window: Any) -> None: ...
    def close(self) -> None: ...
    def shutdown(self, timeout: float) -> None: ...
    def after_fork(self) -> None: ...
    def describe(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("bridged", [False, True])
def test_a_provider_that_is_given_is_that_of_the_sources_too(
    instrumentor: VLLMInstrumentor, monkeypatch: pytest.MonkeyPatch, bridged: bool
) -> None:
    monkeypatch.setattr(_runtime, "_make_sources", lambda: [OwnSource()])
    provider, reader = make()
    traces = TracerProvider() if bridged else None
    if traces is not None:
        traces.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    instrumentor.instrument(meter_provider=provider, tracer_provider=traces)
    data: Any = reader.get_metrics_data()
    scopes = {scope.scope.name: scope for scope in data.resource_metrics[0].scope_metrics}
    assert [metric.name for metric in scopes["scope"].metrics] == ["own"]
    assert scopes["scope"].scope.version == __version__
    instrumentor.uninstrument()
    instrumentor.instrument()
    assert meters.provider is None
    provider.shutdown()


def test_instrumented_with_another_provider_that_one_has_the_sources_metrics(
    instrumentor: VLLMInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = OncePerCollection(lambda: {0: {"num_alloc_retries": 3}})
    monkeypatch.setattr(_allocator._allocator, "devices", devices)
    monkeypatch.setattr(_runtime, "_make_sources", lambda: [AllocatorSource(_allocator._allocator)])

    def has_retries(reader: InMemoryMetricReader) -> bool:
        data: Any = reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data is not None else []
        return "npu.allocator.retries" in [metric.name for scope in scopes for metric in scope.metrics]

    made = [make(), make()]
    for number in (0, 1, 0):
        instrumentor.instrument(meter_provider=made[number][0])
        assert [has_retries(reader) for _, reader in made] == [number == 0, number == 1]
        instrumentor.uninstrument()
        assert not has_retries(made[number][1])
    for provider, _ in made:
        provider.shutdown()


def test_records_that_are_lost_are_counted(instrumentor: VLLMInstrumentor, global_recorder: Recorder) -> None:
    provider, reader = make()
    instrumentor.instrument(meter_provider=provider)
    global_recorder.dropped = 3
    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("vllm.telemetry.record.lost", "{record}")
    assert [(dict(point.attributes), point.value) for point in metric.data.data_points] == [
        ({"otel.component.type": "recorder", "error.type": "queue_full"}, 3),
        ({"otel.component.type": "metrics_sink", "error.type": "measure_failed"}, 0),
    ]
    provider.shutdown()


def test_instrumented_once_more_lost_records_are_still_counted(
    instrumentor: VLLMInstrumentor, global_recorder: Recorder
) -> None:
    provider, reader = make()
    for lost in (3, 5):
        instrumentor.instrument(meter_provider=provider)
        global_recorder.dropped = lost
        data: Any = reader.get_metrics_data()
        metric = data.resource_metrics[0].scope_metrics[0].metrics[0]
        assert (metric.name, metric.data.data_points[0].value) == ("vllm.telemetry.record.lost", lost)
        instrumentor.uninstrument()
    provider.shutdown()


def test_a_record_that_cannot_be_measured_is_counted(instrumentor: VLLMInstrumentor, global_recorder: Recorder) -> None:
    provider, reader = make()
    instrumentor.instrument(meter_provider=provider)
    global_recorder.emit((REQUEST_METRICS, 0, 1, 2, None, None, None))
    assert global_recorder.flush(5)
    data: Any = reader.get_metrics_data()
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert {point.attributes["otel.component.type"]: point.value for point in points}["metrics_sink"] == 1
    provider.shutdown()


class _Exporter(MetricExporter):
    """An export lasts until it is released."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self._released = released

    def export(self, metrics_data: object, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self._released.wait(30)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None: ...


class _Provider(MeterProvider):
    """Notes how long its end may take."""

    given = 0.0

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        self.given = timeout_millis


@pytest.mark.parametrize(("hangs", "left"), [(False, 1000), (True, 500)])
def test_an_export_that_hangs_at_the_end_is_waited_for_once(
    hangs: bool, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    reader = PeriodicExportingMetricReader(_Exporter(released), export_interval_millis=600_000)
    provider = _Provider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(api, "get_meter_provider", lambda: provider)
    measuring = Measuring()
    measuring.own()
    sink = measuring.make_sink(dict)
    sink.look()
    if not hangs:
        released.set()
    while sink.flush(0.01) is hangs:
        pass
    measuring.shutdown()
    assert provider.given == left
    released.set()
    MeterProvider.shutdown(provider)


PROGRAM = """
import multiprocessing, sys, time
from ascend_opentelemetry.distro import AscendConfigurator, AscendDistro
from ascend_opentelemetry import VLLMInstrumentor
from ascend_opentelemetry.vllm._metrics import request_ended
AscendDistro().configure()
AscendConfigurator().configure()
VLLMInstrumentor().instrument()

def ask(times):
    for _ in range(times):
        request_ended(0, 1, None, {"gen_ai.operation.name": "chat"})

ask(3)
if "fork" in sys.argv:
    from ascend_opentelemetry.recorder import recorder
    assert recorder.flush(5)
    child = multiprocessing.get_context("fork").Process(target=ask, args=(1,))
    child.start()
    child.join()
    assert child.exitcode == 0
print(time.time(), flush=True)
"""


def run(endpoint: str, *args: str, **variables: str) -> float:
    """Seconds that the program takes to end."""
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "600000", "PYTHONPATH": ":".join(sys.path),
        **variables,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    return time.time() - float(done.stdout)


def test_the_last_values_are_exported_at_the_end_of_the_process(tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "x.jsonl") as receiver:
        run(str(receiver.grpc_endpoint), OTEL_PYTHON_VLLM_DCMI_LIBRARY=str(build_dcmi("v1", tmp_path)))
    found = {one.name: one for one in last_values(receiver.requests("metrics"))}
    assert found["gen_ai.server.request.duration"].count == 3
    assert found["hw.temperature"].attributes["hw.type"] == "gpu"  # what is read when it is asked for
    assert found["gen_ai.server.request.duration"].resource["telemetry.distro.name"] == "ascend-opentelemetry"


def test_a_forked_child_counts_and_exports_for_itself(tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "x.jsonl") as receiver:
        run(str(receiver.grpc_endpoint), "fork")
    found = [one for one in last_values(receiver.requests("metrics")) if one.name == "gen_ai.server.request.duration"]
    assert [one.count for one in found] == [3, 1]
    for key in ("service.instance.id", "process.pid"):
        assert len({one.resource[key] for one in found}) == 2, key


def test_a_dead_endpoint_is_not_waited_for_until_its_exporter_gives_up() -> None:
    assert run(f"http://127.0.0.1:{free_port()}") < 8  # the exporter retries for 10 s, twice


def test_a_provider_that_has_ended_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr(api, "get_meter_provider", lambda: provider)
    measuring = Measuring()
    measuring.own()
    provider.shutdown()
    measuring.shutdown()
    assert caplog.messages == []
