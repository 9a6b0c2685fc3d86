"""Reads ``msprof_*.db`` and ``ascend_pytorch_profiler*.db``.

Tables and units: docs/en/user_guide/profile_data_file_references_db.md of Ascend/msprof. Names and order of columns
differ between versions, so each is asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ascend_opentelemetry.npu.operators._names import payload
from ascend_opentelemetry.npu.recordings import _db_memory as _memory
from ascend_opentelemetry.npu.recordings._header import device_number
from ascend_opentelemetry.npu.recordings._schema import Schema, integer
from ascend_opentelemetry.npu.recordings._sink import BATCH, Progress, RecordingError, RecordingSink

_MAGIC = b"SQLite format 3\0"
_KNOWN = frozenset(
    {"TASK", "COMPUTE_TASK_INFO", "COMMUNICATION_OP", "MEMORY_RECORD", "OP_MEMORY", "NPU_MEM", "CANN_API"}
)
_KNOWN_TOO = frozenset({"NPU_MODULE_MEM", "NPU_OP_MEM", "HBM", "SESSION_TIME_INFO"})


def read(path: Path, sink: RecordingSink, progress: Progress) -> None:
    """Read a database.

    Raises:
        RecordingError: it is empty, cut off, damaged, locked or of something else.
    """
    try:
        with closing(_connect(path)) as connection:
            schema = Schema(connection)
            if not schema.tables & (_KNOWN | _KNOWN_TOO):
                raise RecordingError(path, "is a database, but none with operators or memory of an NPU")
            if schema.has("RANK_DEVICE_MAP", "rankId"):
                row = connection.execute("SELECT min(rankId), max(rankId) FROM RANK_DEVICE_MAP").fetchone()
                sink.rank = row[0] if row[0] == row[1] and isinstance(row[0], int) and row[0] >= 0 else None
            _operators(schema, sink, progress)
            _communications(schema, sink)
            _memory.read(schema, sink)
    except sqlite3.Error as error:
        raise RecordingError(path, _reason(error)) from error
    except (OverflowError, TypeError, ValueError) as error:
        raise RecordingError(path, f"holds a value that is no time, size or id: {error}") from error
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        raise RecordingError(path, "is empty")
    if not head.startswith(_MAGIC[: len(head)]):
        raise RecordingError(path, "is no SQLite database")
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    if len(head) < 100 or (
        head[24:28] == head[92:96] and pages * (65_536 if page == 1 else page) > path.stat().st_size
    ):
        raise RecordingError(path, "is cut off: it is shorter than its header says; copy it again")
    # a checkpointed WAL database needs files beside it, which a folder of recordings may not allow
    alone = head[18] == 2 and not Path(f"{path}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=0.5)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = FILE")
    return connection


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text:
        return "is locked by a program that writes it; try again when it has ended"
    if "malformed" in text or "not a database" in text:
        return f"is damaged ({text}); copy or export it again"
    return f"cannot be read: {text}"


def _operators(schema: Schema, sink: RecordingSink, progress: Progress) -> None:
    needed = schema.has("TASK", "startNs", "endNs", "globalTaskId") and schema.has("COMPUTE_TASK_INFO", "globalTaskId")
    if not needed or not sink.wants("operators"):
        return
    words = schema.strings(*(("COMPUTE_TASK_INFO", column) for column in ("name", "opType", "taskType")))
    steps = _Steps(schema)
    info = [schema.column("COMPUTE_TASK_INFO", name, table="i") for name in ("name", "opType", "taskType")]
    start, end = integer("t.startNs"), integer("t.endNs")
    # TASK first: the other way round SQLite would sort the larger table
    query = (
        f"SELECT {', '.join(info)}, {schema.column('TASK', 'deviceId', table='t')}, {start}, {end} - {start}, t.rowid "  # noqa: S608
        "FROM TASK t CROSS JOIN COMPUTE_TASK_INFO i ON i.globalTaskId = t.globalTaskId"
    )
    last = schema.last_row("TASK")
    raw: dict[tuple[Any, ...], tuple[str, str | None, str, str]] = {}
    for rows in _batches(schema.connection.execute(query)):
        for row in rows:
            key = row[:4]
            if key not in raw:
                name, given, core, device = key
                raw[key] = (words.text(name), words.text(given), words.text(core), _device(device))
        whole = [row for row in rows if row[4] is not None and row[5] is not None]
        sink.left_out += len(rows) - len(whole)
        starts = [row[4] for row in whole]
        sink.operators([raw[row[:4]] for row in whole], starts, [row[5] for row in whole], steps.of(starts))
        progress(rows[-1][6] / last)


class _Steps:
    """Which profiled step a time lies in."""

    def __init__(self, schema: Schema) -> None:
        rows: list[tuple[int, int, int]] = []
        if schema.has("STEP_TIME", "id", "startNs", "endNs"):
            columns = ", ".join(map(integer, ("startNs", "endNs", "id")))
            query = f"SELECT {columns} FROM STEP_TIME WHERE startNs IS NOT NULL ORDER BY 1"  # noqa: S608
            rows = schema.connection.execute(query).fetchall()
        self._starts, self._ends, self._ids = np.array(rows, dtype=np.int64).reshape(-1, 3).T

    def of(self, times: Sequence[int]) -> Sequence[int] | None:
        """Id of the step of each time, -1 for none; None without steps."""
        if not len(self._ids):
            return None
        index = np.searchsorted(self._starts, times, side="right") - 1
        inside = (index >= 0) & (np.asarray(times) <= self._ends[index])
        return np.where(inside, self._ids[index], -1).tolist()


def _communications(schema: Schema, sink: RecordingSink) -> None:
    table = "COMMUNICATION_OP"
    if not schema.has(table, "opName", "startNs", "endNs") or not sink.wants("communication"):
        return
    words = schema.strings(*((table, column) for column in ("opName", "groupName", "dataType")))
    types = schema.names("ENUM_HCCL_DATA_TYPE")
    columns = [schema.column(table, name) for name in ("opName", "dataType", "groupName", "deviceId", "count")]
    start, end = integer("startNs"), integer("endNs")
    query = f"SELECT {', '.join(columns)}, {start}, {end} - {start} FROM {table}"  # noqa: S608
    only = _device(schema.only_device("TASK"))
    for rows in _batches(schema.connection.execute(query)):
        whole = [row for row in rows if row[5] is not None and row[6] is not None]
        sink.left_out += len(rows) - len(whole)
        raw: list[tuple[str, str, str, str]] = []
        sizes: list[int] = []
        for name, data_type, group, device, count, _, _ in whole:
            type_name = types.get(data_type) or ("" if types else words.text(data_type))
            raw.append((words.text(name), type_name, words.text(group), _device(device) or only))
            sizes.append(payload(type_name, int(count or 0)))
        sink.communications(raw, [row[5] for row in whole], [row[6] for row in whole], sizes)


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[Any]]:
    while rows := cursor.fetchmany(BATCH):
        yield rows


def _device(value: Any) -> str:
    return device_number(str(value))
