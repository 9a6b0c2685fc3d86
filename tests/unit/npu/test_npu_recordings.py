"""Every real recording gives the counts, times and peaks of ``expected.json``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._statistics import by_key
from ascend_opentelemetry.npu.operators._windows import KEY
from ascend_opentelemetry.npu.recordings import _semconv as names
from ascend_opentelemetry.npu.recordings._content import Content
from ascend_opentelemetry.npu.recordings._samples import LAST_NS, MAX_VALUE, SAMPLES
from ascend_opentelemetry.npu.recordings._search import Plan
from ascend_opentelemetry.npu.recordings._top import Top
from tests.unit.npu.recordings import EXPECTED, RECORDINGS, needs_recordings

pytestmark = needs_recordings

DATABASES = sorted(name for name, entry in EXPECTED.get("databases", {}).items() if "compute_ops" in entry)
KERNELS = sorted(name for name, entry in EXPECTED.get("csv", {}).items() if isinstance(entry.get("by_op_type"), dict))
LISTS = sorted(name for name, entry in EXPECTED.get("csv", {}).items() if isinstance(entry.get("by_op_type"), list))
RECORDS = sorted(name for name, entry in EXPECTED.get("csv", {}).items() if "memory_record" in entry)
MODULES = sorted(name for name, entry in EXPECTED.get("csv", {}).items() if "module_peaks" in entry)
ALLOCATIONS = sorted(name for name, entry in EXPECTED.get("csv", {}).items() if "rows_without_release" in entry)
LINKS = sorted(name for name, entry in EXPECTED.get("json", {}).items() if "ops" in entry)
TRACES = sorted(name for name, entry in EXPECTED.get("json", {}).items() if "events_by_phase" in entry)


def read(name: str, sink: Any = None) -> Any:
    sink = sink or Content()
    (source,) = Plan(RECORDINGS / name).sources
    source.read(source.path, sink, lambda share: None)
    assert sink.left_out == 0
    return sink


def sums(statistics, keys, label) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in by_key(statistics.rows()).tolist():
        one = found.setdefault(
            label(keys.keys_by_number[row[KEY]]), {"count": 0, "total_ns": 0, "min_ns": 2**62, "max_ns": 0}
        )
        one["count"] += row[columns.COUNT]
        one["total_ns"] += row[columns.TOTAL]
        one["min_ns"] = min(one["min_ns"], row[columns.MIN])
        one["max_ns"] = max(one["max_ns"], row[columns.MAX])
    return found


def numbers(entry: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {
        name: {field: one[field] for field in ("count", "total_ns", "min_ns", "max_ns")} for name, one in entry.items()
    }


def operators(content: Content, label=lambda key: key.type) -> dict[str, dict[str, int]]:
    return sums(content.by_window, content.operator_keys, label)


def collectives(content: Content) -> dict[str, dict[str, int]]:
    return sums(content.collectives, content.collective_keys, lambda key: key.operation)


def peaks(content: Content) -> dict[tuple[str, ...], tuple[int, int]]:
    """Rows and largest value of each series of samples; the key is the metric and the values of its attributes."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for row in content.sampled.rows().tolist():
        key = content.sample_keys.keys_by_number[row[KEY]]
        one = found[(key.metric, *(value for _, value in key.attributes))]
        one[0] += row[SAMPLES]
        one[1] = max(one[1], row[MAX_VALUE])
    return {key: (rows, peak) for key, (rows, peak) in found.items()}


@pytest.mark.parametrize("name", DATABASES)
def test_operators_of_a_database(name) -> None:
    expected = EXPECTED["databases"][name]["compute_ops"]
    content = read(name)
    assert operators(content) == numbers(expected["by_op_type"])
    assert operators(content, lambda key: key.core) == numbers(expected["by_core_type"])
    device = f"{EXPECTED['databases'][name]['device_ids'][0]}"
    assert {key.device for key in content.operator_keys.keys_by_number} == {device}


@pytest.mark.parametrize("name", DATABASES)
def test_operators_of_a_database_by_name(name) -> None:
    expected = EXPECTED["databases"][name]["compute_ops"]["by_name"]
    lines = [line for line in read(name, Top("name")).lines() if "COMMUNICATION" not in line.cores]
    found = {
        line.label: {"count": line.count, "total_ns": line.total, "min_ns": line.min, "max_ns": line.max}
        for line in lines
    }
    assert found == numbers(expected)


