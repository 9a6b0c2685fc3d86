"""Sends batches through an exporter, and tells what became of them."""

from __future__ import annotations

import logging
import threading
from typing import Any, NamedTuple

from ascend_opentelemetry._endpoint import hide_secrets, without_secrets


class Outcome(NamedTuple):
    """What became of one request.

    ``cause`` is empty for a delivered one, else a word that is the same each time the same thing is wrong: a gRPC
    status, an HTTP status, or the type of an exception. ``rejected`` counts the spans of a delivered request that
    the backend refused; ``detail`` is then its message.
    """

    cause: str = ""
    detail: str = ""
    rejected: int = 0


class _Sending(threading.local):
    now = False
    said = ""


_sending = _Sending()


class _Hush(logging.Filter):
    """Keeps what an exporter logs while a transport sends on this thread: the sink says it once, not per batch."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _sending.now:
            _sending.said = record.getMessage()
        return not _sending.now


hush = _Hush()


class Transport:
    """The plain way: hands ``ReadableSpan`` objects to any exporter.

    Args:
        exporter: a ``SpanExporter``; belongs to the transport from here on.
    """

    takes_bytes = False

    def __init__(self, exporter: Any) -> None:
        #: As the exporter has it, maybe with a password.
        self.address = str(getattr(exporter, "_endpoint", type(exporter).__name__))
        #: Where it sends to, as it may be shown.
        self.endpoint = without_secrets(self.address)
        #: ``grpc``, ``http/protobuf``, or the class of an exporter that is not OTLP's.
        self.protocol = type(exporter).__name__
        self._exporter = exporter
        #: Of the last attempt; a retry overwrites it. Without a cause also while there is no answer yet.
        self.outcome = Outcome()
        #: The last attempt failed, and the endpoint has not said when to come again.
        self.failing = False

    def send(self, payload: Any, spans: int) -> Outcome:
        """Send one batch, with the exporter's own retries. Never raises.

        Args:
            payload: a list of ``ReadableSpan``, or the bytes of a request where ``takes_bytes`` says so.
            spans: how many are in it.
        """
        cause, detail, rejected = self._try(payload, spans)
        return Outcome(cause, hide_secrets(detail, self.address), rejected)

    def _try(self, payload: Any, spans: int) -> Outcome:
        self.outcome = Outcome()
        _sending.now, _sending.said = True, ""
        delivered = False
        try:
            delivered = self._export(payload, spans).name == "SUCCESS"
        except Exception as error:  # noqa: BLE001 - an exporter may raise anything
            return Outcome(type(error).__name__, str(error))
        finally:
            _sending.now = False
            self.failing = not delivered
        if delivered:
            return Outcome("", self.outcome.detail, self.outcome.rejected)
        return self.outcome if self.outcome.cause else Outcome("not sent", _sending.said)

    def _export(self, payload: Any, spans: int) -> Any:  # noqa: ARG002 - for those that send bytes
        return self._exporter.export(payload)

    def end_retries(self) -> None:
        """From here on make one attempt a request; a retry that waits for its time ends, as a failure."""

    def shutdown(self) -> None:
        """Shut the exporter down; a retry that waits for its time ends."""
        self._exporter.shutdown()

    def after_fork(self) -> None:
        """Leave the parent's connections as they are and open new ones."""
        self.failing = False
