"""A small folder of native files without a defect, and changes that put one in; for the tests of the contract."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

MS = 10**6
T0 = 1_760_000_000 * 10**9
A, B = "cmpl-a", "cmpl-b"
CORE_A, CORE_B = f"{A}-0a1b2c3d", f"{B}-4e5f6071"
BLOCKS = {"TotalBlocks=": 100, "FreeBlocks=": 98}

TABLES = """
CREATE TABLE counter (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT);
CREATE TABLE flow (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_id TEXT, name TEXT, cat TEXT, track_id INTEGER, timestamp INTEGER, type TEXT);
CREATE TABLE Meta (name TEXT,value TEXT,slice TEXT);
"""
TABLES_OF_ROWS = """
CREATE TABLE process (pid TEXT PRIMARY KEY,process_name TEXT,label TEXT,process_sort_index INTEGER,parentPid TEXT);
CREATE TABLE thread (track_id INTEGER PRIMARY KEY,tid TEXT,pid TEXT,thread_name TEXT,thread_sort_index INTEGER);
CREATE TABLE slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, duration INTEGER, name TEXT, depth INTEGER, track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER, flag_id TEXT, pid INTEGER, tid INTEGER);
"""


class Written(NamedTuple):
    cat: str
    name: str
    start_ms: float
    duration_ms: float
    args: dict[str, Any]
    tid: int | None = None


def event(cat: str, name: str, start_ms: float, **args: Any) -> Written:
    return Written(cat, name, start_ms, 0, {**args, "type": 0})


def metrics(cat: str, name: str, start_ms: float, rid: Any, more: dict[str, Any]) -> Written:
    return event(cat, name, start_ms, rid=rid, **more)


def span(cat: str, name: str, start_ms: float, duration_ms: float, tid: int | None = None, **args: Any) -> Written:
    return Written(cat, name, start_ms, duration_ms, {"type": 2, **args}, tid)


def queue(name: str, start_ms: float, rid: Any, size: int, queue_name: str) -> Written:
    return metrics("Schedule", name, start_ms, rid, {"QueueSize=": size, "scope#QueueName": queue_name})


def step(*requests: tuple[str, int, int, int]) -> list[dict[str, Any]]:
    keys = ("rid", "iter", "type", "num_scheduled_tokens")
    return [dict(zip(keys, request, strict=True)) for request in requests]


STEP_1 = step((CORE_A, 0, 0, 8))
STEP_2 = step((CORE_A, 1, 1, 1), (CORE_B, 0, 0, 5))
STEP_3 = step((CORE_B, 1, 1, 1))

API = [
    event("Engine", "httpReq", 0, rid=A),
    event("Engine", "tokenize", 0.1, rid=A),
    event("Engine", "httpReq", 1, rid=B),
    event("Engine", "tokenize", 1.1, rid=B),
    event("Engine", "detokenize", 11, rid=A),
    event("Engine", "detokenize", 11, rid=[A]),
    event("Engine", "detokenize", 22, rid=B),
    event("Engine", "detokenize", 22, rid=[A, B]),
    metrics("Engine", "httpRes", 22.5, A, {"recvTokenSize=": 8, "replyTokenSize=": 2}),
    event("Engine", "detokenize", 32, rid=[B]),
    metrics("Engine", "httpRes", 32.5, B, {"recvTokenSize=": 5, "replyTokenSize=": 2}),
]
CORE = [
    queue("Enqueue", 1, CORE_A, 1, "WAITING"),
    metrics("Schedule.KVCache", "CacheHitRate", 2.1, CORE_A, {"hitCache": 0.5, **BLOCKS}),
    queue("Enqueue", 2.4, [CORE_A], 1, "RUNNING"),
    queue("Dequeue", 2.5, [CORE_A], 0, "WAITING"),
    metrics("Schedule.KVCache", "KVCacheStatus", 2.6, [CORE_A], {**BLOCKS, "AllocatedBlocks=": 2}),
    span("Schedule", "batchFrameworkProcessing", 2, 1, rid=STEP_1, batch_type="Prefill"),
    queue("Enqueue", 4, CORE_B, 1, "WAITING"),
    span("Execute", "modelExec", 3, 7, rid=STEP_1, batch_type="Prefill", batch_size=8),
    queue("Enqueue", 12.4, [CORE_B], 2, "RUNNING"),
    queue("Dequeue", 12.5, [CORE_B], 0, "WAITING"),
    metrics("Schedule.KVCache", "KVCacheStatus", 12.6, [CORE_A, CORE_B], {**BLOCKS, "AllocatedBlocks=": 0}),
    span("Schedule", "batchFrameworkProcessing", 12, 1, rid=STEP_2, batch_type="Prefill, Decode"),
    span("Execute", "modelExec", 13, 7, rid=STEP_2, batch_type="Prefill, Decode", batch_size=6),
    metrics("Schedule.KVCache", "Free", 21, CORE_A, {"deviceBlock=": 99, **BLOCKS, "AllocatedBlocks=": -1}),
    span("Schedule", "batchFrameworkProcessing", 23, 1, rid=STEP_3, batch_type="Decode"),
    span("Execute", "modelExec", 24, 7, rid=STEP_3, batch_type="Decode", batch_size=1),
    Written("Request", "Link", 31.5, 0, {"type": 3, "from": A, "to": CORE_A}),
]
WORKER = [
    span("Execute", "forward", 4, 5, rid=[CORE_A]),
    span("Execute", "modelRunnerExec", 3.5, 6, rid=[{"rid": CORE_A}]),
    span("Sample", "sample", 9.5, 0.2, tid=1030),
    event("", "custom", 9.8, note={"depth": {"x": 1}}),
]
SERVICE = {101: API, 102: CORE, 103: WORKER, 104: []}
API_DB, CORE_DB, WORKER_DB, META_DB = (f"ms_service_node-a-{pid}.db" for pid in SERVICE)


@contextmanager
def writing(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """One transaction, which does not wait for the disk."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            yield connection


