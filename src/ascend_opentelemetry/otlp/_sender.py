"""The thread that sends finished requests, and the bounded queue before it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ascend_opentelemetry.otlp._report import ExportReport

if TYPE_CHECKING:
    from ascend_opentelemetry.otlp._transport import Outcome, Transport

#: Seconds that an endpoint whose last attempt failed is waited for.
_GRACE = 0.3


class Sender:
    """Sends payloads one after the other on a daemon thread, which starts with the first one.

    Whoever waits for an endpoint that fails, without saying when to come again, waits for `_GRACE` seconds only.

    Args:
        transport: does the sending.
        max_queue: spans that may wait; a payload that does not fit is dropped.
        max_batch: spans that a request may hold.
    """

    def __init__(self, transport: Transport, max_queue: int, max_batch: int) -> None:
        self._transport = transport
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._reset()

    def _reset(self) -> None:
        #: Spans that the endpoint took, and those that were lost, by reason.
        self.exported = 0
        self.dropped: dict[str, int] = {}
        self._changed = threading.Condition()
        self._queue: deque[tuple[Any, int]] = deque()
        self._waiting = 0
        self._sending = 0
        self._busy = False
        #: Of ``queue_full``: what the report knows of.
        self._full = 0
        #: No more retries: the process ends.
        self._last = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._report = ExportReport(self._transport.endpoint)

    @property
    def endpoint(self) -> str:
        return self._transport.endpoint

    @property
    def protocol(self) -> str:
        return self._transport.protocol

    @property
    def last_error(self) -> str:
        # an exporter that is not OTLP's does not say why
        return self._transport.outcome.cause or ("not sent" if self._transport.failing else "")

    def put(self, payload: Any, spans: int, timeout: float = 0.0) -> None:
        """Queue a payload, or drop it where ``timeout`` seconds bring no room for it."""
        with self._changed:
            fits = self._wait(lambda: self._closed or self._waiting + spans <= self._max_queue, timeout)
            if self._closed:
                self._drop("already_shutdown", spans)
            elif not fits:
                self._drop("queue_full", spans)
            else:
                self._queue.append((payload, spans))
                self._waiting += spans
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="ascend-otlp-sender", daemon=True)
                    self._thread.start()
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all payloads are sent or lost; False if ``timeout`` seconds were too short."""
        with self._changed:
            return self._wait(self._idle, timeout)

    def close(self, timeout: float) -> None:
        """Send what is queued for at most ``timeout`` seconds, drop the rest, shut the exporter down.

        An endpoint that fails gets one more attempt a request.
        """
        with self._changed:
            if self._transport.failing:
                self._last = True
                self._transport.end_retries()
            self._wait(self._idle, timeout)
            self._closed = True
            lost = self._waiting + self._sending
            self._drop("shutdown", lost)
            self._queue.clear()
            self._waiting = self._sending = 0
            self._changed.notify_all()
        if lost and not self._report.warned:
            cause = self._transport.outcome.cause or "no answer"
            self._report.lost(cause, f"{lost} spans waited for it when the process ended", lost)
        self._transport.shutdown()

    def after_fork(self) -> None:
        """Start anew: the queue, its thread and what is in flight are the parent's."""
        self._transport.after_fork()
        self._reset()

    def _wait(self, done: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self._changed.wait_for(done, min(_GRACE, max(0.0, deadline - time.monotonic()))):
            if self._transport.failing or time.monotonic() >= deadline:
                return False
        return True

    def _idle(self) -> bool:
        return self._closed or (not self._queue and not self._busy)

    def _drop(self, reason: str, spans: int) -> None:
        if spans:
            self.dropped[reason] = self.dropped.get(reason, 0) + spans

    def _run(self) -> None:
        with suppress_instrumentation():
            while self._send_next():
                pass

    def _send_next(self) -> bool:
        changed = self._changed
        with changed:
            changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return False
            payload, spans = self._take()
            self._waiting -= spans
            self._sending = spans
            self._busy = True
            changed.notify_all()
            last = self._last
        outcome = self._transport.send(payload, spans)
        if outcome.cause and self._last and not last:
            outcome = self._transport.send(payload, spans)  # it waited for its next attempt: this is the last one
        with changed:
            if self._closed:
                return False  # these spans are counted already
            self._sending = 0
            lost = spans if outcome.cause else outcome.rejected
            self.exported += spans - lost
            self._drop("export_failed" if outcome.cause else "rejected", lost)
            full = self.dropped.get("queue_full", 0) - self._full
            self._full += full
        self._tell(outcome, lost, full)
        with changed:
            self._busy = False
            changed.notify_all()
        return True

    def _take(self) -> tuple[Any, int]:
        """The next request: small payloads that have queued up behind a slow one become one."""
        payload, spans = self._queue.popleft()
        payloads = [payload]
        while self._queue and spans + self._queue[0][1] <= self._max_batch:
            payload, more = self._queue.popleft()
            payloads.append(payload)
            spans += more
        if len(payloads) == 1:
            return payloads[0], spans
        if self._transport.takes_bytes:
            return b"".join(payloads), spans  # protobuf: the repeated fields of concatenated messages add up
        return [span for part in payloads for span in part], spans

    def _tell(self, outcome: Outcome, lost: int, full: int) -> None:
        if lost:
            self._report.lost(outcome.cause or "partial success", outcome.detail, lost)
        if full:
            self._report.lost("queue_full", f"{self._max_queue} spans wait already", full)
        if not lost and not full:
            self._report.delivered()
