"""The thread on which records pass through span processors of others, and the bounded queue before it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ascend_opentelemetry.otlp._late_span import LateSpans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

    from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)

#: Records that may wait; as many as a queue of the SDK's batch processor holds.
CAPACITY = 2048


class _Leading(threading.local):
    now = False


_leading = _Leading()


def is_leading() -> bool:
    """Whether a processor of others is asking: it must not wait for what waits for it."""
    return _leading.now


class Leader:
    """Leads records through processors, whatever time they take: neither the drain nor a native file waits for them.

    Args:
        provider: whose spans they become.
        take: called with each record and its span afterwards, on the leader's thread.
    """

    def __init__(self, provider: TracerProvider, take: Callable[[Record, ReadableSpan], object] | None = None) -> None:
        self._late = LateSpans(provider)
        self._take = take
        self._reset()

    def _reset(self) -> None:
        #: Lost spans by reason: ``queue_full``, ``failed``, ``shutdown``.
        self.dropped: dict[str, int] = {}
        self._changed = threading.Condition()
        self._queue: deque[tuple[Record, tuple[SpanProcessor, ...]]] = deque()
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, record: Record, processors: tuple[SpanProcessor, ...]) -> None:
        """Queue a record with the processors of now; it is dropped and counted when too many wait."""
        with self._changed:
            if self._closed or len(self._queue) >= CAPACITY:
                self._drop("shutdown" if self._closed else "queue_full", "span processors are slower than vLLM")
                return
            self._queue.append((record, processors))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ascend-otel-leader", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until no record waits; False if ``timeout`` seconds were too short."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float) -> None:
        """Flush for at most ``timeout`` seconds; what is left is dropped and counted."""
        self.flush(timeout)
        with self._changed:
            self._closed = True
            left = len(self._queue) + self._busy
            self._queue.clear()
            if left:
                self.dropped["shutdown"] = self.dropped.get("shutdown", 0) + left
            self._changed.notify_all()

    def after_fork(self) -> None:
        """Start anew: what waits is the parent's."""
        self._reset()

    def _drop(self, reason: str, why: str, error: Exception | None = None) -> None:
        if reason not in self.dropped:
            _logger.warning("spans are dropped and counted: %s", why, exc_info=error)
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _run(self) -> None:
        _leading.now = True
        changed = self._changed
        while True:
            with changed:
                self._busy = False
                changed.notify_all()
                changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                record, processors = self._queue.popleft()
                self._busy = True
            try:
                span = self._late.lead(record, processors)
            except Exception as error:  # noqa: BLE001 - one bad record must not cost the others
                with changed:
                    self._drop("failed", f"{record[0].name} cannot be made a span", error)
                continue
            if self._take is not None and not self._closed:
                self._take(record, span)
