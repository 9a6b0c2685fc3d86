"""Memory in the databases of profilers: bytes and bytes/s, as they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ascend_opentelemetry.npu._scope import device_attributes
from ascend_opentelemetry.npu.operators._names import label
from ascend_opentelemetry.npu.recordings import _semconv as names
from ascend_opentelemetry.npu.recordings._header import device_number
from ascend_opentelemetry.npu.recordings._schema import Schema, Strings, integer
from ascend_opentelemetry.npu.recordings._sink import BATCH, Batch, Kind, RecordingSink, SampleKey


def read(schema: Schema, sink: RecordingSink) -> None:
    """Give all tables of memory to the sink."""
    _allocator(schema, sink)
    _allocations(schema, sink)
    _process_and_device(schema, sink)
    _modules(schema, sink)
    _bandwidth(schema, sink)


@lru_cache(maxsize=1024)
def allocator_key(component: str, state: str, device: str) -> SampleKey:
    """Series of what a caching allocator holds."""
    attributes = ((names.MEMORY_COMPONENT, label(component)), (names.MEMORY_STATE, state))
    return SampleKey(names.ALLOCATOR_MEMORY.name, (*attributes, *device_attributes(device)))


def module_key(module: str, device: str) -> SampleKey:
    """Series of what a module of CANN has reserved."""
    return SampleKey(names.MODULE_MEMORY.name, ((names.MODULE, label(module)), *device_attributes(device)))


def _allocator(schema: Schema, sink: RecordingSink) -> None:
    """PTA, GE and their sum, from torch_npu; without it, what the operators of CANN allocate."""
    table, states = (
        "MEMORY_RECORD",
        {"allocated": "totalAllocated", "reserved": "totalReserved", "active": "totalActive"},
    )
    time = "timestamp"
    if not schema.has(table, "component", time):
        table, states = "NPU_OP_MEM", {"allocated": "totalAllocate", "reserved": "totalReserve"}
        time = "timestampNs"
    if not schema.has(table, "component", time):
        return
    words = schema.strings((table, "component"))
    present = [state for state, column in states.items() if column in schema.columns(table)]
    _samples(
        schema, sink, "allocator", table, ("component", "deviceId", time, *(states[state] for state in present)),
        lambda row: [allocator_key(words.text(row[0]), state, row[1]) for state in present],
    )  # fmt: skip


def _process_and_device(schema: Schema, sink: RecordingSink) -> None:
    if not schema.has("NPU_MEM", "type", "timestampNs"):
        return
    words = _or_enum(schema, "ENUM_MEMORY", schema.strings(("NPU_MEM", "type")))
    kinds = [kind for kind in ("hbm", "ddr") if kind in schema.columns("NPU_MEM")]

    def keys(row: Sequence[Any]) -> list[SampleKey]:
        metric = names.PROCESS_MEMORY if words.text(row[0]) == "app" else names.DEVICE_MEMORY
        hardware = ((names.HW_TYPE, "gpu"),) if metric is names.DEVICE_MEMORY else ()
        device = device_attributes(row[1])
        return [SampleKey(metric.name, ((names.MEMORY_KIND, kind), *hardware, *device)) for kind in kinds]

    _samples(schema, sink, "memory", "NPU_MEM", ("type", "deviceId", "timestampNs", *kinds), keys)


def _modules(schema: Schema, sink: RecordingSink) -> None:
    if not schema.has("NPU_MODULE_MEM", "moduleId", "timestampNs", "totalReserved"):
        return
    modules = schema.names("ENUM_MODULE")
    _samples(
        schema, sink, "modules", "NPU_MODULE_MEM", ("moduleId", "deviceId", "timestampNs", "totalReserved"),
        lambda row: [module_key(modules.get(row[0], str(row[0])), row[1])],
    )  # fmt: skip


def _bandwidth(schema: Schema, sink: RecordingSink) -> None:
    if not schema.has("HBM", "hbmId", "timestampNs", "bandwidth", "type"):
        return
    words = schema.strings(("HBM", "type"))

    def keys(row: Sequence[Any]) -> list[SampleKey]:
        channel, _, direction = str(row[0]).partition("/")
        attributes = (
            (names.CHANNEL, label(channel)),
            (names.DIRECTION, label(words.text(int(direction)) if direction.isdecimal() else direction)),
        )
        return [SampleKey(names.MEMORY_BANDWIDTH.name, (*attributes, *device_attributes(row[1])))]

    _samples(schema, sink, "bandwidth", "HBM", ("hbmId || '/' || type", "deviceId", "timestampNs", "bandwidth"), keys)


def _samples(
    schema: Schema,
    sink: RecordingSink,
    kind: Kind,
    table: str,
    columns: Sequence[str],
    keys: Callable[[Sequence[Any]], Sequence[SampleKey]],
) -> None:
    """Rows of name, device, time and values as samples; ``keys`` gives the series of each value of a row."""
    if not sink.wants(kind):
        return
    name, device, time, *values = columns
    device = schema.column(table, device)
    numbers = ", ".join(integer(column) for column in (time, *values))
    cursor = schema.connection.execute(f"SELECT {name}, {device}, {numbers} FROM {table}")  # noqa: S608
    batch = Batch(lambda *found: sink.samples(kind, *found))
    series: dict[tuple[Any, Any], Sequence[SampleKey]] = {}
    while rows := cursor.fetchmany(BATCH):
        for row in rows:
            if row[2] is None:
                sink.left_out += 1
                continue
            if row[:2] not in series:
                series[row[:2]] = keys((row[0], device_number(str(row[1]))))
            for key, value in zip(series[row[:2]], row[3:], strict=True):
                if value is not None:
                    batch.add(key, row[2], value)
    batch.flush()


def _allocations(schema: Schema, sink: RecordingSink) -> None:
    if not schema.has("OP_MEMORY", "size", "allocationTime") or not sink.wants("allocations"):
        return
    release, device = schema.column("OP_MEMORY", "releaseTime"), schema.column("OP_MEMORY", "deviceId")
    numbers = ", ".join(map(integer, ("allocationTime", release, "size")))
    batch = Batch(sink.allocations)
    for begin, end, size, number in schema.connection.execute(f"SELECT {numbers}, {device} FROM OP_MEMORY"):  # noqa: S608
        if begin is None or size is None:
            sink.left_out += 1
        else:
            lifetime = 0 if end is None else end - begin
            batch.add((end is not None, device_number(str(number))), begin, lifetime, size)
    batch.flush()


def _or_enum(schema: Schema, table: str, words: Strings) -> Strings:
    """Words of the enumeration where the database has it: its ids are no ids of ``STRING_IDS``."""
    found = schema.names(table)
    return Strings(found) if found else words
