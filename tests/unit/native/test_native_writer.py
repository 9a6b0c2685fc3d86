from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ascend_opentelemetry.native import _writer
from ascend_opentelemetry.native._own import OwnFile, claim
from ascend_opentelemetry.native._writer import CAPACITY, SCHEMA, NativeWriter, SliceRow

PID = os.getpid()
MENDED = 'rows are dropped until that is mended and "enable" is set to 0 and 1 again'


@pytest.fixture
def dropped() -> dict[str, int]:
    return {}


@pytest.fixture
def writer(tmp_path: Path, dropped: dict[str, int]) -> NativeWriter:
    return NativeWriter(tmp_path / "d" / "x.db", {}, dropped)


def row(name: str = "n", args: str = '{"type": 2}', start: int = 10) -> SliceRow:
    return (start, 5, name, 7, "Engine", args, start + 5, 7)


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_schema_is_the_golden_one(golden: Path, writer: NativeWriter) -> None:
    [path] = (golden / "dynamic_toggle").rglob("*.db")
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    expected = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid").fetchall()
    connection.close()
    writer.rows.append(row())
    writer.close()
    assert query(writer.path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid") == expected
    assert len(SCHEMA) == 6


def test_rows(writer: NativeWriter) -> None:
    writer.add_thread(7, "Engine")
    writer.rows.extend([row("a"), row("b")])
    assert writer.commit()
    assert writer.written == 2
    assert query(writer.path, "SELECT * FROM slice") == [
        (1, 10, 5, "a", 0, 7, "Engine", '{"type": 2}', "", 15, "", PID, 7),
        (2, 10, 5, "b", 0, 7, "Engine", '{"type": 2}', "", 15, "", PID, 7),
    ]
    assert query(writer.path, "SELECT * FROM process") == [(str(PID), str(PID), "", 0, "")]
    assert query(writer.path, "SELECT * FROM thread") == [(7, "7", str(PID), "Engine(7)", 0)]
    assert query(writer.path, "SELECT * FROM Meta") == [
        ("hostname", socket.gethostname(), ""),
        ("ppid", str(os.getppid()), ""),
    ]
    writer.close()


def test_modes_and_journal(writer: NativeWriter) -> None:
    old = os.umask(0)
    try:
        writer.rows.append(row())
        writer.commit()
        assert os.umask(0) == 0
        connection = writer._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM slice")
        connection.execute("PRAGMA cache_spill=1")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in writer.path.parent.iterdir()}
        connection.execute("ROLLBACK")
    finally:
        os.umask(old)
    assert modes == {"x.db": 0o640, "x.db-journal": 0o640}
    assert stat.S_IMODE(writer.path.parent.stat().st_mode) == 0o750
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (0,)
    writer.close()
    assert [path.name for path in writer.path.parent.iterdir()] == ["x.db"]


def test_no_file_without_a_row(writer: NativeWriter) -> None:
    assert writer.commit()
    writer.close()
    assert not writer.path.parent.exists()


def test_meta_opens_the_file_and_is_written_again_when_opened_again(tmp_path: Path, dropped: dict[str, int]) -> None:
    meta = {"dpRankId": "0"}
    writer = NativeWriter(tmp_path / "x.db", meta, dropped)
    writer.commit()
    meta["k"] = "1"
    writer.commit()
    writer.commit()
    meta["dpRankId"] = "2"
    writer.close()
    names = "SELECT name, value FROM Meta WHERE name NOT IN ('hostname', 'ppid')"
    assert query(writer.path, names) == [("dpRankId", "0"), ("k", "1"), ("dpRankId", "2")]
    again = NativeWriter(tmp_path / "x.db", meta, dropped)
    again.rows.append(row())
    again.close()
    assert query(writer.path, names)[3:] == [("dpRankId", "2"), ("k", "1")]
    assert query(writer.path, "SELECT count(*) FROM process") == [(1,)]


