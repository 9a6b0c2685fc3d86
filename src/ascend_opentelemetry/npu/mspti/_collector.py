"""What the thread of the MSPTI source does: subscribe, read, hand on, unsubscribe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from ascend_opentelemetry.npu import _asked_by, _events
from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._database import MsptiDatabase
from ascend_opentelemetry.npu.mspti._library import Kind, Library, LibraryError, load, preload_line
from ascend_opentelemetry.npu.mspti._operators import MsptiOperators
from ascend_opentelemetry.npu.mspti._records import Names, Reader, Records
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.recorder import SourceWindow, forwards

_logger = logging.getLogger(__name__)

#: Seconds between two flushes, and between two tries to subscribe.
FLUSH_SECONDS = 1.0
RETRY_SECONDS = 30.0
_IDLE_SECONDS = 3600.0
_DRAIN_SECONDS = 2.0


class MsptiCollector:
    """Holds the library from the first subscription on; used by one thread.

    Args:
        wake: set when the library has handed over a buffer.
        windows: get the operators.
    """

    def __init__(self, wake: threading.Event, windows: OperatorWindows | None = None) -> None:
        self._library: Library | None = None
        self._buffers = Buffers(wake)
        self._reader: Reader | None = None
        self._session: MsptiSession | None = None
        self._names = Names()
        self._operators = MsptiOperators(windows or OperatorWindows(), self._names)
        self._window: SourceWindow | None = None
        self._database: MsptiDatabase | None = None
        self._rows = self._dropped_rows = 0
        self._problem = ""
        self._said: set[str] = set()
        self._refused: list[str] = []
        self._flush_at = self._retry_at = 0.0

    def turn(self, wanted: bool, window: SourceWindow | None, closed_ns: int | None, *, flush: bool = False) -> float:
        """Do what is to be done now.

        Args:
            wanted: whether to collect.
            window: to write a file for, or None.
            closed_ns: when the window before closed, ns since 1970.
            flush: hand on everything now.

        Returns:
            Seconds until the next turn, unless a buffer comes earlier.
        """
        session = self._session or self._subscribe(wanted, window)
        if session is None:
            self._window = window
            return max(self._retry_at - time.monotonic(), 0.05) if wanted else _IDLE_SECONDS
        if not wanted:
            self.stop(closed_ns)
            return _IDLE_SECONDS
        switches = window is not self._window
        ended = self._begin_file(window) if switches else None
        if switches or flush or time.monotonic() >= self._flush_at:
            self._flush_at = time.monotonic() + FLUSH_SECONDS
            session.flush()
        self._take(session.read(), ended, closed_ns)
        self._complete(ended)
        self._operators.settle(time.time_ns(), all_=flush)
        if flush:  # a worker may be killed right after
            _events.flush()
        return max(self._flush_at - time.monotonic(), 0.01)

    def _subscribe(self, wanted: bool, window: SourceWindow | None) -> MsptiSession | None:
        if not wanted or (time.monotonic() < self._retry_at and window is self._window):
            return None
        self._retry_at = time.monotonic() + RETRY_SECONDS
        try:
            if self._library is None or self._reader is None:
                self._library = load()
                self._reader = Reader(self._library)
            self._session = MsptiSession(self._library, self._buffers, self._reader)
        except LibraryError as error:
            self._problem = str(error)
            self._say(window, f"operators are not collected: {error}; tried again every {RETRY_SECONDS:.0f} s")
            return None
        self._problem = ""
        self._retry_at = 0.0
        self._refused = [kind.name for kind in self._session.refused]
        if self._refused:
            kinds = ", ".join(self._refused)
            line = preload_line(self._library.path)
            self._say(window, f"MSPTI records no {kinds} here; for those, run before the service starts: {line}")
        if self._session.results[Kind.EXTERNAL_CORRELATION] == 0:
            forwards.watcher = self._library
        self._begin_file(window)
        return self._session

    def _say(self, window: SourceWindow | None, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            asker = _asked_by.variable("mspti") if window is None else _asked_by.config(window.config.acl_task_time)
            _logger.warning("%s: %s", asker, text)

    def _take(self, buffers: Iterable[dict[Kind, Records]], ended: MsptiDatabase | None, closed_ns: int | None) -> None:
        """A buffer may hold records of two windows: of the one that ``ended`` at ``closed_ns``, and of the next."""
        for records in buffers:
            self._operators.take(records, time.time_ns())
            if ended is not None:
                ended.write(records, closed_ns)
            if self._database is not None:
                self._database.write(records)

    def _begin_file(self, window: SourceWindow | None) -> MsptiDatabase | None:
        """Write to the file of this window from now on; the one before, to be completed."""
        self._window = window
        before, self._database = self._database, None
        if window is not None:
            config = window.config
            filters = config.api_filter, config.kernel_filter
            self._database = MsptiDatabase(window.folder, self._names, *filters, window.opened_ns)
        return before

    def _complete(self, database: MsptiDatabase | None) -> None:
        if database is not None:
            database.close()
            self._rows += database.written
            self._dropped_rows += database.dropped

    def stop(self, closed_ns: int | None, seconds: float = _DRAIN_SECONDS) -> None:
        """Take the last records, let go of the subscription and complete the file.

        Args:
            closed_ns: records that begin later, ns since 1970, are not written to the file.
            seconds: to wait at most for what the device has.
        """
        if forwards.watcher is self._library:
            forwards.watcher = None
        ended = self._begin_file(None)
        try:
            if self._session is not None:
                self._take(self._session.end(seconds), ended, closed_ns)
                self._operators.settle(time.time_ns(), all_=True)
        finally:
            self._complete(ended)
        self._session = None

    def let_go(self) -> None:
        """After an error: leave the subscription to others."""
        session, self._session = self._session, None
        if forwards.watcher is self._library:
            forwards.watcher = None
        if session is not None:
            session.let_go()

    def describe(self) -> Mapping[str, object]:
        """Where the library is, whether it is in use, and what it gave."""
        found = {"found": self._library.path} if self._library is not None else {}
        state = {"reason": self._problem} if self._problem else {"usable": True}
        refused = {"needs_preload": self._refused} if self._refused else {}
        database = self._database
        lost = {
            "no_buffer": self._buffers.refused,
            "window": self._operators.windows.left_out,
            "unreadable_bytes": self._reader.unreadable if self._reader is not None else 0,
            "rows": self._dropped_rows + (database.dropped if database is not None else 0),
        }
        return {
            **found,
            **state,
            **refused,
            "subscribed": self._session is not None,
            "records": dict(self._operators.taken),
            "windows": self._operators.windows.events,
            "waiting": self._operators.waiting,
            "rows": self._rows + (database.written if database is not None else 0),
            "lost": {reason: count for reason, count in lost.items() if count},
        }
