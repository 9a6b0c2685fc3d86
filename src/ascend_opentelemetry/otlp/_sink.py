"""The sink that turns records into OTLP requests and has them sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)

from ascend_opentelemetry.otlp._encoder import SpanEncoder
from ascend_opentelemetry.otlp._otlp_transport import open_transport
from ascend_opentelemetry.otlp._readable import ReadableBatch
from ascend_opentelemetry.otlp._sdk_span import all_scopes
from ascend_opentelemetry.otlp._sender import Sender
from ascend_opentelemetry.otlp._settings import Limits, positive_int
from ascend_opentelemetry.otlp._transport import Transport

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits
    from opentelemetry.sdk.trace.export import SpanExporter

    from ascend_opentelemetry.recorder._record import Record

_logger = logging.getLogger(__name__)


class OtlpSink:
    """Encodes spans on the drain thread and sends them on one of its own.

    A slow or dead endpoint costs spans, which are counted, and never time: what does not fit the queue of the
    sender is dropped. ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE``, ``OTEL_BSP_SCHEDULE_DELAY`` (ms) and
    ``OTEL_BSP_MAX_QUEUE_SIZE`` win over the arguments.

    Args:
        exporter: an OTLP exporter of the SDK, whose transport is used; any other gets ``ReadableSpan`` objects. It
            belongs to the sink.
        resource: of the records; SDK spans bring their own.
        max_batch: spans in one request.
        delay: seconds after which a smaller request is sent.
        max_queue: spans that may wait to be sent.
        limits: of the records' spans; None: of the environment.
        scope_enabled: whether records whose instrumentation scope has this name are spans.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        *,
        max_batch: int = 512,
        delay: float = 1.0,
        max_queue: int = 2048,
        limits: SpanLimits | None = None,
        scope_enabled: Callable[[str], bool] = all_scopes,
    ) -> None:
        self._max_batch = positive_int(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, max_batch)
        self._delay = positive_int(OTEL_BSP_SCHEDULE_DELAY, round(delay * 1000)) / 1000
        max_queue = positive_int(OTEL_BSP_MAX_QUEUE_SIZE, max_queue)
        if self._max_batch > max_queue:
            _logger.warning(
                "%s=%d is more than %s=%d; batches of %d spans are sent.",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
                self._max_batch,
                OTEL_BSP_MAX_QUEUE_SIZE,
                max_queue,
                max_queue,
            )
            self._max_batch = max_queue
        transport = open_transport(exporter) or Transport(exporter)
        batch = SpanEncoder if transport.takes_bytes else ReadableBatch
        self._batch = batch(resource, Limits(limits), scope_enabled)
        self._sender = Sender(transport, max_queue, self._max_batch)
        self._reset()

    def _reset(self) -> None:
        # drain thread against flush, shutdown and request_flush from other ones
        self._batching = threading.Lock()
        self._due = 0.0
        self._flush_requested = False
        self._failed_before = self._batch.failed
        self._closed = False

    @property
    def exported(self) -> int:
        """Spans that the endpoint has taken."""
        return self._sender.exported

    @property
    def dropped(self) -> dict[str, int]:
        """Lost spans by reason.

        ``queue_full``, ``export_failed``, ``rejected`` (by the backend), ``encode_failed``, ``shutdown`` (still
        waiting then) and ``already_shutdown``.
        """
        dropped = dict(self._sender.dropped)
        if failed := self._batch.failed - self._failed_before:
            dropped["encode_failed"] = failed
        return dropped

    @property
    def endpoint(self) -> str:
        """Where spans are sent to, without user, password and query."""
        return self._sender.endpoint

    @property
    def protocol(self) -> str:
        """``grpc``, ``http/protobuf``, or the class of an exporter that is not OTLP's."""
        return self._sender.protocol

    @property
    def last_error(self) -> str:
        """The kind of failure of the last attempt to send; empty when it got through."""
        return self._sender.last_error

    def set_resource(self, resource: Resource) -> None:
        """Change the resource of the records that are written from here on."""
        with self._batching:
            self._batch.set_resource(resource)

    def write(self, records: Sequence[Record]) -> None:
        with self._batching:
            batch, position, room = self._batch, 0, self._max_batch - self._batch.count
            while position < len(records):
                empty = not batch.count
                batch.add(records[position : position + room])
                position += room
                if empty and batch.count:
                    self._due = time.monotonic() + self._delay
                room = self._max_batch - batch.count
                if not room:
                    self._hand_over()
                    room = self._max_batch

    def commit(self) -> None:
        requested, self._flush_requested = self._flush_requested, False
        with self._batching:
            if requested or (self._batch.count and time.monotonic() >= self._due):
                self._hand_over()

    def request_flush(self) -> None:
        """Hand over what is pending, full batch or not. From any thread, never blocks."""
        if not self._batching.acquire(blocking=False):
            self._flush_requested = True  # the drain is writing: it hands over in its next commit
            return
        try:
            self._hand_over()
        finally:
            self._batching.release()

    def flush(self, timeout: float) -> bool:
        """Send all that was written.

        Args:
            timeout: seconds.

        Returns:
            Whether the endpoint took it all in that time.
        """
        deadline = time.monotonic() + timeout
        lost = sum(self._sender.dropped.values())
        self._hand_over_last(timeout)
        in_time = self._sender.flush(max(0.0, deadline - time.monotonic()))
        return in_time and sum(self._sender.dropped.values()) == lost

    def shutdown(self, timeout: float) -> None:
        """Send all that was written for at most ``timeout`` seconds; what is left is dropped and counted."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout
        self._hand_over_last(timeout)
        self._sender.close(max(0.0, deadline - time.monotonic()))

    def after_fork(self) -> None:
        """Start anew in a forked child, with a connection of its own; what is pending is the parent's."""
        self._batch.clear()
        self._sender.after_fork()
        self._reset()

    def _hand_over(self) -> None:
        if count := self._batch.count:
            self._sender.put(self._batch.take(), count)

    def _hand_over_last(self, timeout: float) -> None:
        with self._batching:
            count = self._batch.count
            payload = self._batch.take()
        if count:
            self._sender.put(payload, count, timeout)
