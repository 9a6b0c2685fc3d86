"""The native file of MSPTI: tables, filters, and what a disk can do to it."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import parse
from ascend_opentelemetry.npu.mspti import _database
from ascend_opentelemetry.npu.mspti._database import MsptiDatabase
from ascend_opentelemetry.npu.mspti._records import Names
from tests.support.analyzer import run_analyzer
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti
from tests.unit.npu.mspti import session
from tests.unit.recorder.test_recorder_fork import in_child

BASE = 1_790_000_000_000_000_000
TABLES = {
    "counter": "CREATE TABLE counter (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT)",
    "flow": "CREATE TABLE flow (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_id TEXT, name TEXT, cat TEXT, track_id INTEGER, timestamp INTEGER, type TEXT)",
    "Api": "CREATE TABLE Api (name TEXT,start INTEGER,end INTEGER,processId INTEGER,threadId INTEGER,correlationId INTEGER)",
    "Kernel": "CREATE TABLE Kernel (type TEXT,name TEXT,start INTEGER,end INTEGER,deviceId INTEGER,streamId INTEGER,correlationId INTEGER)",
    "Communication": "CREATE TABLE Communication (name TEXT,start INTEGER,end INTEGER,deviceId INTEGER,streamId INTEGER,dataCount INTEGER,dataType INTEGER,commGroupName TEXT,correlationId INTEGER)",
    "Mstx": "CREATE TABLE Mstx (pid INTEGER,tid INTEGER,event_type TEXT,timestamp INTEGER,mark_id INTEGER,domain TEXT,message TEXT)",
}  # fmt: skip


class Recorded:
    """Makes records and writes them."""

    def __init__(self, folder: Path) -> None:
        self.stand_in = MsptiStandIn(build_mspti(folder / "cann"), BASE)
        self._session, _ = session(Path(self.stand_in.path))
        self.folder = folder / "1126-0400"

    def database(self, **options: Any) -> MsptiDatabase:
        return MsptiDatabase(self.folder, Names(), **options)

    def write(self, database: MsptiDatabase, closed_ns: int | None = None) -> None:
        self._session.flush()
        for records in self._session.read():
            database.write(records, closed_ns)

    @property
    def path(self) -> Path:
        return self.folder / "Trace_Service" / f"ascend_service_profiler_{socket.gethostname()}-{os.getpid()}.db"

    def rows(self, table: str, path: Path | None = None) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path or self.path)
        try:
            return connection.execute(f"SELECT * FROM {table}").fetchall()
        finally:
            connection.close()


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_tables_and_rows_are_those_of_ms_service_profiler(recorded) -> None:
    made = recorded.stand_in
    made.api(1, 2, "aclnnAdd", id_=9, thread=4711)
    made.kernel(5, 700, "aclnnAdd_AddAiCore_Add", "KERNEL_AIVEC", device=3, id_=9)
    made.communication(7, 80, "hcom_allReduce__1_0", 1024, 3, "192.0.2.1%eth0_60000")
    made.marker(2, 0, 300, 5, "on the host")
    made.marker(4, 1, 310, 5, None)
    database = recorded.database()
    assert not recorded.folder.exists()
    recorded.write(database)
    database.close()
    pid = os.getpid()
    assert recorded.rows("Api") == [("aclnnAdd", BASE + 1, BASE + 3, pid, 4711, 9)]
    assert recorded.rows("Kernel") == [("KERNEL_AIVEC", "aclnnAdd_AddAiCore_Add", BASE + 5, BASE + 705, 3, 7, 9)]
    assert recorded.rows("Communication") == [
        ("hcom_allReduce__1_0", BASE + 7, BASE + 87, 0, 9, 1024, 3, "192.0.2.1%eth0_60000", 77)
    ]
    assert recorded.rows("Mstx") == [
        (pid, 4242, "2", BASE + 300, 5, "0", "on the host"), (-1, -1, "4", BASE + 310, 5, "1", ""),
    ]  # fmt: skip
    statements = dict(_statements(recorded.path))
    assert {name: text for name, text in statements.items() if name != "sqlite_sequence"} == TABLES
    assert database.written == 5
    assert stat.S_IMODE(recorded.path.stat().st_mode) & ~0o640 == 0
    assert [path.name for path in recorded.path.parent.iterdir()] == [recorded.path.name]


def _statements(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("separator", [";", "\uff1b"])
def test_filters_take_parts_of_names_of_apis_and_kernels(recorded, separator) -> None:
    text = json.dumps({"api_filter": f"Add{separator}Mul", "kernel_filter": f"Mat{separator}norm "})
    config, problems = parse(text, "config.json")
    assert problems == []
    made = recorded.stand_in
    for name in ("aclnnAdd", "aclnnMuls", "aclnnCast", "add"):
        made.api(1, 2, name)
    for name in ("MatMulV3", "RmsNorm", "layernorm", None):
        made.kernel(1, 2, name)
    made.communication(7, 80, "hcom_allReduce__1_0", 1024, 3, "g")
    database = recorded.database(api_filter=config.api_filter, kernel_filter=config.kernel_filter)
    recorded.write(database)
    database.close()
    assert [row[0] for row in recorded.rows("Api")] == ["aclnnAdd", "aclnnMuls"]
    assert [row[1] for row in recorded.rows("Kernel")] == ["MatMulV3", "layernorm"]
    assert len(recorded.rows("Communication")) == 1


def test_only_records_that_begin_in_the_window_are_written(recorded) -> None:
    for start in (10, 20, 30, 40):
        recorded.stand_in.kernel(start, 100, "k")
        recorded.stand_in.marker(1, 0, start, start, "m")
    database = recorded.database(opened_ns=BASE + 20)
    recorded.write(database, BASE + 30)
    database.close()
    assert [row[2] - BASE for row in recorded.rows("Kernel")] == [20, 30]
    assert [row[3] - BASE for row in recorded.rows("Mstx")] == [20, 30]


def test_the_next_window_of_a_process_goes_on_in_its_file_and_another_process_is_left_alone(recorded) -> None:
    for _ in range(2):
        recorded.stand_in.kernel(1, 2, "k")
        database = recorded.database()
        recorded.write(database)
        database.close()
    assert len(recorded.rows("Kernel")) == 2
    _database._made.clear()
    before = recorded.path.read_bytes()
    recorded.stand_in.kernel(1, 2, "mine")
    database = recorded.database()
    recorded.write(database)
    database.close()
    assert recorded.path.read_bytes() == before
    assert database.path.name == f"ascend_service_profiler_{socket.gethostname()}.1-{os.getpid()}.db"
    assert [row[1] for row in recorded.rows("Kernel", database.path)] == ["mine"]


def test_a_folder_that_cannot_be_made_is_one_warning_and_counted_rows(recorded, caplog) -> None:
    recorded.folder.parent.mkdir(exist_ok=True)
    recorded.folder.write_text("a file")
    database = recorded.database()
    for _ in range(2):
        recorded.stand_in.kernel(1, 2, "k")
        recorded.stand_in.api(1, 2, "a")
        recorded.write(database)
    database.close()
    assert (database.written, database.dropped) == (0, 4)
    (message,) = caplog.messages
    assert message.startswith(f"{recorded.path}: cannot be written: ")
    assert 'until that is mended and "enable" is set to 0 and 1 again' in message


def test_a_file_that_is_locked_by_another_writer_costs_its_rows_only(recorded, monkeypatch) -> None:
    monkeypatch.setattr(_database, "_BUSY_SECONDS", 0.05)
    database = recorded.database()
    recorded.stand_in.kernel(1, 2, "k")
    recorded.write(database)
    other = sqlite3.connect(recorded.path)
    other.execute("BEGIN IMMEDIATE")
    recorded.stand_in.kernel(1, 2, "k")
    recorded.write(database)
    other.rollback()
    other.close()
    recorded.stand_in.kernel(1, 2, "k")
    recorded.write(database)
    database.close()
    assert (database.written, database.dropped, database.problem) == (2, 1, "")


def test_a_forked_child_does_not_touch_the_file_of_its_parent(recorded) -> None:
    database = recorded.database()
    recorded.stand_in.kernel(1, 2, "k")
    recorded.write(database)

    def child() -> list[Any]:
        database.close()
        return [_database._forking.locked()]

    assert in_child(child) == [False]
    recorded.stand_in.kernel(1, 2, "k")
    recorded.write(database)
    database.close()
    assert len(recorded.rows("Kernel")) == 2


def test_a_fork_that_did_not_wait_for_a_slow_write_leaves_its_lock_to_it() -> None:
    with _database._forking:
        assert in_child(lambda: [_database._forking.locked()]) == [False]
        assert _database._forking.locked()


def test_the_analyzer_shows_the_lanes(recorded, tmp_path) -> None:
    made = recorded.stand_in
    for number in range(50):
        made.api(10_000 * number, 4000, f"aclnnOp{number % 5}", id_=number)
        made.kernel(10_000 * number + 2000, 6000, f"aclnnOp{number % 5}_Op_Kernel", id_=number)
    made.communication(600_000, 8000, "hcom_allReduce__1_0", 1024, 3, "group")
    database = recorded.database()
    recorded.write(database)
    database.close()
    run_analyzer("parse", recorded.folder, tmp_path / "out", expected=())
    trace = json.loads((tmp_path / "out" / "chrome_tracing.json").read_text())
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"Api", "Kernel"} <= set(lanes.values())
    shown = [
        (lanes.get(event["tid"]), event["name"], event["pid"], event["dur"]) for event in events if event["ph"] == "X"
    ]
    pid = os.getpid()
    for lane, duration in (("Api", 4), ("Kernel", 6)):
        expected = sorted((lane, f"aclnnOp{number % 5}", pid, duration) for number in range(50))
        assert sorted(one for one in shown if one[0] == lane) == expected