@pytest.mark.parametrize("name", DATABASES)
def test_collectives_of_a_database(name) -> None:
    expected = EXPECTED["databases"][name]["communication_ops"]
    content = read(name)
    assert collectives(content) == numbers(expected["by_kind_from_name"])
    rows = by_key(content.collectives.rows())
    assert rows[:, columns.AMOUNT].sum() == sum(one["element_count"] for one in expected["ops"]) * 4
    assert {key.data_type for key in content.collective_keys.keys_by_number} == {
        one["data_type"] for one in expected["ops"]
    }
    groups = [key.group for key in content.collective_keys.keys_by_number]
    assert all(len(group) == 8 and group.isalnum() for group in groups), "a hash: the recorded name holds an address"


@pytest.mark.parametrize("name", DATABASES)
def test_memory_of_a_database(name) -> None:
    expected = EXPECTED["databases"][name]
    found = peaks(read(name))
    wanted: dict[tuple[str, ...], tuple[int, int]] = {}
    for one in expected.get("memory_record") or expected["npu_op_mem"]:
        for state in ("allocated", "reserved", "active"):
            peak = one.get(f"peak_{state}_bytes", one.get(f"peak_{state.removesuffix('d')}_bytes"))
            if peak is not None:
                key = names.ALLOCATOR_MEMORY.name, one["component"], state, f"npu-{one['device']}"
                wanted[key] = one["rows"], peak
    for one in expected.get("npu_mem", ()):
        device = f"npu-{one['device']}"
        for kind in ("hbm", "ddr"):
            key = ("npu.process.memory.usage", kind, device)
            if one["type"] == "device":
                key = ("hw.gpu.memory.usage", kind, "gpu", device)
            wanted[key] = one["rows"], one[f"max_{kind}_bytes"]
    for one in expected.get("npu_module_mem", ()):
        wanted["npu.module.memory", one["module"], f"npu-{one['device']}"] = one["rows"], one["peak_reserved_bytes"]
    for one in expected["hbm"]:
        key = "npu.memory.bandwidth", str(one["hbm_id"]), one["type"], f"npu-{one['device']}"
        wanted[key] = one["rows"], one["max_bandwidth_bytes_per_s"]
    modules_without_memory = {key for key, (_, peak) in found.items() if key[0] == "npu.module.memory" and not peak}
    assert {key: value for key, value in found.items() if key not in modules_without_memory} == wanted


@pytest.mark.parametrize("name", [name for name in DATABASES if "op_memory" in EXPECTED["databases"][name]])
def test_allocations_of_a_database(name) -> None:
    expected = EXPECTED["databases"][name]["op_memory"]
    content = read(name)
    rows = by_key(content.allocated.rows()).tolist()
    by_release = {content.allocation_keys.keys_by_number[row[KEY]][0]: row for row in rows}
    assert sum(row[columns.COUNT] for row in rows) == expected["rows"]
    assert by_release[False][columns.COUNT] == expected["rows_without_release"]
    assert sum(row[columns.AMOUNT] for row in rows) == expected["total_size_bytes"]


@pytest.mark.parametrize("name", [name for name in DATABASES if "STEP_TIME" in EXPECTED["databases"][name]["tables"]])
def test_the_profiled_step_holds_all_operators(name) -> None:
    rows = read(name).by_step.rows()
    assert set(rows[:, 0].tolist()) == {50}
    assert rows[:, columns.COUNT].sum() == EXPECTED["databases"][name]["compute_ops"]["count"]


@pytest.mark.parametrize("name", KERNELS)
def test_operators_of_a_csv(name) -> None:
    expected = EXPECTED["csv"][name]
    content = read(name)
    compute = {kind: one for kind, one in numbers(expected["by_op_type"]).items() if not kind.startswith("hcom_")}
    communication = {
        kind.removeprefix("hcom_").rstrip("_"): one
        for kind, one in numbers(expected["by_op_type"]).items()
        if kind.startswith("hcom_")
    }
    assert operators(content) == compute
    assert collectives(content) == communication
    cores = {
        core: one for core, one in numbers(expected["by_core_type"]).items() if core not in ("HCCL", "COMMUNICATION")
    }
    assert operators(content, lambda key: key.core) == cores
    rows = [*content.by_window.rows(), *content.collectives.rows()]
    assert min(row[columns.FIRST] for row in rows) == expected["time_range_ns"][0]
    assert sum(row[columns.COUNT] for row in rows) == expected["count"]


@pytest.mark.parametrize("name", LISTS)
def test_statistics_of_operators(name) -> None:
    expected = EXPECTED["csv"][name]["by_op_type"]
    found = [
        {"op_type": one.type, "core_type": one.core, "count": one.count, "total_ns": one.total, "min_ns": one.min,
         "max_ns": one.max}
        for one in read(name).totals
    ]  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("name", RECORDS)
