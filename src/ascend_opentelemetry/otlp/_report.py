"""What is said about an endpoint that does not take spans: once per cause, and once when it does again."""

from __future__ import annotations

import logging
import time

_logger = logging.getLogger(__name__)

#: Seconds for which a cause is not named again, however often the endpoint comes and goes.
_QUIET = 60.0

_HEADERS = "Check OTEL_EXPORTER_OTLP_HEADERS and what the backend allows."
_PROTOCOL = "Check the path of the endpoint and OTEL_EXPORTER_OTLP_PROTOCOL (grpc or http/protobuf)."
_SLOW = "Give the collector more resources, or raise OTEL_BSP_MAX_QUEUE_SIZE."
_NOBODY = (
    "Start a collector there, name another one in OTEL_EXPORTER_OTLP_ENDPOINT, "
    "or switch the export off with OTEL_TRACES_EXPORTER=none."
)
_TLS = "Check OTEL_EXPORTER_OTLP_CERTIFICATE, and whether the endpoint is https or http."
_TLS_WORDS = ("CERTIFICATE_VERIFY_FAILED", "SSL_ERROR", "andshake")
_COLLECTOR = "See the log of the collector."

_ADVICE = {
    "401": _HEADERS,
    "403": _HEADERS,
    "UNAUTHENTICATED": _HEADERS,
    "PERMISSION_DENIED": _HEADERS,
    "404": _PROTOCOL,
    "405": _PROTOCOL,
    "415": _PROTOCOL,
    "UNIMPLEMENTED": _PROTOCOL,
    "BadStatusLine": _PROTOCOL,
    "SSLCertVerificationError": _TLS,
    "SSLError": _TLS,
    "UNAVAILABLE": _NOBODY,
    "ConnectionRefusedError": _NOBODY,
    "gaierror": _NOBODY,
    "queue_full": _SLOW,
    "no answer": _SLOW,
    "TimeoutError": _SLOW,
    "DEADLINE_EXCEEDED": _SLOW,
    "429": _SLOW,
    "RESOURCE_EXHAUSTED": _SLOW,
}


class ExportReport:
    """Speaks for one endpoint; used by one thread.

    Args:
        endpoint: as the exporter names it.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        #: When a cause was named last, and which ones have been since the endpoint took spans.
        self._named: dict[str, float] = {}
        self._open: set[str] = set()
        self._lost = 0

    @property
    def warned(self) -> bool:
        """Whether it was said that the endpoint does not take spans, and not yet that it does again."""
        return bool(self._open)

    def lost(self, cause: str, detail: str, spans: int) -> None:
        """Note spans that did not get through; warns unless the cause has just been named."""
        self._lost += spans
        now = time.monotonic()
        if cause in self._open or now - self._named.get(cause, -_QUIET) < _QUIET:
            return
        self._named[cause] = now
        self._open.add(cause)
        # gRPC has one status for all that keeps it from a connection
        advice = _TLS if any(word in detail for word in _TLS_WORDS) else _ADVICE.get(cause, _COLLECTOR)
        _logger.warning(
            "Cannot export spans to %s: %s (%s). They are dropped and counted until it works again. %s",
            self._endpoint,
            cause,
            detail or "no details",
            advice,
        )

    def delivered(self) -> None:
        """Note that the endpoint takes spans; says so if it was said that it does not."""
        if self._open:
            self._open.clear()
            _logger.info("Spans reach %s again; %d were lost.", self._endpoint, self._lost)
            self._lost = 0
