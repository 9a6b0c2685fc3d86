"""Checks of one file that need no look into ``args``: its name, modes, schema and fixed columns."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from tests.support.contract._database import Database
from tests.support.contract._violation import Violation

SCHEMA = {
    "counter": "CREATE TABLE counter "
    "(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT)",
    "flow": "CREATE TABLE flow (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_id TEXT, name TEXT, cat TEXT, "
    "track_id INTEGER, timestamp INTEGER, type TEXT)",
    "Meta": "CREATE TABLE Meta (name TEXT,value TEXT,slice TEXT)",
    "process": "CREATE TABLE process "
    "(pid TEXT PRIMARY KEY,process_name TEXT,label TEXT,process_sort_index INTEGER,parentPid TEXT)",
    "thread": "CREATE TABLE thread "
    "(track_id INTEGER PRIMARY KEY,tid TEXT,pid TEXT,thread_name TEXT,thread_sort_index INTEGER)",
    "slice": "CREATE TABLE slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, duration INTEGER, "
    "name TEXT, depth INTEGER, track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER, flag_id TEXT, "
    "pid INTEGER, tid INTEGER)",
}
IMPLICIT = {"sqlite_sequence", "sqlite_autoindex_process_1"}
WITH_FIRST_ROW = ("process", "thread", "slice")
PRAGMAS = {
    "user_version": {0},
    "application_id": {0},
    "page_size": {4096},
    "journal_mode": {"delete", "wal"},
}

NAME = re.compile(r"ms_service_(?P<host>[A-Za-z0-9_.-]+)-(?P<pid>[0-9]+)\.db")
DATE_FOLDER = re.compile(r"(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])-([01][0-9]|2[0-3])[0-5][0-9]")

DAY = 24 * 3600 * 10**9
EARLIEST = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp()) * 10**9

Check = Callable[[Database], Iterator[Violation]]


def trap_05(db: Database) -> Iterator[Violation]:
    """Without ``Meta.slice`` the file is taken for the older layout."""
    if "slice" in db.sql and "Meta" in db.sql and not re.search(r"\bslice\b", db.sql["Meta"]):
        yield Violation(5, db.path, None, "Meta has no column slice")


def trap_06(db: Database) -> Iterator[Violation]:
    """Without Meta the file is ignored."""
    if "Meta" not in db.sql:
        yield Violation(6, db.path, None, "there is no table Meta")


def trap_13(db: Database) -> Iterator[Violation]:
    """Without a host name there is no forward.csv."""
    if "Meta" in db.sql and not any(row["name"] == "hostname" and row["value"] for row in db.meta):
        yield Violation(13, db.path, None, "Meta has no hostname")


def trap_25(db: Database) -> Iterator[Violation]:
    """Start and duration are wall clock times in ns, and agree with the end."""
    latest = time.time_ns() + DAY
    for row in db.slices:
        start, duration, end = (row[name] for name in ("timestamp", "duration", "end_time"))
        if not (isinstance(start, int) and isinstance(duration, int) and isinstance(end, int)):
            yield Violation(25, db.path, row["id"], f"times are no integers: {start!r}, {duration!r}, {end!r}")
        elif not EARLIEST <= start <= latest:
            yield Violation(25, db.path, row["id"], f"timestamp {start} is not between 2020 and tomorrow")
        elif not 0 <= duration < DAY:
            yield Violation(25, db.path, row["id"], f"duration {duration} is not between 0 and one day")
        elif end != start + duration:
            yield Violation(25, db.path, row["id"], f"end_time {end} is not timestamp + duration")


def trap_34(db: Database) -> Iterator[Violation]:
    """Modes of the file and of its two folders, of which the umask may only take away."""
    limits = [(db.path, 0o640)]
    if not any(folder(db)):
        limits += [(db.path.parent, 0o755), (db.path.parent.parent, 0o750)]
    for path, limit in limits:
        mode = stat.S_IMODE(path.stat().st_mode)
        owner = limit & 0o700
        if mode & ~limit or mode & owner != owner:
            yield Violation(34, db.path, None, f"{path.name} has mode {mode:04o}, expected at most {limit:04o}")


def trap_37(db: Database) -> Iterator[Violation]:
    """The name agrees with what is inside; otherwise the file is a copy, or of another process."""
    if not NAME.fullmatch(db.path.name):
        return
    hosts = {str(row["value"]) for row in db.meta if row["name"] == "hostname"}
    # a character that a file name of trap 38 cannot have is written as any other one
    patterns = [re.sub(r"[^A-Za-z0-9_.-]", "?", host) for host in hosts] or ["*"]
    readings = [
        reading
        for reading in _readings(db.path.stem.removeprefix("ms_service_"))
        if any(fnmatchcase(reading[0], pattern) for pattern in patterns)
    ]
    if not readings:
        yield Violation(37, db.path, None, f"the name is not of host {', '.join(sorted(hosts))}")
        return
    pids = {str(row["pid"]) for row in db.slices}
    if not any(pids <= {pid} for _, pid in readings):
        yield Violation(37, db.path, None, f"rows of pid {', '.join(sorted(pids))} in a file of pid {readings[0][1]}")


def _readings(text: str) -> Iterator[tuple[str, str]]:
    """Host and pid of ``<host>-<pid>``, and of ``<host>-<pid>-<n>`` where another process had the first name."""
    host, _, pid = text.rpartition("-")
    yield host, pid
    host, _, pid = host.rpartition("-")
    if host and pid.isdigit():
        yield host, pid


def trap_38(db: Database) -> Iterator[Violation]:
    """A name that the reader's pattern matches."""
    if not NAME.fullmatch(db.path.name):
        yield Violation(38, db.path, None, f"the name does not match {NAME.pattern}")