def test_memory_of_a_csv(name) -> None:
    content = read(name)
    found = peaks(content)
    wanted: dict[tuple[str, ...], int] = {}
    for one in EXPECTED["csv"][name]["memory_record"]:
        device = f"npu-{one['device'].removeprefix('NPU:')}"
        for state in ("allocated", "reserved", "active"):
            if (peak := one[f"peak_{state}_bytes"]) is not None:
                wanted[names.ALLOCATOR_MEMORY.name, one["component"], state, device] = peak
    assert {key: peak for key, (_, peak) in found.items()} == wanted
    last = max(row[LAST_NS] for row in content.sampled.rows())
    assert last == max(one["last_ns"] for one in EXPECTED["csv"][name]["memory_record"])


@pytest.mark.parametrize("name", MODULES)
def test_memory_of_modules_in_a_csv(name) -> None:
    found = {key: value for key, value in peaks(read(name)).items() if value[1]}
    assert found == {
        ("npu.module.memory", one["module"], f"npu-{one['device'].removeprefix('NPU:')}"): (
            one["rows"],
            one["peak_reserved_bytes"],
        )
        for one in EXPECTED["csv"][name]["module_peaks"]
    }


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_allocations_of_a_csv(name) -> None:
    expected = EXPECTED["csv"][name]
    content = read(name)
    rows = by_key(content.allocated.rows()).tolist()
    by_release = {content.allocation_keys.keys_by_number[row[KEY]][0]: row for row in rows}
    assert sum(row[columns.COUNT] for row in rows) == expected["rows"]
    assert by_release[False][columns.COUNT] == expected["rows_without_release"]
    assert sum(row[columns.AMOUNT] for row in rows) == float(expected["total_size_kib"]) * 1024


@pytest.mark.parametrize("name", LINKS)
def test_collectives_of_a_json(name) -> None:
    ops = [one for one in EXPECTED["json"][name]["ops"] if one["name"] != "Total Op Info"]
    content = read(name)
    (one,) = collectives(content).values()
    elapsed = [round(op["elapse_ms"] * 1e6) for op in ops]
    assert one == {"count": 4, "total_ns": sum(elapsed), "min_ns": min(elapsed), "max_ns": max(elapsed)}
    assert {key.link for key in content.transfer_keys.keys_by_number} == {"SDMA"}
    total = by_key(content.transferred.rows())[0]
    assert total[columns.COUNT] == 4
    assert total[columns.AMOUNT] > 4 * 2_469_696, "more than the payload of the smallest operation"


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_agrees_with_the_csv_of_its_run(name) -> None:
    trace, table = read(name), read(str(Path(name).with_name("kernel_details.csv")))
    (one, count), (other, expected) = (
        (rows[:, columns.TOTAL].sum(), rows[:, columns.COUNT].sum())
        for rows in (part.by_window.rows() for part in (trace, table))
    )
    assert count == expected == 187
    assert abs(one - other) <= count / 2, "each duration is rounded to ns"
    (one,), (other,) = collectives(trace).values(), collectives(table).values()
    assert one["count"] == other["count"] == 4
    assert abs(one["total_ns"] - other["total_ns"]) <= 4
    assert by_key(trace.collectives.rows())[0, columns.AMOUNT] == 4 * 61_100_840


@pytest.mark.parametrize("rank", [0, 1])
def test_two_recordings_of_one_workload_have_the_same_operators(rank) -> None:
    folder = "torch_npu_level1/{}/rank{}_ascend_pt/ASCEND_PROFILER_OUTPUT/{}"
    database = operators(read(folder.format("db", rank, f"ascend_pytorch_profiler_{rank}.db")))
    table = operators(read(folder.format("text", rank, "kernel_details.csv")))
    assert {kind: one["count"] for kind, one in database.items()} == {kind: one["count"] for kind, one in table.items()}


def test_medians_are_exact() -> None:
    name = "torch_npu_level1/text/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/kernel_details.csv"
    lines = {line.label: line for line in read(name, Top("type")).lines()}
    assert lines["ForeachAddList"].median == 628_313
    assert sum(line.share for line in lines.values()) == pytest.approx(1)
    assert lines["allReduce"].cores == ("COMMUNICATION",)


def test_a_folder_gives_each_thing_once() -> None:
    plan = Plan(RECORDINGS)
    count = 0
    for source in plan.sources:
        top = Top("type", plan.hidden(source))
        source.read(source.path, top, lambda share: None)
        plan.gave(source, top.kinds)
        count += sum(line.count for line in top.lines())
    assert plan.problems == []
    assert count == 11 + 21 + 2463 + 4 * 191
