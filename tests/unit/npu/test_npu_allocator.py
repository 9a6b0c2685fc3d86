"""torch_npu's allocator: a stand-in of ``torch.npu`` with the keys that the real one has."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.npu import _events, _observed
from ascend_opentelemetry.npu.dcmi._driver import Driver
from ascend_opentelemetry.npu.torch import _allocator
from ascend_opentelemetry.npu.torch._allocator import Allocator, AllocatorSource, statistics
from ascend_opentelemetry.recorder import _observed as observed_instruments
from ascend_opentelemetry.recorder._meters import Meters
from devtools.otlp_receiver import to_json
from devtools.semconv import load
from tests.support.live_check import LiveCheck

STATES = {"allocated": 100, "reserved": 400, "active": 120, "inactive_split": 40, "requested": 90}


class Npu(ModuleType):
    """``torch.npu`` of two devices, of which the process uses the second one."""

    def __init__(self) -> None:
        super().__init__("torch.npu")
        self.initialized = True
        self.calls = 0
        self.ooms = 0

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        raise AssertionError("a thread of ours has no current device")

    def memory_stats(self, device: int) -> OrderedDict[str, int]:
        self.calls += 1
        stats = OrderedDict(num_ooms=self.ooms * device, num_alloc_retries=3 * device)
        for state, size in STATES.items():
            stats[f"{state}_bytes.all.current"] = size * device
            stats[f"{state}_bytes.all.peak"] = (size + 1) * device
            stats[f"{state}_bytes.small_pool.current"] = 7
        return stats


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> Npu:
    npu = Npu()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(npu=npu))
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(__version__="2.10.0.post4"))
    monkeypatch.delenv("OTEL_PYTHON_VLLM_NPU_METRICS", raising=False)
    return npu


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_events, "get_logger", provider.get_logger)
    yield exporter
    provider.shutdown()


@pytest.fixture
def allocator() -> Allocator:
    return Allocator(Driver({"OTEL_PYTHON_VLLM_DCMI_LIBRARY": "/none", "ASCEND_RT_VISIBLE_DEVICES": "4,5"}))


@pytest.fixture
def source(allocator: Allocator, reader: InMemoryMetricReader) -> Iterator[AllocatorSource]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    source = AllocatorSource(allocator, _allocator.make(allocator, provider))
    yield source
    source.shutdown(1)
    source.silence()
    provider.shutdown()


def collect(reader: InMemoryMetricReader, allocator: Allocator) -> dict[str, dict[str, float]]:
    """Values of each metric by the attributes that differ."""
    allocator.devices.reset()
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found: dict[str, dict[str, float]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            attributes = dict(point.attributes)
            assert (attributes.pop("hw.id"), attributes.pop("npu.memory.component")) == ("npu-5", "PTA")
            assert type(point.value) is int
            key = attributes.pop("npu.memory.state", "")
            assert attributes == {}
            found.setdefault(metric.name, {})[key] = point.value
    return found


def test_all_states_and_peaks_of_the_device_that_is_used(source, npu, reader, allocator) -> None:
    source.start(leader=False)
    npu.ooms = 2
    assert collect(reader, allocator) == {
        "npu.allocator.memory": STATES,
        "npu.allocator.peak": {state: size + 1 for state, size in STATES.items()},
        "npu.allocator.retries": {"": 3},
        "npu.allocator.oom": {"": 2},
    }
    assert source.describe() == {
        "found": True, "version": "2.10.0.post4", "metrics": True, "usable": True, "devices": ["npu-5"],
    }  # fmt: skip


def test_a_collection_reads_each_device_once(source, npu, reader, allocator, monkeypatch) -> None:
    monkeypatch.setattr(_observed.time, "monotonic", lambda: 1000.0)  # a busy machine may take long for a collection
    source.start(leader=False)
    assert npu.calls == 0
    for collections in (1, 2):
        collect(reader, allocator)
        assert npu.calls == 2 * collections


def test_names_units_and_kinds_are_those_of_the_registry(source, npu, reader, logs) -> None:
    source.start(leader=True)
    npu.ooms = 1
    check = LiveCheck(load())
    check.add(to_json(encode_metrics(reader.get_metrics_data())))
    check.add(to_json(encode_logs(logs.get_finished_logs())))
    assert check.findings == {}
    assert set(check.seen) == {
        "metric npu.allocator.memory", "metric npu.allocator.peak", "metric npu.allocator.retries",
        "metric npu.allocator.oom", "event npu.memory.oom",
    }  # fmt: skip


def test_a_failed_allocation_is_one_event(source, npu, reader, allocator, logs) -> None:
    source.start(leader=False)
    collect(reader, allocator)
    assert logs.get_finished_logs() == ()
    npu.ooms = 3
    for _ in range(2):
        collect(reader, allocator)
    npu.ooms = 4
    collect(reader, allocator)
    first, second = [entry.log_record for entry in logs.get_finished_logs()]
    assert (first.event_name, first.severity_number.name) == ("npu.memory.oom", "WARN")
    assert dict(first.attributes) == {
        "hw.id": "npu-5", "npu.allocator.oom": 3, "npu.allocator.allocated": 100, "npu.allocator.reserved": 400,
    }  # fmt: skip
    assert second.attributes["npu.allocator.oom"] == 1


def test_an_allocation_that_ends_the_process_is_told_before_the_next_collection(
    source, npu, reader, allocator, logs
) -> None:
    source.start(leader=False)
    collect(reader, allocator)
    npu.ooms = 1
    source.shutdown(1)
    source.shutdown(1)
    (entry,) = logs.get_finished_logs()
    assert (entry.log_record.event_name, entry.log_record.attributes["npu.allocator.oom"]) == ("npu.memory.oom", 1)
    assert collect(reader, allocator)["npu.allocator.oom"] == {"": 1}
    source.silence()
    assert collect(reader, allocator) == {}


def test_the_driver_is_not_asked_at_the_end_where_nothing_has_failed(source, npu, allocator, monkeypatch) -> None:
    source.start(leader=False)
    monkeypatch.setattr(Driver, "hardware_id", lambda *_: pytest.fail("it may not answer"))
    source.shutdown(1)
    assert (npu.calls, allocator.names) == (2, {})


def test_a_source_that_is_off_reads_nothing_at_the_end(source, npu, logs, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_METRICS", "off")
    npu.ooms = 1
    source.start(leader=False)
    source.shutdown(1)
    assert (npu.calls, logs.get_finished_logs()) == (0, ())


def test_nothing_is_read_before_torch_npu_is_initialised_and_everything_after(source, npu, reader, allocator) -> None:
    npu.initialized = False
    source.start(leader=False)
    assert collect(reader, allocator) == {}
    assert npu.calls == 0
    assert source.describe()["reason"] == "no device is initialised, or nobody has read metrics"
    npu.initialized = True
    assert collect(reader, allocator)["npu.allocator.memory"] == STATES


def test_torch_npu_is_never_imported(source, reader, allocator, monkeypatch) -> None:
    class Importing:
        def find_spec(self, name: str, *_: Any) -> None:
            assert name.partition(".")[0] not in ("torch", "torch_npu")

    monkeypatch.setattr(sys, "meta_path", [Importing(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch_npu", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    source.start(leader=False)
    assert (statistics(), collect(reader, allocator), source.describe()) == ({}, {}, {})


def test_a_module_that_is_being_imported_turns_nothing_off(source, npu, reader, allocator, monkeypatch, caplog) -> None:
    source.start(leader=False)
    with monkeypatch.context() as half:
        half.setitem(sys.modules, "torch", SimpleNamespace(npu=ModuleType("torch.npu")))
        assert collect(reader, allocator) == {}
    assert collect(reader, allocator)["npu.allocator.memory"] == STATES
    assert caplog.messages == []


def test_off_is_off(source, npu, reader, allocator, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_NPU_METRICS", "off")
    source.start(leader=True)
    assert collect(reader, allocator) == {}
    assert npu.calls == 0


def test_an_older_version_without_some_keys_gives_the_others(source, npu, reader, allocator, monkeypatch) -> None:
    kept = {"allocated_bytes.all.current": 5, "reserved_bytes.all.peak": 9}
    monkeypatch.setattr(npu, "memory_stats", lambda device: OrderedDict(kept if device else {}))
    source.start(leader=False)
    assert collect(reader, allocator) == {
        "npu.allocator.memory": {"allocated": 5}, "npu.allocator.peak": {"reserved": 9},
    }  # fmt: skip


def test_a_forked_child_is_silent_until_it_starts(source, npu, reader, allocator) -> None:
    source.start(leader=True)
    source.after_fork()
    assert collect(reader, allocator) == {}
    source.start(leader=False)
    assert collect(reader, allocator)["npu.allocator.memory"] == STATES


def test_the_provider_of_the_process_now_has_the_values_and_a_former_one_has_none(npu, allocator, monkeypatch) -> None:
    meters = Meters()
    monkeypatch.setattr(observed_instruments, "meters", meters)
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    providers = [MeterProvider([reader], shutdown_on_exit=False) for reader in readers]
    source = AllocatorSource(allocator, _allocator.make(allocator))
    for number in (0, 1, 0):
        meters.provider = providers[number]
        source.start(leader=False)
        assert collect(readers[number], allocator)["npu.allocator.memory"] == STATES
        assert collect(readers[1 - number], allocator) == {}
        source.shutdown(1)
        source.silence()
        assert [collect(reader, allocator) for reader in readers] == [{}, {}]
    for provider in providers:
        provider.shutdown()