def folder(db: Database) -> Iterator[Violation]:
    """``<MMDD-HHMM>/Trace_Service/``."""
    parts = db.path.resolve().parts
    if parts[-2] != "Trace_Service" or not DATE_FOLDER.fullmatch(parts[-3]):
        yield Violation("folder", db.path, None, f"lies in {parts[-3]}/{parts[-2]}, not in MMDD-HHMM/Trace_Service")


def integrity(db: Database) -> Iterator[Violation]:
    if db.pragmas["integrity_check"] != "ok":
        yield Violation("integrity", db.path, None, f"integrity_check: {db.pragmas['integrity_check']}")


def schema(db: Database) -> Iterator[Violation]:
    """The CREATE statements to the letter, nothing beside them, default pragmas."""
    expected = {name: sql for name, sql in SCHEMA.items() if name not in WITH_FIRST_ROW or "slice" in db.sql}
    told_elsewhere = {violation.trap for check in (trap_05, trap_06) for violation in check(db)}
    if told_elsewhere:
        del expected["Meta"]
    for name, sql in expected.items():
        if db.sql.get(name) != sql:
            yield Violation("schema", db.path, None, f"table {name} is {db.sql.get(name)!r}")
    for name in db.sql.keys() - expected.keys() - IMPLICIT - ({"Meta"} if told_elsewhere else set()):
        yield Violation("schema", db.path, None, f"unexpected {name}")
    for name, values in PRAGMAS.items():
        if db.pragmas[name] not in values:
            yield Violation("schema", db.path, None, f"{name} is {db.pragmas[name]!r}")
    for name, count in db.counts.items():
        if count:
            yield Violation("schema", db.path, None, f"table {name} has {count} rows, it stays empty")


def meta(db: Database) -> Iterator[Violation]:
    """``ppid`` and ``dpRankId`` beside the host name; every value is text, the third column empty."""
    if not db.meta:
        return
    values = {row["name"]: row["value"] for row in db.meta}
    for name in ("ppid", "dpRankId"):
        if name not in values:
            yield Violation("meta", db.path, None, f"Meta has no {name}")
        elif not re.fullmatch(r"-?[0-9]+", str(values[name])):
            yield Violation("meta", db.path, None, f"Meta {name} is {values[name]!r}, not the text of an integer")
    for row in db.meta:
        if not isinstance(row["value"], str) or row.get("slice", "") != "":
            yield Violation("meta", db.path, None, f"Meta row {row} is not text with an empty third column")


def process(db: Database) -> Iterator[Violation]:
    """Exactly one row, of the process whose rows these are."""
    if not db.slices:
        return
    pid = str(db.slices[0]["pid"])
    expected = {"pid": pid, "process_name": pid, "label": "", "process_sort_index": 0, "parentPid": ""}
    if db.processes != [expected]:
        yield Violation("process", db.path, None, f"process rows are {db.processes}, expected one: {expected}")


def thread(db: Database) -> Iterator[Violation]:
    """One row a thread, named after the domain of its first row."""
    first: dict[int, dict[str, object]] = {}
    for row in db.slices:
        first.setdefault(row["tid"], row)
    expected = {
        tid: {
            "track_id": tid,
            "tid": str(tid),
            "pid": str(row["pid"]),
            "thread_name": f"{row['cat']}({tid})",
            "thread_sort_index": 0,
        }
        for tid, row in first.items()
    }
    if {row["track_id"]: row for row in db.threads} != expected:
        yield Violation("thread", db.path, None, f"thread rows are {db.threads}, expected {[*expected.values()]}")


def columns(db: Database) -> Iterator[Violation]:
    """The columns of ``slice`` that are the same in every row, and the types of the others."""
    for row in db.slices:
        fixed = {"depth": 0, "track_id": row["tid"], "cname": "", "flag_id": ""}
        wrong = {name: row[name] for name, value in fixed.items() if row[name] != value}
        wrong |= {name: row[name] for name in ("name", "cat") if not isinstance(row[name], str)}
        wrong |= {name: row[name] for name in ("pid", "tid") if not isinstance(row[name], int)}
        if wrong:
            yield Violation("columns", db.path, row["id"], f"unexpected values {wrong}")


CHECKS: tuple[Check, ...] = (
    trap_05, trap_06, trap_13, trap_25, trap_34, trap_37, trap_38,
    folder, integrity, schema, meta, process, thread, columns,
)  # fmt: skip


def strays(path: Path, complete: bool) -> Iterator[Violation]:
    """Files beside the databases: backups under a service name, and what an unfinished writer leaves."""
    for file in sorted(path.rglob("ms_service_*")):
        if file.name.endswith((".db-journal", ".db-wal", ".db-shm")):
            if complete:
                yield Violation("integrity", file, None, "left behind by a writer that did not close its file")
        elif file.is_file() and file.suffix != ".db":
            yield Violation(37, file, None, "a service name that is no database")
