"""Memory and state of the NPUs as OTel metrics: ``hw.*`` of the conventions, and ours for what they lack.

``hw.type`` is ``gpu``, which is the only kind of accelerator that the conventions, and tools, know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from opentelemetry.metrics import MeterProvider, Observation

from ascend_opentelemetry.npu._devices import Device
from ascend_opentelemetry.npu._observed import ObservedMetrics, Read
from ascend_opentelemetry.npu.dcmi._driver import Driver
from ascend_opentelemetry.npu.dcmi._reader import Memory, Reading
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import metrics
from ascend_opentelemetry.semconv.metrics import Metric

HW_STATES = ("ok", "degraded", "failed")

_Values = Iterator["tuple[float, dict[str, str | int]]"]


def make(driver: Driver, provider: MeterProvider | None = None) -> ObservedMetrics:
    """The instruments, which read all devices once a collection."""

    def read_by(values: Callable[[Reading], _Values]) -> Read:
        def read() -> Iterable[Observation]:
            for reading in driver.readings():
                common = attributes_of(reading.device)
                yield from (Observation(value, {**common, **more}) for value, more in values(reading))

        return read

    reads = {metric: read_by(values) for metric, values in _VALUES.items()}
    reads[metrics.NPU_PROCESS_MEMORY_USAGE] = lambda: _process_memory(driver.readings())
    return ObservedMetrics("NPUs", reads, provider)


def attributes_of(device: Device) -> dict[str, str]:
    """What every metric of a device has."""
    known = {keys.HW_ID: device.hardware_id, keys.HW_TYPE: "gpu", keys.HW_VENDOR: "Huawei"}
    return {**known, keys.HW_MODEL: device.model} if device.model else known


def _of_memory(value: Callable[[Memory], float]) -> Callable[[Reading], _Values]:
    def values(reading: Reading) -> _Values:
        for memory in reading.memory:
            yield value(memory), {keys.NPU_MEMORY_KIND: memory.kind}

    return values


def _utilization(reading: Reading) -> _Values:
    for unit, share in reading.utilization.items():
        yield share, {keys.HW_GPU_TASK: unit}


def _temperature(reading: Reading) -> _Values:
    for sensor, degrees in reading.temperature.items():
        yield float(degrees), {keys.HW_SENSOR_LOCATION: sensor}


def _status(reading: Reading) -> _Values:
    if reading.state is not None:
        for state in HW_STATES:
            yield int(state == reading.state), {keys.HW_STATE: state}


def _errors(reading: Reading) -> _Values:
    for (kind, error), count in reading.errors.items():
        yield count, {keys.NPU_MEMORY_KIND: kind, keys.ERROR_TYPE: error}


def _one(value: Callable[[Reading], float | None]) -> Callable[[Reading], _Values]:
    def values(reading: Reading) -> _Values:
        number = value(reading)
        if number is not None:
            yield number, {}

    return values


def _process_memory(readings: Sequence[Reading]) -> Iterable[Observation]:
    if not any(reading.processes for reading in readings):
        return
    own = _own_processes()
    for reading in readings:
        for pid in reading.processes.keys() & own:
            attributes: Mapping[str, str | int] = {keys.HW_ID: reading.device.hardware_id, keys.PROCESS_PID: pid}
            yield Observation(reading.processes[pid], attributes)


def _own_processes() -> set[int]:
    """This process and all below it: other users of the card are nobody's business."""
    import psutil

    return {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}


_VALUES: Mapping[Metric, Callable[[Reading], _Values]] = {
    metrics.HW_GPU_MEMORY_USAGE: _of_memory(lambda memory: memory.used),
    metrics.HW_GPU_MEMORY_LIMIT: _of_memory(lambda memory: memory.limit),
    metrics.HW_GPU_MEMORY_UTILIZATION: _of_memory(lambda memory: memory.used / memory.limit),
    metrics.HW_GPU_UTILIZATION: _utilization,
    metrics.NPU_MEMORY_BANDWIDTH_UTILIZATION: _one(lambda reading: reading.bandwidth),
    metrics.HW_POWER: _one(lambda reading: reading.power),
    metrics.HW_TEMPERATURE: _temperature,
    metrics.HW_STATUS: _status,
    metrics.HW_ERRORS: _errors,
}
