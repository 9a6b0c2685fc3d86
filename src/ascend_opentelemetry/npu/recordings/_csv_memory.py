"""Memory in the csv files of torch_npu: units are those of the headings, and MB means MiB."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ascend_opentelemetry.npu.operators._names import is_unknown
from ascend_opentelemetry.npu.recordings._db_memory import allocator_key, module_key
from ascend_opentelemetry.npu.recordings._decimal import bytes_of, digits_of, to_bytes, to_ns
from ascend_opentelemetry.npu.recordings._header import Header, device_number
from ascend_opentelemetry.npu.recordings._sink import Batch, RecordingSink, SampleKey


def taker(header: Header, sink: RecordingSink) -> tuple[Callable[[Sequence[str]], None], Callable[[], None]] | None:
    """What takes the rows of a file with this header, and what ends it; None for a file of something else."""
    return _allocations(header, sink) or _allocator(header, sink) or _modules(header, sink)


def _pass_over(row: Sequence[str]) -> None:
    """Of a file that is not wanted."""


def _allocator(
    header: Header, sink: RecordingSink
) -> tuple[Callable[[Sequence[str]], None], Callable[[], None]] | None:
    """``memory_record``."""
    component, time, device = header.find("Component"), header.find("Timestamp"), header.find("Device Type")
    states = [(state, header.find(f"Total {state.capitalize()}")) for state in ("allocated", "reserved", "active")]
    present = [(state, column) for state, column in states if column is not None]
    if component is None or time is None or "allocated" not in dict(present):
        return None
    batch = Batch(lambda *found: sink.samples("allocator", *found))
    wanted = sink.wants("allocator")
    digits = digits_of(time.unit)

    def take(row: Sequence[str]) -> None:
        when = row[time.at].strip()
        if is_unknown(when):
            sink.left_out += 1
            return
        number = device_number(row[device.at]) if device else ""
        for state, column in present:
            cell = row[column.at].strip()
            if cell and not is_unknown(cell):
                key: SampleKey = allocator_key(row[component.at].strip(), state, number)
                batch.add(key, to_ns(when, digits), to_bytes(cell, bytes_of(column.unit)))

    return (take if wanted else _pass_over), batch.flush


def _modules(header: Header, sink: RecordingSink) -> tuple[Callable[[Sequence[str]], None], Callable[[], None]] | None:
    """``npu_module_mem``."""
    component, time, reserved = header.find("Component"), header.find("Timestamp"), header.find("Total Reserved")
    device = header.find("Device", "Device_id")
    if component is None or time is None or reserved is None:
        return None
    batch = Batch(lambda *found: sink.samples("modules", *found))
    wanted = sink.wants("modules")
    digits, unit = digits_of(time.unit), bytes_of(reserved.unit)

    def take(row: Sequence[str]) -> None:
        number = device_number(row[device.at]) if device else ""
        key = module_key(row[component.at].strip(), number)
        batch.add(key, to_ns(row[time.at], digits), to_bytes(row[reserved.at], unit))

    return (take if wanted else _pass_over), batch.flush


def _allocations(
    header: Header, sink: RecordingSink
) -> tuple[Callable[[Sequence[str]], None], Callable[[], None]] | None:
    """``operator_memory``."""
    size, begin, end = header.find("Size"), header.find("Allocation Time"), header.find("Release Time")
    device = header.find("Device Type")
    if size is None or begin is None:
        return None
    batch = Batch(sink.allocations)
    wanted = sink.wants("allocations")
    digits, unit = digits_of(begin.unit), bytes_of(size.unit)

    def take(row: Sequence[str]) -> None:
        allocated = row[begin.at].strip()
        if is_unknown(allocated):
            sink.left_out += 1
            return
        start = to_ns(allocated, digits)
        released = row[end.at].strip() if end else ""
        lifetime = 0 if is_unknown(released) else to_ns(released, digits) - start
        number = device_number(row[device.at]) if device else ""
        batch.add((not is_unknown(released), number), start, lifetime, to_bytes(row[size.at], unit))

    return (take if wanted else _pass_over), batch.flush
