"""The SQLite file of one process."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from ascend_opentelemetry.native._own import OwnFile, claim

_logger = logging.getLogger(__name__)

#: ``timestamp, duration, name, track_id, cat, args, end_time, tid`` of a row of ``slice``.
SliceRow: TypeAlias = tuple[int, int, str, int, str, str, int, int]

#: In the order in which ``ms_service_profiler`` makes them; SQLite keeps this very text.
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT)",
    "CREATE TABLE IF NOT EXISTS flow (id INTEGER PRIMARY KEY AUTOINCREMENT, flow_id TEXT, name TEXT, cat TEXT, track_id INTEGER, timestamp INTEGER, type TEXT)",
    "CREATE TABLE IF NOT EXISTS Meta (name TEXT,value TEXT,slice TEXT)",
    "CREATE TABLE IF NOT EXISTS process (pid TEXT PRIMARY KEY,process_name TEXT,label TEXT,process_sort_index INTEGER,parentPid TEXT)",
    "CREATE TABLE IF NOT EXISTS thread (track_id INTEGER PRIMARY KEY,tid TEXT,pid TEXT,thread_name TEXT,thread_sort_index INTEGER)",
    "CREATE TABLE IF NOT EXISTS slice (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER, duration INTEGER, name TEXT, depth INTEGER, track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER, flag_id TEXT, pid INTEGER, tid INTEGER)",
)

_PROCESS = "INSERT OR IGNORE INTO process(pid,process_name,label,process_sort_index,parentPid) VALUES(?,?,'',0,'')"
_THREAD = "INSERT OR IGNORE INTO thread(track_id,tid,pid,thread_name,thread_sort_index) VALUES(?,?,?,?,0)"
_META = "INSERT INTO Meta(name,value,slice) VALUES(?,?,'')"
_SLICE = "INSERT INTO slice(timestamp,duration,name,depth,track_id,cat,args,cname,end_time,flag_id,pid,tid) VALUES"
_VALUES = "(?,?,?,0,?,?,?,'',?,'',{pid},?)"
#: Rows of one statement: SQLite lets go of the GIL for each, and a busy engine gives it back only when it is asked.
_TOGETHER = 16

#: Rows kept while a reader locks the file.
CAPACITY = 65_536
_BUSY_SECONDS = 0.05
_CLOSING_TRIES = 10
_UNFIT = (sqlite3.InterfaceError, sqlite3.ProgrammingError, UnicodeError, OverflowError, TypeError)

# A fork while SQLite works would leave its mutexes locked in the child.
_forking = threading.RLock()
#: Connections of the parent: a child must not even close them.
_inherited: list[sqlite3.Connection] = []


def storable(text: str) -> str:
    """The text without lone surrogates, which SQLite refuses."""
    return text.encode(errors="replace").decode()


def _before_fork() -> None:
    _forking.acquire(timeout=1.0)


def _after_fork_in_parent() -> None:
    try:
        _forking.release()
    except RuntimeError:  # it could not be had in time
        pass


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _fits(connection: sqlite3.Connection, row: SliceRow) -> bool:
    try:
        connection.execute("SELECT ?,?,?,?,?,?,?,?", row)
    except (*_UNFIT, sqlite3.Error):
        return False
    return True


class NativeWriter:
    """Writes one ``ms_service_*.db``; opens it with the first row or meta entry, one transaction a commit.

    Never raises: after an error of disk or folder it warns once, drops and counts its rows. When the file is removed or
    moved away, it goes on in a new one.

    Args:
        path: absolute path that the file should have; see ``claim``.
        meta: rows of ``Meta`` besides ``hostname`` and ``ppid``; later additions are noticed.
        dropped: lost rows by reason.
    """

    def __init__(self, path: Path, meta: Mapping[str, str], dropped: dict[str, int]) -> None:
        #: The name wanted, and once it is open the one it has.
        self.path = path
        #: Rows for the next commit.
        self.rows: list[SliceRow] = []
        #: Threads that have their row.
        self.threads: set[int] = set()
        #: Rows in the file, and rows dropped for want of a disk or behind a lock.
        self.written = self.lost = 0
        self.failed = False
        self._wanted = path
        self._own: OwnFile | None = None
        self._pid = os.getpid()
        values = _VALUES.format(pid=self._pid)
        self._slice = _SLICE + values
        self._slices = _SLICE + ",".join([values] * _TOGETHER)
        self._meta = meta
        self._meta_written: dict[str, str] = {}
        self._thread_rows: list[tuple[int, str, str, str]] = []
        self._threads_written = 0
        self._dropped = dropped
        self._connection: sqlite3.Connection | None = None

    def add_thread(self, tid: int, domain: str) -> None:
        """Name a thread after the domain of its first row."""
        self.threads.add(tid)
        self._thread_rows.append((tid, str(tid), str(self._pid), storable(f"{domain}({tid})")))

    def commit(self) -> bool:
        """Write what was added.

        Returns:
            False while rows wait because a reader locks the file.
        """
        if self.failed:
            self._drop("disk")
            return True
        if not self.rows and not self._new_meta():
            return True
        with _forking:
            try:
                self._write()
            except (sqlite3.Error, OSError) as error:
                self._roll_back()
                if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                    if len(self.rows) > CAPACITY:
                        self._drop("locked")
                    return False
                self._fail(error)
        return True

    def _new_meta(self) -> list[tuple[str, str]]:
        # of a copy, as other threads set meta entries
        return [item for item in tuple(self._meta.items()) if self._meta_written.get(item[0]) != item[1]]

    def _write(self) -> None:
        try:
            self._transaction()
        except sqlite3.Error:
            if self._own is None or self._own.is_there():
                raise
            _logger.warning("%s: was removed or moved while in use; rows go on in a new file", self.path)
            self._roll_back()
            self._close()
            self._meta_written.clear()
            self._threads_written = 0
            self._transaction()

    def _transaction(self) -> None:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        meta = self._new_meta()
        connection.executemany(_META, meta)
        connection.executemany(_THREAD, self._thread_rows[self._threads_written :])
        written = len(self.rows)
        together = written - written % _TOGETHER
        try:
            for first in range(0, together, _TOGETHER):
                connection.execute(self._slices, list(chain.from_iterable(self.rows[first : first + _TOGETHER])))
            connection.executemany(self._slice, self.rows[together:])
        except _UNFIT as error:
            connection.execute("ROLLBACK")
            self._leave_out_unfit(connection, error)
            self._transaction()
            return
        connection.execute("COMMIT")
        self.written += written
        self.rows.clear()
        self._threads_written = len(self._thread_rows)
        self._meta_written.update(meta)

    def _open(self) -> sqlite3.Connection:
        self._own = claim(self._wanted)
        self.path = self._own.path
        # mode=rw: a file removed meanwhile is not made anew, as it might be another process's then
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(_PROCESS, (str(self._pid), str(self._pid)))
            connection.executemany(_META, (("hostname", storable(socket.gethostname())), ("ppid", str(os.getppid()))))
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _leave_out_unfit(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Keep the rows that SQLite can store."""
        fit = [row for row in self.rows if _fits(connection, row)]
        if not self._dropped.get("unfit"):
            _logger.warning("%s: rows that SQLite cannot store are left out: %s", self.path, error)
        self._dropped["unfit"] = self._dropped.get("unfit", 0) + len(self.rows) - len(fit)
        self.rows[:] = fit

    def _drop(self, reason: str) -> None:
        if self.rows:
            self._dropped[reason] = self._dropped.get(reason, 0) + len(self.rows)
            self.lost += len(self.rows)
            self.rows.clear()

    def _fail(self, error: Exception) -> None:
        self.failed = True
        _logger.warning(
            '%s: cannot be written: %s; rows are dropped until that is mended and "enable" is set to 0 and 1 again',
            self.path,
            error,
        )
        self._drop("disk")
        self._close()

    def _roll_back(self) -> None:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        own, self._own = self._own, None
        if own is not None:
            own.leave()
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass

    def close(self) -> None:
        """Commit and close: the file is complete."""
        for _ in range(_CLOSING_TRIES):
            if self.commit():
                break
        self._drop("locked")
        with _forking:
            self._close()

    def abandon(self) -> None:
        """Forget the file of the parent without touching it."""
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None
        self._own = None
        self.rows.clear()
