"""``ascend_service_profiler_<host>-<pid>.db``: the native file of MSPTI, as ms_service_profiler 26 writes it.

Source: ``cpp/include/msServiceProfiler/DBExecutor`` of msserviceprofiler 9582f434.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ascend_opentelemetry.npu.mspti._library import Kind
from ascend_opentelemetry.npu.mspti._records import Names, Records

_logger = logging.getLogger(__name__)

_TABLES = (
    "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT)",
    "CREATE TABLE IF NOT EXISTS flow (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_id TEXT, name TEXT, cat TEXT, track_id INTEGER, timestamp INTEGER, type TEXT)",
    "CREATE TABLE IF NOT EXISTS Api (name TEXT,start INTEGER,end INTEGER,processId INTEGER,threadId INTEGER,correlationId INTEGER)",
    "CREATE TABLE IF NOT EXISTS Kernel (type TEXT,name TEXT,start INTEGER,end INTEGER,deviceId INTEGER,streamId INTEGER,correlationId INTEGER)",
    "CREATE TABLE IF NOT EXISTS Communication (name TEXT,start INTEGER,end INTEGER,deviceId INTEGER,streamId INTEGER,dataCount INTEGER,dataType INTEGER,commGroupName TEXT,correlationId INTEGER)",
    "CREATE TABLE IF NOT EXISTS Mstx (pid INTEGER,tid INTEGER,event_type TEXT,timestamp INTEGER,mark_id INTEGER,domain TEXT,message TEXT)",
)  # fmt: skip
#: Rows of a transaction, after which others get their turn.
_ROWS = 5000
_INSERT = {
    Kind.API: "INSERT INTO Api VALUES (?,?,?,?,?,?)",
    Kind.KERNEL: "INSERT INTO Kernel VALUES (?,?,?,?,?,?,?)",
    Kind.COMMUNICATION: "INSERT INTO Communication VALUES (?,?,?,?,?,?,?,?,?)",
    Kind.MARKER: "INSERT INTO Mstx VALUES (?,?,?,?,?,?,?)",
}
_Rows: TypeAlias = list[tuple[Any, ...]]
_BUSY_SECONDS = 0.5
#: ``MSPTI_ACTIVITY_SOURCE_KIND_HOST``.
_HOST = 0

# A fork while SQLite works would leave its mutexes locked in the child.
_forking = threading.Lock()
#: Connections of the parent: a child must not even close them.
_inherited: list[sqlite3.Connection | None] = []
_made: set[Path] = set()
_held = False


def _before_fork() -> None:
    global _held
    _held = _forking.acquire(timeout=1.0)


def _after_fork() -> None:
    global _forking
    _forking = threading.Lock()
    _made.clear()


def _after_fork_in_parent() -> None:
    if _held:
        _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)


class MsptiDatabase:
    """Writes the rows of one window; made with the first of them, appended to when this process has made it before.

    Never raises: after an error it warns once, and counts what it drops; while another writer locks the file too.

    Args:
        folder: the date folder of the service.
        names: texts that the records point to.
        api_filter: parts of names of which an API has one; empty: all.
        kernel_filter: the same of kernels.
        opened_ns: records that began before, ns since 1970, are left out.
    """

    def __init__(
        self,
        folder: Path,
        names: Names,
        api_filter: Sequence[str] = (),
        kernel_filter: Sequence[str] = (),
        opened_ns: int = 0,
    ) -> None:
        self.path = _wanted(folder)
        #: Rows written, and dropped because of an error.
        self.written = self.dropped = 0
        #: Of the last error.
        self.problem = ""
        self._names = names
        self._filters = {Kind.API: tuple(api_filter), Kind.KERNEL: tuple(kernel_filter)}
        self._opened_ns = opened_ns
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()

    def write(self, records: dict[Kind, Records], closed_ns: int | None = None) -> None:
        """Add the rows of a buffer.

        Args:
            records: by kind.
            closed_ns: records that begin later, ns since 1970, are left out.
        """
        for kind, rows in (
            (Kind.API, self._apis), (Kind.KERNEL, self._kernels), (Kind.COMMUNICATION, self._collectives),
            (Kind.MARKER, self._markers),
        ):  # fmt: skip
            found = records.get(kind)
            if found is None or not len(found):
                continue
            time_ = found["time" if kind is Kind.MARKER else "start"]
            inside = time_ >= self._opened_ns
            if closed_ns is not None:
                inside &= time_ <= closed_ns
            self._insert(_INSERT[kind], rows, found[inside])

    def close(self) -> None:
        """Complete the file."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pid != os.getpid():
            _inherited.append(connection)
            return
        with _forking:
            try:
                connection.close()
            except sqlite3.Error as error:
                self._fail(error, 0)

    def _insert(self, statement: str, rows: Callable[[Records], _Rows], records: Records) -> None:
        for begin in range(0, len(records), _ROWS):
            part = records[begin : begin + _ROWS]
            values = rows(part)
            if self.problem or not values:
                self.dropped += len(values)
                continue
            with _forking:
                try:
                    self._commit(statement, values)
                    self.written += len(values)
                except (sqlite3.Error, OSError, OverflowError) as error:
                    self._fail(error, len(values))
            time.sleep(0)

    def _commit(self, statement: str, values: _Rows) -> None:
        if self._connection is None:
            self._connection = self._open()
        with self._connection:
            self._connection.executemany(statement, values)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(0o750, parents=True, exist_ok=True)
        self.path = _claim(self.path)
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        for table in _TABLES:
            connection.execute(table)
        return connection

    def _fail(self, error: Exception, rows: int) -> None:
        self.dropped += rows
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return
        if not self.problem:
            self.problem = f"{self.path}: {error}"
            _logger.warning(
                '%s: cannot be written: %s; operators are left out of the files until that is mended and "enable" is set '
                "to 0 and 1 again",
                self.path, error,
            )  # fmt: skip

    def _texts(self, pointers: npt.NDArray[np.uint64]) -> list[str]:
        numbers = self._names.of(pointers)
        return [self._names.texts[number] for number in numbers.tolist()]

    def _named(self, kind: Kind, records: Records) -> tuple[Records, list[str]]:
        """The records that the filter lets through, and their names."""
        names = self._texts(records["name"])
        parts = self._filters[kind]
        if not parts:
            return records, names
        chosen = {name: any(part in name for part in parts) for name in set(names)}
        return records[[chosen[name] for name in names]], [name for name in names if chosen[name]]

    def _apis(self, records: Records) -> _Rows:
        found, names = self._named(Kind.API, records)
        return list(zip(names, *_columns(found, "start", "end", "process", "thread", "correlation"), strict=True))

    def _kernels(self, records: Records) -> _Rows:
        found, names = self._named(Kind.KERNEL, records)
        numbers = _columns(found, "start", "end", "device", "stream", "correlation")
        return list(zip(self._texts(found["type"]), names, *numbers, strict=True))

    def _collectives(self, records: Records) -> _Rows:
        numbers = _columns(records, "start", "end", "device", "stream", "count", "data_type")
        groups = self._texts(records["group"])
        ids = records["correlation"].astype(np.int64).tolist()
        return list(zip(self._texts(records["name"]), *numbers, groups, ids, strict=True))

    def _markers(self, records: Records) -> _Rows:
        host = records["source"] == _HOST
        numbers = _columns(records, "flag", "time", "id", "source")
        process, thread = (
            np.where(host, records[name].astype(np.int64), -1).tolist() for name in ("process", "thread")
        )
        return list(zip(process, thread, *numbers, self._texts(records["name"]), strict=True))


def _columns(records: Records, *names: str) -> Iterator[list[int]]:
    # SQLite's integers have a sign
    return (records[name].astype(np.int64).tolist() for name in names)


def _wanted(folder: Path) -> Path:
    host = re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())
    return folder / "Trace_Service" / f"ascend_service_profiler_{host}-{os.getpid()}.db"


def _claim(wanted: Path) -> Path:
    """A file that this process has made, or makes, for the name.

    One that exists already is of a process with the same host name and pid, in another container or before a restart,
    and is not touched: the analyzer takes the number after the last ``-`` for the pid, so it is the host that differs.

    Raises:
        OSError: it cannot be made.
    """
    number = 0
    start, _, pid = wanted.stem.rpartition("-")
    while True:
        path = wanted if not number else wanted.with_name(f"{start}.{number}-{pid}.db")
        if path in _made and path.exists():
            return path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
        except FileExistsError:
            number += 1
            continue
        _made.add(path)
        return path