def test_locked_file_keeps_the_rows(writer: NativeWriter, dropped: dict[str, int]) -> None:
    writer.rows.append(row("a"))
    writer.commit()
    reader = sqlite3.connect(writer.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM slice").fetchone()
    writer.rows.append(row("b"))
    assert not writer.commit()
    assert writer.rows == [row("b")]
    reader.close()
    assert writer.commit()
    assert query(writer.path, "SELECT name FROM slice") == [("a",), ("b",)]
    assert dropped == {}
    writer.close()


def test_rows_behind_a_lock_are_bounded(writer: NativeWriter, dropped: dict[str, int]) -> None:
    writer.rows.append(row())
    writer.commit()
    other = sqlite3.connect(writer.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.rows.extend([row()] * (CAPACITY + 1))
    assert not writer.commit()
    assert writer.rows == []
    assert dropped == {"locked": CAPACITY + 1}
    other.close()
    writer.close()


def test_unfit_rows_cost_only_themselves(
    writer: NativeWriter, dropped: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        writer.rows.extend([row("a"), row("\ud800"), row(start=1 << 64), row(args={}), ("short",), row("b")])  # type: ignore[arg-type,list-item]
        assert writer.commit()
    assert query(writer.path, "SELECT name FROM slice") == [("a",), ("b",)] * 2
    assert dropped == {"unfit": 8}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{writer.path}: rows that SQLite cannot store are left out: ")
    writer.close()


@pytest.mark.parametrize("number", [1, 15, 16, 17, 100])
def test_any_number_of_rows_is_written_in_order(writer: NativeWriter, number: int) -> None:
    rows = [row(f"n{index}", start=index) for index in range(number)]
    writer.rows.extend(rows)
    assert writer.commit()
    assert (writer.written, writer.rows) == (number, [])
    columns = "timestamp, duration, name, track_id, cat, args, end_time, tid"
    assert query(writer.path, f"SELECT {columns} FROM slice ORDER BY id") == rows
    assert query(writer.path, "SELECT DISTINCT depth, cname, flag_id, pid FROM slice") == [(0, "", "", PID)]
    writer.close()


@pytest.mark.parametrize("unfit", [0, 15, 20, 39])
def test_an_unfit_row_among_many_costs_only_itself(writer: NativeWriter, dropped: dict[str, int], unfit: int) -> None:
    writer.rows.extend(row(f"n{index}", start=1 << 64 if index == unfit else index) for index in range(40))
    assert writer.commit()
    expected = [(f"n{index}",) for index in range(40) if index != unfit]
    assert query(writer.path, "SELECT name FROM slice ORDER BY id") == expected
    assert (writer.written, dropped) == (39, {"unfit": 1})
    writer.close()


def test_odd_text_of_meta_and_threads(writer: NativeWriter) -> None:
    writer.add_thread(7, "\ud800")
    writer.rows.append(row())
    writer.close()
    assert query(writer.path, "SELECT thread_name FROM thread") == [("?(7)",)]


def test_folder_that_cannot_be_made(tmp_path: Path, dropped: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "d").touch()
    writer = NativeWriter(tmp_path / "d" / "x.db", {}, dropped)
    for _ in range(3):
        writer.rows.append(row())
        assert writer.commit()
    writer.close()
    assert dropped == {"disk": 3}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{writer.path}: cannot be written: ")
    assert caplog.messages[0].endswith(f"; {MENDED}")


def test_unwritable_folder(tmp_path: Path, dropped: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # who can write everywhere
        os.seteuid(65534)
    try:
        writer = NativeWriter(tmp_path / "d" / "x.db", {}, dropped)
        writer.rows.append(row())
        writer.close()
    finally:
        os.seteuid(user)
    assert dropped == {"disk": 1}
    assert "Permission denied" in caplog.messages[0]


def test_file_that_is_damaged(writer: NativeWriter, dropped: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    writer.rows.append(row())
    writer.commit()
    writer.path.write_text("no database, " * 1000)
    for _ in range(2):
        writer.rows.append(row())
        writer.commit()
    writer.close()
    assert (writer.lost, dropped) == (2, {"disk": 2})
    assert caplog.messages == [f"{writer.path}: cannot be written: file is not a database; {MENDED}"]


def test_file_of_another_process_is_left_alone(tmp_path: Path, dropped: dict[str, int]) -> None:
    taken = tmp_path / "x.db"
    taken.write_text("of another")
    for name in ("a", "b"):  # a window that is opened again continues its own file
        writer = NativeWriter(taken, {}, dropped)
        writer.rows.append(row(name))
        writer.close()
        assert writer.path == tmp_path / "x-1.db"
    assert query(tmp_path / "x-1.db", "SELECT name, pid FROM slice") == [("a", PID), ("b", PID)]
    assert taken.read_text() == "of another"
    assert dropped == {}


@pytest.mark.parametrize("how", ["file removed", "folder removed", "folder moved", "file replaced"])
def test_file_that_goes_away_while_in_use(
    how: str, tmp_path: Path, dropped: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    writer = NativeWriter(tmp_path / "d" / "x.db", {"k": "1"}, dropped)
    writer.add_thread(7, "Engine")
    writer.rows.append(row("before"))
    writer.commit()
    if how == "folder removed":
        shutil.rmtree(tmp_path / "d")
    elif how == "folder moved":
        (tmp_path / "d").rename(tmp_path / "e")
    else:
        writer.path.unlink()
        if how == "file replaced":
            writer.path.write_text("of another")
    for name in ("after", "later"):
        writer.rows.append(row(name))
        assert writer.commit()
    assert caplog.messages == [
        f"{tmp_path / 'd' / 'x.db'}: was removed or moved while in use; rows go on in a new file"
    ]
    assert writer.path == tmp_path / "d" / ("x-1.db" if how == "file replaced" else "x.db")
    writer.close()
    assert query(writer.path, "SELECT name FROM slice") == [("after",), ("later",)]
    assert query(writer.path, "SELECT tid FROM thread") == [("7",)]
    assert query(writer.path, "SELECT name FROM Meta") == [("hostname",), ("ppid",), ("k",)]
    assert (dropped, writer.written) == ({}, 3)
    if how == "folder moved":
        assert query(tmp_path / "e" / "x.db", "SELECT name FROM slice") == [("before",)]
    if how == "file replaced":
        assert (tmp_path / "d" / "x.db").read_text() == "of another"


def test_file_that_goes_away_before_it_is_opened(
    tmp_path: Path, dropped: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[OwnFile] = []

    def removed_at_first(wanted: Path) -> OwnFile:
        made.append(claim(wanted))
        if len(made) == 1:
            made[0].path.unlink()
        return made[-1]

    monkeypatch.setattr(_writer, "claim", removed_at_first)
    writer = NativeWriter(tmp_path / "x.db", {}, dropped)
    writer.rows.append(row())
    writer.close()
    assert len(made) == 2
    assert made[1]._inode[1] == (tmp_path / "x.db").stat().st_ino
    assert query(writer.path, "SELECT name FROM slice") == [("n",)]
    assert dropped == {}


def test_folder_that_goes_away_for_good(
    tmp_path: Path, dropped: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    writer = NativeWriter(tmp_path / "d" / "x.db", {}, dropped)
    writer.rows.append(row())
    writer.commit()
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "d").touch()
    for _ in range(2):
        writer.rows.append(row())
        assert writer.commit()
    assert dropped == {"disk": 2}
    assert [message.partition(": ")[2].partition(";")[0] for message in caplog.messages] == [
        "was removed or moved while in use",
        f"cannot be written: [Errno 17] File exists: '{tmp_path / 'd'}'",
    ]


FULL = """
import logging, resource, sqlite3, sys
from pathlib import Path
from ascend_opentelemetry.native import _writer
from ascend_opentelemetry.native._own import OwnFile, claim
from ascend_opentelemetry.native._writer import NativeWriter
logging.basicConfig(format="%(message)s")
path, dropped = Path(sys.argv[1]), {}
writer = NativeWriter(path, {}, dropped)
writer.rows.append((1, 1, "a", 7, "Engine", "{}", 2, 7))
writer.commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, resource.RLIM_INFINITY))
for _ in range(3):
    writer.rows.extend([(1, 1, "b" * 1000, 7, "Engine", "{}", 2, 7)] * 100)
    writer.commit()
writer.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = NativeWriter(path, {}, dropped)
again.rows.append((1, 1, "c", 7, "Engine", "{}", 2, 7))
again.close()
print(dropped, sqlite3.connect(path).execute("SELECT name FROM slice").fetchall())
"""


def test_full_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "x.db")], capture_output=True, text=True
    )
    assert done.stdout == "{'disk': 300} [('a',), ('c',)]\n", done.stderr
    [message] = done.stderr.splitlines()
    assert message.startswith(f"{tmp_path / 'x.db'}: cannot be written: ")


def test_fork_leaves_the_file_of_the_parent_alone(writer: NativeWriter, tmp_path: Path) -> None:
    writer.rows.append(row("parent"))
    writer.commit()
    writer.rows.append(row("waiting"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            writer.abandon()
            own = NativeWriter(tmp_path / "child.db", {}, {})
            own.rows.append(row("child"))
            own.close()
            status = 0 if writer.commit() else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    writer.close()
    assert query(writer.path, "SELECT name FROM slice") == [("parent",), ("waiting",)]
    assert query(tmp_path / "child.db", "SELECT name, pid FROM slice") == [("child", child)]
