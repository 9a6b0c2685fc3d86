from __future__ import annotations

from typing import Any

import psutil
import pytest
from opentelemetry import metrics as api
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.host._metrics import HostMetrics
from ascend_opentelemetry.recorder import _observed
from ascend_opentelemetry.recorder._meters import Meters
from ascend_opentelemetry.version import __version__
from tests.unit.host.conftest import until
from tests.unit.recorder.test_recorder_fork import in_child

MODES = {"user", "nice", "system", "idle", "iowait", "interrupt", "steal"}
STATES = {"used", "free", "cached", "buffers"}


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> Meters:
    """The meter provider of the process, as these instruments alone know it."""
    meters = Meters()
    monkeypatch.setattr(_observed, "meters", meters)
    return meters


def collected(reader: Any) -> dict[str, Any]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("ascend_opentelemetry.host", __version__)
    return {metric.name: metric for metric in scope.metrics}


def points(metric: Any, key: str) -> dict[str, float]:
    for point in metric.data.data_points:
        assert list(point.attributes) == [key]
    return {point.attributes[key]: point.value for point in metric.data.data_points}


def test_names_units_kinds_and_attributes_are_those_of_the_conventions(provider, reader) -> None:
    metrics = HostMetrics(provider)
    metrics.turn_on()
    metrics.begin()
    until(lambda: "system.cpu.utilization" in collected(reader))
    found = collected(reader)
    assert {name: (metric.unit, type(metric.data).__name__) for name, metric in found.items()} == {
        "system.cpu.utilization": ("1", "Gauge"),
        "system.memory.usage": ("By", "Sum"),
        "system.memory.utilization": ("1", "Gauge"),
    }
    assert not found["system.memory.usage"].data.is_monotonic
    cpu = points(found["system.cpu.utilization"], "cpu.mode")
    assert set(cpu) == MODES
    assert sum(cpu.values()) == pytest.approx(1.0)
    usage = points(found["system.memory.usage"], "system.memory.state")
    assert set(usage) == STATES
    assert sum(usage.values()) == psutil.virtual_memory().total
    assert all(type(value) is int for value in usage.values())
    shares = points(found["system.memory.utilization"], "system.memory.state")
    assert set(shares) == STATES
    assert sum(shares.values()) == pytest.approx(1.0)


def test_instruments_are_made_once_and_silent_while_off(provider, reader, monkeypatch, caplog) -> None:
    names: list[str] = []
    really = provider.get_meter
    monkeypatch.setattr(provider, "get_meter", lambda name, *more: names.append(name) or really(name, *more))
    metrics = HostMetrics(provider)
    assert collected(reader) == {}
    for _ in range(3):
        metrics.turn_on()
        assert set(collected(reader)) >= {"system.memory.usage", "system.memory.utilization"}
        metrics.turn_off()
        assert collected(reader) == {}
    assert (names, caplog.messages) == (["ascend_opentelemetry.host"], [])


def test_nothing_is_read_while_nobody_collects(provider, reader, monkeypatch) -> None:
    reads: list[int] = []
    really = psutil.virtual_memory
    monkeypatch.setattr(psutil, "virtual_memory", lambda: reads.append(1) or really())
    metrics = HostMetrics(provider)
    metrics.turn_on()
    assert reads == []
    collected(reader)
    assert len(reads) == 2


def test_a_second_reader_gets_the_last_shares_where_no_time_has_passed(provider, reader, monkeypatch) -> None:
    answers = iter([None, {"user": 0.25}, None])
    metrics = HostMetrics(provider)
    metrics.turn_on()
    monkeypatch.setattr(metrics._cpu, "read", lambda: next(answers))
    assert "system.cpu.utilization" not in collected(reader)
    for _ in range(2):
        assert points(collected(reader)["system.cpu.utilization"], "cpu.mode") == {"user": 0.25}


def test_what_cannot_be_read_is_one_warning(provider, reader, monkeypatch, caplog) -> None:
    def broken() -> None:
        raise PermissionError("/proc/meminfo")

    metrics = HostMetrics(provider)
    metrics.turn_on()
    monkeypatch.setattr(psutil, "virtual_memory", broken)
    for _ in range(3):
        collected(reader)
    assert caplog.messages == ["metrics of the host are off: PermissionError: /proc/meminfo"]


def test_a_provider_without_meters_is_one_warning(meters, caplog) -> None:
    metrics = HostMetrics()
    meters.provider = object()
    metrics.turn_on()
    assert not metrics.is_on
    assert caplog.messages == [
        "metrics of the host are off: AttributeError: 'object' object has no attribute 'get_meter'"
    ]


@pytest.mark.parametrize("is_given", [(True, False, True), (False, True, False)])
def test_a_provider_that_becomes_the_global_one_keeps_its_instruments(provider, reader, meters, is_given) -> None:
    metrics = HostMetrics()

    def child() -> list[int]:
        states: list[int] = []
        for number, given in enumerate(is_given):
            meters.provider = provider if given else None
            metrics.turn_on()
            if number == 0:
                api.set_meter_provider(provider)
            states.append(len(points(collected(reader)["system.memory.usage"], "system.memory.state")))
            metrics.turn_off()
        return states

    assert in_child(child) == [4, 4, 4]


def test_a_provider_that_is_set_while_they_are_on_has_them_from_then_on(provider, reader, meters) -> None:
    other_reader = InMemoryMetricReader()
    other = MeterProvider([other_reader], shutdown_on_exit=False)
    metrics = HostMetrics()
    meters.provider = provider
    metrics.turn_on()
    for now, of_now, of_then in ((other, other_reader, reader), (provider, reader, other_reader)):
        meters.provider = now
        assert "system.memory.usage" in collected(of_now)
        assert collected(of_then) == {}
    metrics.turn_off()
    other.shutdown()


@pytest.mark.parametrize("provider", [None, NoOpMeterProvider()])
def test_nothing_breaks_without_a_provider(provider: Any) -> None:
    metrics = HostMetrics(provider)
    metrics.turn_on()
    metrics.begin()
    metrics.turn_off()


def test_a_forked_child_measures_nothing(provider, reader) -> None:
    metrics = HostMetrics(provider)
    metrics.turn_on()

    def child() -> list[str]:
        metrics.turn_off()
        return sorted(collected(reader))

    with metrics._lock:  # a reader of the parent may hold it
        assert in_child(child) == []
    assert "system.memory.usage" in collected(reader)
