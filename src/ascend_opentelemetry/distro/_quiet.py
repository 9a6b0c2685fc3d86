"""What a service tells by itself: the spans of its HTTP server, the lines of its log."""

from __future__ import annotations

import functools
import logging
import os
import re
from typing import Any

from opentelemetry import trace

#: Requests of load balancers and scrapers, a few a second for ever; a regular expression on the URL without its query.
EXCLUDED_URLS = r"^\w+://[^/]*/(?:health|load|metrics|ping|version)/?$"

#: Variables of the user that say which requests are left out; set to nothing they leave out none.
_VARIABLES = ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")

#: Loggers of the SDK's exporters, which repeat a failure with each export, for ever.
_EXPORTERS = tuple(
    f"opentelemetry.exporter.otlp.proto.{name}"
    for name in ("grpc.exporter", "http.metric_exporter", "http._log_exporter")
)


class OncePerCause(logging.Filter):
    """Lets a message through once a process; numbers in it (delays of retries) make no other message."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if record.msg == "Shutdown in progress, aborting retry.":  # follows another, which says why
            return False
        cause = re.sub(r"[0-9.]+", "0", record.getMessage())
        if cause in self._said:
            return False
        self._said.add(cause)
        return True


def quiet_exporters() -> None:
    """Have the exporters of metrics and logs say a failure once: Jaeger, for one, takes neither."""
    for name in _EXPORTERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, OncePerCause) for one in logger.filters):
            logger.addFilter(OncePerCause())


def fastapi_options() -> dict[str, Any]:
    """Options of FastAPI's instrumentation.

    No span for each chunk of a stream, which would hide the request's own, and none for requests that ask how the server
    is, unless the user's own variables name the requests to leave out.
    """
    options: dict[str, Any] = {"exclude_spans": ["receive", "send"]}
    if not any(name in os.environ for name in _VARIABLES):
        options["excluded_urls"] = EXCLUDED_URLS
    return options


def correlate_logs() -> None:
    """Do for vLLM's logger, which passes nothing on to the root logger, what the user asked for that one.

    ``OTEL_PYTHON_LOG_CORRELATION=true``: its lines end with the ids of the current span, unless the user has set up its
    format. An OTel handler of the root logger (the SDK's, or that of ``opentelemetry-instrumentation-logging``) gets its
    records too.
    """
    get = os.environ.get
    if get("OTEL_PYTHON_LOG_CORRELATION", "").strip().lower() == "true" and not get("VLLM_LOGGING_CONFIG_PATH"):
        _add_ids()
    logger = logging.getLogger("vllm")
    if not logger.propagate:
        for handler in logging.getLogger().handlers:
            kind = type(handler)
            if kind.__name__ == "LoggingHandler" and kind.__module__.startswith("opentelemetry."):
                logger.addHandler(handler)  # does nothing where it is there


@functools.cache
def _add_ids() -> None:
    """Once a process; in records and not in a formatter, as vLLM may configure its handlers later, and again."""
    factory = logging.getLogRecordFactory()

    def with_ids(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        if record.name.partition(".")[0] == "vllm" and isinstance(record.msg, str):
            context = trace.get_current_span().get_span_context()
            if context.is_valid:
                record.msg += (
                    f" [trace_id={context.trace_id:032x} span_id={context.span_id:016x}"
                    f" trace_sampled={context.trace_flags.sampled}]"
                )
        return record

    logging.setLogRecordFactory(with_ids)
