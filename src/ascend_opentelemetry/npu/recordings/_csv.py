"""Reads the csv files of torch_npu and msprof; what a file is, its header says."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias

from ascend_opentelemetry.npu.operators._names import is_communication, is_unknown, label
from ascend_opentelemetry.npu.operators._windows import MAX_AMOUNT
from ascend_opentelemetry.npu.recordings import _csv_memory as _memory
from ascend_opentelemetry.npu.recordings._decimal import digits_of, to_ns
from ascend_opentelemetry.npu.recordings._header import Column, Header, device_number
from ascend_opentelemetry.npu.recordings._sink import (
    BATCH,
    Batch,
    OperatorTotal,
    Progress,
    RecordingError,
    RecordingSink,
)

#: Signs of a cell, or of a line without an end, so that a damaged file is not taken into memory.
_MAX_CELL = 16 * 2**20
#: Digits of the id of a step.
_MAX_STEP = 18

Row: TypeAlias = Sequence[str]
#: Takes one row; and what to do at the end.
Taker: TypeAlias = tuple[Callable[[Row], None], Callable[[], None]]


class _Kernel(NamedTuple):
    name: Column
    type: Column | None
    core: Column
    start: Column
    duration: Column
    step: Column | None
    device: Column | None


def read(path: Path, sink: RecordingSink, progress: Progress) -> None:
    """Read a file.

    Raises:
        RecordingError: it is empty, cut off, no csv or of something else.
    """
    csv.field_size_limit(_MAX_CELL)
    line = 0
    try:
        rows = _rows(path, progress)
        first = next(rows, None)
        if first is None:
            raise RecordingError(path, "is empty")
        header = Header(first[1])
        take, end = _taker(path, header, sink)
        for line, row in rows:  # noqa: B007 - named in the error
            take(row)
        end()
    except IndexError as error:
        raise RecordingError(path, f"is cut off: line {line} has fewer cells than the header") from error
    except UnicodeDecodeError as error:
        raise RecordingError(path, "is no text in UTF-8; save it as UTF-8, or export it again") from error
    except (ValueError, OverflowError, csv.Error) as error:
        cut = "unexpected end of data" in str(error)
        reason = "is cut off inside a quoted cell" if cut else f"cannot be read at line {max(line, 1)}: {error}"
        raise RecordingError(path, reason) from error
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error


def _rows(path: Path, progress: Progress) -> Iterator[tuple[int, Row]]:
    """Number of the last line of a record, and its cells; without empty records."""
    size = path.stat().st_size
    with path.open("rb") as binary:
        if size:
            binary.seek(-1, os.SEEK_END)
        ended = binary.read(1) in (b"\n", b"\r")
    width = 0
    row: Row = ()
    with path.open("rb") as binary, TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(_lines(text), strict=True)
        for number, row in enumerate(reader):
            width = width or len(row)
            if row:
                yield reader.line_num, row
            if not number % BATCH:
                progress(binary.tell() / max(size, 1))
        if not ended and len(row) < width:
            raise RecordingError(path, f"is cut off at line {reader.line_num}; copy or export it again")


def _lines(text: TextIO) -> Iterator[str]:
    while line := text.readline(_MAX_CELL):
        if len(line) == _MAX_CELL:
            raise ValueError(f"the line has more than {_MAX_CELL} signs")
        yield line


def _taker(path: Path, header: Header, sink: RecordingSink) -> Taker:
    found = _kernels(header, sink) or _totals(header, sink) or _memory.taker(header, sink)
    if found is None:
        known = ", ".join(map(label, header.names[:6]))
        raise RecordingError(
            path, f"is a csv, but none with operators or memory of an NPU: its columns are {known}, ..."
        )
    return found


def _kernels(header: Header, sink: RecordingSink) -> Taker | None:
    """``kernel_details``, ``op_summary``."""
    name, core = header.find("Name", "Op Name"), header.find("Accelerator Core", "Task Type")
    start, duration = header.find("Start Time", "Task Start Time"), header.find("Duration", "Task Duration")
    if name is None or core is None or start is None or duration is None:
        return None
    step, device = header.find("Step Id", "Step ID"), header.find("Device_id", "Device ID", "Device Id")
    kernel = _Kernel(name, header.find("Type", "OP Type"), core, start, duration, step, device)
    operators = Batch(sink.operators)
    communications = Batch(sink.communications)
    with_operators, with_communications = sink.wants("operators"), sink.wants("communication")
    starts, durations = digits_of(start.unit), digits_of(duration.unit)

    def take(row: Row) -> None:
        when, spell = row[kernel.start.at].strip(), row[kernel.duration.at].strip()
        if is_unknown(when) or is_unknown(spell):
            sink.left_out += 1
            return
        begin, spent = to_ns(when, starts), to_ns(spell, durations)
        if "E" in when or "e" in when:
            sink.rounded += 1
        number = device_number(row[kernel.device.at]) if kernel.device else ""
        word, core_type = row[kernel.name.at].strip(), row[kernel.core.at].strip()
        if is_communication(word, core_type):
            if with_communications:
                communications.add((word, "", "", number), begin, spent, 0)
        elif with_operators:
            given = row[kernel.type.at].strip() if kernel.type else None
            raw = word, given, core_type, number
            if kernel.step:
                operators.add(raw, begin, spent, _step(row[kernel.step.at]))
            else:
                operators.add(raw, begin, spent)

    def end() -> None:
        operators.flush()
        communications.flush()

    return take, end


def _totals(header: Header, sink: RecordingSink) -> Taker | None:
    """``op_statistic``."""
    kind, core, count = header.find("OP Type"), header.find("Core Type"), header.find("Count")
    times = [header.find(f"{which} Time") for which in ("Total", "Min", "Max")]
    device = header.find("Device_id", "Device ID")
    if kind is None or core is None or count is None or None in times:
        return None
    known = [column for column in times if column is not None]
    rows: list[OperatorTotal] = []

    def take(row: Row) -> None:
        total, least, most = (to_ns(row[column.at], digits_of(column.unit)) for column in known)
        number = device_number(row[device.at]) if device else ""
        numbers = int(row[count.at]), total, least, most
        if all(0 <= one < MAX_AMOUNT for one in numbers):
            rows.append(OperatorTotal(label(row[kind.at].strip()), label(row[core.at].strip()), number, *numbers))
        else:
            sink.left_out += 1

    return take, lambda: sink.operator_totals(rows) if sink.wants("operators") else None


@lru_cache(maxsize=256)
def _step(cell: str) -> int:
    text = cell.strip()
    return int(text) if text.isdecimal() and len(text) <= _MAX_STEP else -1
