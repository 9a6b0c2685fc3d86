"""Allocates by the real torch_npu; prints what our metrics and events say of it, read on a thread without a device."""

# ruff: noqa: E402 - torch_npu needs the stand-in first
from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.npu_stand_in.cann import Cann

cann = Cann()

import torch
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from torch_npu import npu

from ascend_opentelemetry.npu.dcmi._driver import Driver
from ascend_opentelemetry.npu.torch import _allocator
from ascend_opentelemetry.npu.torch._allocator import Allocator, AllocatorSource

reader, logs = InMemoryMetricReader(), InMemoryLogRecordExporter()
provider, logger_provider = MeterProvider([reader]), LoggerProvider()
logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
set_logger_provider(logger_provider)
allocator = Allocator(Driver({"OTEL_PYTHON_VLLM_DCMI_LIBRARY": "/none"}))
source = AllocatorSource(allocator, _allocator.make(allocator, provider))


def collect() -> dict[str, dict[str, int]]:
    """Values by metric, and by device and state."""
    allocator.devices.reset()
    data: Any = reader.get_metrics_data()
    found: dict[str, dict[str, int]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data is not None else ():
        for point in metric.data.data_points:
            key = f"{point.attributes['hw.id']} {point.attributes.get('npu.memory.state', '')}".strip()
            found.setdefault(metric.name, {})[key] = point.value
    return found


def main() -> dict[str, Any]:
    """What was collected at each point."""
    seen: dict[str, Any] = {}
    source.start(leader=False)
    with ThreadPoolExecutor(1) as other:

        def look(when: str) -> None:
            seen[when] = other.submit(collect).result()

        look("imported")
        tensors = [torch.empty(size, dtype=torch.uint8, device="npu:1") for size in (4000, 3 << 20)]
        look("allocated")
        tensors.pop()
        look("freed")
        with contextlib.suppress(torch.OutOfMemoryError):
            torch.empty(100 << 20, dtype=torch.uint8, device="npu:1")
        look("refused")
        seen["cards"] = {"allocating": cann.card(), "reading": other.submit(cann.card).result()}
    seen["torch"] = [npu.memory_allocated(1), npu.memory_reserved(1)]
    seen["events"] = [
        [log.log_record.event_name, dict(log.log_record.attributes or {})] for log in logs.get_finished_logs()
    ]
    seen["described"] = dict(source.describe())
    seen["keys"] = len(npu.memory_stats(1))
    return seen


if __name__ == "__main__":
    print(json.dumps(main()))
