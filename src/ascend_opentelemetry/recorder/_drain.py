"""The drain: one thread that takes records from the queue and hands them to the sinks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)

#: Seconds between two rounds when nobody wakes the drain.
INTERVAL = 0.1
#: Records that are worked on before other threads get their turn; more when the queue is deep.
SLICE = 64


class Sink(Protocol):
    """A consumer of records; all methods but ``flush`` and ``shutdown`` run on the drain thread."""

    def write(self, records: Sequence[Record]) -> None:
        """Take a slice of records, in order per thread."""
        ...

    def commit(self) -> None:
        """End a round; the sink's clock tick."""
        ...

    def request_flush(self) -> None:
        """Send what is held back now, without waiting for it."""
        ...

    def flush(self, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until everything written is out."""
        ...

    def shutdown(self, timeout: float) -> None:
        """Flush and let go of files, connections and threads."""
        ...

    def after_fork(self) -> None:
        """In a forked child: forget what belongs to the parent."""
        ...


class Drain:
    """Thread, wake-ups and slices; knows nothing of what is in a record."""

    def __init__(self, queue: deque[Record]) -> None:
        self._queue = queue
        self._sinks: list[Sink] = []
        self._failed: set[tuple[str, str]] = set()
        self._running = False
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._event = threading.Event()
        self._export = False
        self._thread: threading.Thread | None = None

    def start(self, sinks: list[Sink]) -> None:
        self._sinks = sinks
        self._running = True
        self._start_thread()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ascend-otel-drain", daemon=True)
        self._thread.start()

    def wake(self, export: bool) -> None:
        if export:
            self._export = True
        self._event.set()

    def _run(self) -> None:
        event = self._event
        while self._running and event is self._event:
            event.wait(INTERVAL)
            event.clear()
            with self._lock:
                self._round()

    def _round(self) -> None:
        export, self._export = self._export, False
        queue = self._queue
        popleft = queue.popleft
        while depth := len(queue):
            records = [popleft() for _ in range(min(depth, max(SLICE, depth // 8)))]
            for sink in self._sinks:
                self._call(sink, "write", records)
            time.sleep(0)
        for sink in self._sinks:
            self._call(sink, "commit")
            if export:
                self._call(sink, "request_flush")

    def _call(self, sink: Sink, method: str, *args: object) -> None:
        try:
            getattr(sink, method)(*args)
        except Exception:  # noqa: BLE001 - a broken sink must not end the others
            key = (type(sink).__name__, method)
            if key not in self._failed:
                self._failed.add(key)
                _logger.warning("%s.%s failed; its data are lost, serving goes on", *key, exc_info=True)

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        # the drain thread may sit in a slow disk write: the caller must not wait for it longer than asked
        if not self._lock.acquire(timeout=timeout):
            return False
        try:
            self._export = True
            self._round()
        finally:
            self._lock.release()
        return all([sink.flush(max(0.0, deadline - time.monotonic())) for sink in self._sinks])

    def shutdown(self, timeout: float) -> None:
        if not self._running:
            return
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._running = False
        self._event.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        for sink in self._sinks:
            self._call(sink, "shutdown", max(0.0, deadline - time.monotonic()))
        self._sinks = []

    def after_fork(self) -> None:
        self._reset()
        if self._running:
            for sink in self._sinks:
                self._call(sink, "after_fork")
            self._start_thread()
