"""The drain: one thread that takes records from the queue and hands them to the sinks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)

#: Seconds between two rounds when nobody wakes the drain.
INTERVAL = 0.1
#: Seconds for the thread to come back from a sink that has waited until the very end of its time.
MARGIN = 0.2
#: Records that are worked on before other threads get their turn; more when the queue is deep.
SLICE = 64


class Sink(Protocol):
    """A consumer of records. One thread calls it: the drain's, and for ``shutdown`` another when that has ended."""

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


class _Flush:
    """One call of ``Drain.flush``: until when it waits, and what came of it."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.complete = False
        self.ended = threading.Event()


class Drain:
    """Thread, wake-ups and slices; knows nothing of what is in a record."""

    def __init__(self, queue: deque[Record]) -> None:
        self._queue = queue
        self._sinks: list[Sink] = []
        #: Records that a sink failed to take, by its type.
        self.lost: dict[str, int] = {}
        self._failed: set[tuple[str, str]] = set()
        self._running = False
        self._reset()

    def _reset(self) -> None:
        self._event = threading.Event()
        self._export = False
        self._flushes: deque[_Flush] = deque()
        #: The sink that the thread is in, and the records that it is taking.
        self._busy: Sink | None = None
        self._in_hand = 0
        self._thread: threading.Thread | None = None

    def start(self, sinks: list[Sink]) -> None:
        """Start the thread; when it runs already, give it other sinks."""
        self._sinks = sinks
        self._running = True
        if self._thread is None or not self._thread.is_alive():
            self._start_thread()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ascend-otel-drain", daemon=True)
        self._thread.start()

    def wake(self, export: bool) -> None:
        if export:
            self._export = True
        self._event.set()

    def _run(self) -> None:
        while self._running:
            if len(self._queue) < SLICE:
                self._event.wait(INTERVAL)
            self._event.clear()
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            self._round()
            for flush in flushes:
                results = [self._call(sink, "flush", _left(flush.deadline)) for sink in self._sinks]
                flush.complete = all(results)
                flush.ended.set()

    def _round(self) -> None:
        export, self._export = self._export, False
        popleft = self._queue.popleft
        depth = len(self._queue)  # what comes in meanwhile waits for the next round, else this one might never end
        while depth:
            records = [popleft() for _ in range(min(depth, max(SLICE, depth // 8)))]
            depth -= len(records)
            self._write(records)
            time.sleep(0)
            # less than that is there when a shutdown gave up on a sink and emptied the queue
            depth = min(depth, len(self._queue))
        for sink in self._sinks:
            self._call(sink, "commit")
            if export:
                self._call(sink, "request_flush")

    def _write(self, records: Sequence[Record]) -> None:
        self._in_hand = len(records)
        for sink in self._sinks:
            if self._call(sink, "write", records) is False:
                self._lose(sink, len(records))
        self._in_hand = 0

    def _lose(self, sink: Sink, records: int) -> None:
        name = type(sink).__name__
        self.lost[name] = self.lost.get(name, 0) + records

    def _call(self, sink: Sink, method: str, *args: object) -> Any:
        """The method's result; False when it raised."""
        self._busy = sink
        try:
            return getattr(sink, method)(*args)
        except Exception as error:  # noqa: BLE001 - a broken sink must not end the others
            self._warn(type(sink).__name__, method, error)
            return False
        finally:
            self._busy = None

    def _warn(self, name: str, method: str, error: Exception) -> None:
        if (name, method) not in self._failed:
            self._failed.add((name, method))
            _logger.warning("%s.%s failed; its data are lost, serving goes on", name, method, exc_info=error)

    def flush(self, timeout: float) -> bool:
        """Have everything drained and flushed by the thread, which drains nothing else meanwhile.

        Args:
            timeout: seconds that the caller waits at most, also for a sink that hangs.

        Returns:
            Whether all sinks have everything out.
        """
        if not self._running:
            return not self._queue
        if threading.current_thread() is self._thread:
            return False  # a sink, or what it calls, must not wait for itself
        flush = _Flush(time.monotonic() + timeout)
        self._flushes.append(flush)
        self._event.set()
        return flush.ended.wait(timeout) and flush.complete

    def shutdown(self, timeout: float) -> None:
        """Flush, end the thread and the sinks; one that hangs in a call is left as it is."""
        if not self._running:
            return
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        self._running = False
        self._event.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_left(deadline) + MARGIN)
        hanging = self._busy
        if hanging is not None and self._in_hand:
            self._lose(hanging, self._in_hand)
        for sink in self._sinks:
            if sink is not hanging:
                self._call(sink, "shutdown", _left(deadline))
        self._sinks = []

    def after_fork(self) -> None:
        """In the child: the thread and what it was doing are the parent's."""
        self._reset()
        self.lost.clear()
        if self._running:
            for sink in self._sinks:
                self._call(sink, "after_fork")
            self._start_thread()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