def build(path: Path, pid: int, rows: list[Written]) -> None:
    with writing(path) as connection:
        connection.executescript(TABLES + (TABLES_OF_ROWS if rows else ""))
        for name, value in (("hostname", "node-a"), ("ppid", "100"), ("dpRankId", "-1")):
            connection.execute("INSERT INTO Meta VALUES (?, ?, '')", (name, value))
        if rows:
            connection.execute("INSERT INTO process VALUES (?, ?, '', 0, '')", (str(pid), str(pid)))
        threads: set[int] = set()
        for row in rows:
            tid = row.tid or pid
            if tid not in threads:
                threads.add(tid)
                thread = (tid, str(tid), str(pid), f"{row.cat}({tid})")
                connection.execute("INSERT INTO thread VALUES (?, ?, ?, ?, 0)", thread)
            insert(connection, row, pid, tid)
    path.chmod(0o640)


def insert(connection: sqlite3.Connection, row: Written, pid: int, tid: int) -> None:
    start, duration = T0 + int(row.start_ms * MS), int(row.duration_ms * MS)
    values = (start, duration, row.name, tid, row.cat, json.dumps(row.args), start + duration, pid, tid)
    connection.execute(
        "INSERT INTO slice(timestamp,duration,name,depth,track_id,cat,args,cname,end_time,flag_id,pid,tid)"
        " VALUES (?, ?, ?, 0, ?, ?, ?, '', ?, '', ?, ?)",
        values,
    )


def build_service(date: Path) -> Path:
    """Write the files of ``SERVICE`` below ``date``, a folder to be made; returns their Trace_Service folder."""
    trace = date / "Trace_Service"
    trace.mkdir(parents=True)
    date.chmod(0o750)
    trace.chmod(0o755)
    for pid, rows in SERVICE.items():
        build(trace / f"ms_service_node-a-{pid}.db", pid, rows)
    return trace


Change = Callable[[Path], object]


def sql(name: str, *statements: str) -> Change:
    def change(trace: Path) -> None:
        with writing(trace / name) as connection:
            for statement in statements:
                connection.execute(statement)

    return change


def edit(name: str, row: int, change_args: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Replace the attributes of a row; ``type`` of an event stays last."""

    def change(trace: Path) -> None:
        with writing(trace / name) as connection:
            (text,) = connection.execute("SELECT args FROM slice WHERE id = ?", (row,)).fetchone()
            args = change_args(json.loads(text))
            if args.get("type") == 0:
                args["type"] = args.pop("type")
            connection.execute("UPDATE slice SET args = ? WHERE id = ?", (json.dumps(args), row))

    return change


def add(name: str, row: int, **attributes: Any) -> Change:
    return edit(name, row, lambda args: {**args, **attributes})


def drop(name: str, row: int, *keys: str) -> Change:
    return edit(name, row, lambda args: {key: value for key, value in args.items() if key not in keys})


def append(name: str, *rows: Written) -> Change:
    pid = int(name.removesuffix(".db").rpartition("-")[2])

    def change(trace: Path) -> None:
        with writing(trace / name) as connection:
            for row in rows:
                insert(connection, row, pid, pid)

    return change


def both(*changes: Change) -> Change:
    return lambda trace: [change(trace) for change in changes]


def patch(name: str, offset: int, data: bytes) -> Change:
    def change(trace: Path) -> None:
        with (trace / name).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return change


def rename(name: str, new: str) -> Change:
    return lambda trace: (trace / name).rename(trace / new)


def only(name: str) -> Change:
    return lambda trace: [file.unlink() for file in trace.iterdir() if file.name != name]


def set_column(name: str, row: int, column: str, value: str) -> Change:
    return sql(name, f"UPDATE slice SET {column} = {value} WHERE id = {row}")


def new_meta(name: str, columns: str) -> Change:
    """Make the table Meta anew, with other columns and the same values."""

    def change(trace: Path) -> None:
        with writing(trace / name) as connection:
            rows = connection.execute("SELECT name, value, slice FROM Meta").fetchall()
            connection.execute("DROP TABLE Meta")
            connection.execute(f"CREATE TABLE Meta ({columns})")
            width = columns.count(",") + 1
            connection.executemany(f"INSERT INTO Meta VALUES ({', '.join('?' * width)})", [row[:width] for row in rows])

    return change
