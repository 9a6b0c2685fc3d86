"""What a metric reader gets of the stand-in of a driver, and what the driver is asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.npu import _observed
from ascend_opentelemetry.npu._observed import ObservedMetrics
from ascend_opentelemetry.npu.dcmi import _hw_metrics
from ascend_opentelemetry.npu.dcmi._driver import Driver
from ascend_opentelemetry.recorder import _observed as observed_instruments
from ascend_opentelemetry.recorder._meters import Meters
from devtools.otlp_receiver import to_json
from devtools.semconv import load
from tests.support.live_check import LiveCheck
from tests.support.npu_stand_in import StandIn, build_dcmi

MB = 1 << 20
NPU_2 = {"hw.id": "npu-2", "hw.type": "gpu", "hw.vendor": "Huawei", "hw.model": "Ascend 910B4"}
NPU_6 = NPU_2 | {"hw.id": "npu-6"}


@pytest.fixture
def v1(tmp_path: Path) -> StandIn:
    return StandIn(build_dcmi("v1", tmp_path))


@pytest.fixture
def driver(v1: StandIn) -> Driver:
    return Driver({"OTEL_PYTHON_VLLM_DCMI_LIBRARY": str(v1.path)})


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def metrics(driver: Driver, reader: InMemoryMetricReader) -> Iterator[ObservedMetrics]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield _hw_metrics.make(driver, provider)
    provider.shutdown()


def collect(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    (scope,) = data.resource_metrics[0].scope_metrics
    assert scope.scope.name == "ascend_opentelemetry.npu"
    return {metric.name: metric for metric in scope.metrics}


def points(metric: Any) -> list[tuple[dict[str, Any], float]]:
    found = [(dict(point.attributes), point.value) for point in metric.data.data_points]
    return sorted(found, key=lambda point: str(sorted(point[0].items())))


def test_names_units_kinds_values_and_attributes(metrics, reader, v1) -> None:
    v1.set_pids(os.getpid(), 1)
    metrics.turn_on()
    found = collect(reader)
    shapes = {
        name: (one.unit, type(one.data).__name__, getattr(one.data, "is_monotonic", None))
        for name, one in found.items()
    }
    assert shapes == {
        "hw.gpu.memory.usage": ("By", "Sum", False), "hw.gpu.memory.limit": ("By", "Sum", False),
        "hw.gpu.memory.utilization": ("1", "Gauge", None), "hw.gpu.utilization": ("1", "Gauge", None),
        "npu.memory.bandwidth.utilization": ("1", "Gauge", None), "hw.power": ("W", "Gauge", None),
        "hw.temperature": ("Cel", "Gauge", None), "hw.status": ("1", "Sum", False),
        "hw.errors": ("{error}", "Sum", True), "npu.process.memory.usage": ("By", "Sum", False),
    }  # fmt: skip
    hbm = {"npu.memory.kind": "hbm"}
    assert points(found["hw.gpu.memory.usage"]) == [(NPU_2 | hbm, 64208502784), (NPU_6 | hbm, 1024 * MB)]
    assert points(found["hw.gpu.memory.limit"]) == [(NPU_2 | hbm, 65536 * MB), (NPU_6 | hbm, 32768 * MB)]
    assert points(found["hw.gpu.memory.utilization"]) == [(NPU_2 | hbm, 61234 / 65536), (NPU_6 | hbm, 1024 / 32768)]
    utilization = [
        (point["hw.id"], point["hw.gpu.task"], share) for point, share in points(found["hw.gpu.utilization"])
    ]
    assert sorted(utilization) == [
        ("npu-2", "aicore", 0.66), ("npu-2", "aicpu", 0.03), ("npu-2", "cube", 0.65), ("npu-2", "general", 0.7),
        ("npu-2", "vector", 0.12), ("npu-6", "aicpu", 0.04), ("npu-6", "cube", 0.2), ("npu-6", "vector", 0.3),
    ]  # fmt: skip
    assert points(found["npu.memory.bandwidth.utilization"]) == [(NPU_2, 0.37)]
    assert points(found["hw.power"]) == [(NPU_2, 297.3), (NPU_6, 90.5)]
    degrees = [(point["hw.id"], point["hw.sensor_location"], value) for point, value in points(found["hw.temperature"])]
    assert sorted(degrees) == [
        ("npu-2", "chip", 51.0), ("npu-2", "hbm", 48.0), ("npu-6", "chip", 40.0), ("npu-6", "hbm", 39.0),
    ]  # fmt: skip
    states = [(point["hw.id"], point["hw.state"]) for point, value in points(found["hw.status"]) if value == 1]
    assert states == [("npu-2", "ok"), ("npu-6", "degraded")]
    assert [value for _, value in points(found["hw.status"])].count(0) == 4
    errors = [(point["hw.id"], point["error.type"], value) for point, value in points(found["hw.errors"])]
    assert sorted(errors) == [
        ("npu-2", "corrected", 5), ("npu-2", "uncorrected", 0), ("npu-6", "corrected", 6), ("npu-6", "uncorrected", 1),
    ]  # fmt: skip
    own = {"process.pid": os.getpid()}
    assert points(found["npu.process.memory.usage"]) == [
        ({"hw.id": "npu-2"} | own, 1 << 30), ({"hw.id": "npu-6"} | own, 2 << 30),
    ]  # fmt: skip


def test_everything_is_declared_in_the_registry(metrics, reader) -> None:
    metrics.turn_on()
    check = LiveCheck(load())
    check.add(to_json(encode_metrics(reader.get_metrics_data())))
    assert check.findings == {}
    assert len(check.seen) == 10


def test_memory_of_children_counts_and_that_of_others_does_not(metrics, reader, v1) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        v1.set_pids(child.pid, os.getppid())
        metrics.turn_on()
        found = points(collect(reader)["npu.process.memory.usage"])
        assert [(point["hw.id"], point["process.pid"]) for point, _ in found] == [
            ("npu-2", child.pid), ("npu-6", child.pid),
        ]  # fmt: skip
    finally:
        child.communicate()


def test_a_collection_is_one_pass_and_the_next_one_another(metrics, reader, driver, v1, monkeypatch) -> None:
    monkeypatch.setattr(_observed.time, "monotonic", lambda: 1000.0)  # a busy machine may take long for a collection
    metrics.turn_on()
    assert (driver.passes, v1.calls()) == (0, 0)
    for collections in range(1, 4):
        driver.readings.reset()
        collect(reader)
        assert driver.passes == collections
        assert v1.calls("dcmi_get_device_hbm_info") == 2 * collections
    assert v1.calls("dcmi_init") == v1.calls("dcmi_get_card_list") == 1


def test_readings_are_new_after_a_quarter_of_a_second(metrics, reader, driver, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(_observed.time, "monotonic", lambda: now)
    metrics.turn_on()
    collect(reader)
    now += 0.2
    collect(reader)
    assert driver.passes == 1
    now += 0.1
    collect(reader)
    assert driver.passes == 2


def test_the_driver_is_not_even_loaded_while_nobody_reads(driver, v1) -> None:
    provider = MeterProvider([], shutdown_on_exit=False)
    metrics = _hw_metrics.make(driver, provider)
    metrics.turn_on()
    assert (v1.calls(), driver.describe()) == (0, {"found": str(v1.path), "reason": "not asked yet"})
    provider.shutdown()


def test_metrics_that_are_off_ask_for_nothing(metrics, reader, v1) -> None:
    metrics.turn_on()
    metrics.turn_off()
    assert collect(reader) == {}
    assert v1.calls() == 0


def test_an_error_of_ours_is_one_warning(metrics, reader, driver, monkeypatch, caplog) -> None:
    def broken(device: object) -> None:
        raise ValueError("no such field")

    metrics.turn_on()
    collect(reader)
    monkeypatch.setattr(driver._reader, "read", broken)
    for _ in range(2):
        driver.readings.reset()
        collect(reader)
    assert caplog.messages == ["metrics of NPUs are off: ValueError: no such field"]


def test_a_provider_that_is_set_while_they_are_on_has_them_and_the_former_one_none(driver, reader, monkeypatch) -> None:
    meters = Meters()
    monkeypatch.setattr(observed_instruments, "meters", meters)
    other_reader = InMemoryMetricReader()
    provider, other = (MeterProvider([one], shutdown_on_exit=False) for one in (reader, other_reader))
    metrics = _hw_metrics.make(driver)
    meters.provider = provider
    metrics.turn_on()
    assert len(points(collect(reader)["hw.power"])) == 2
    meters.provider = other
    assert (collect(reader), len(points(collect(other_reader)["hw.power"]))) == ({}, 2)
    metrics.turn_off()
    provider.shutdown()
    other.shutdown()
