"""vLLM's own tracing (``--otlp-traces-endpoint``): while spans are exported here, it goes our way."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.recorder import recorder

_logger = logging.getLogger(__name__)


class InitTracer:
    """``init_tracer(instrumenting_module_name, otlp_traces_endpoint, ...)``, under each of its names in vLLM.

    vLLM's function makes a provider beside the global one and writes its endpoint into the environment, where the SDK
    of every child process would read it.

    Attributes:
        asked: vLLM was told to trace, and its spans are ours now.
    """

    def __init__(self) -> None:
        self.asked = False

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init_tracer(instrumenting_module_name: str, otlp_traces_endpoint: str, *args: Any, **kwargs: Any) -> Any:
            if not recorder.traces_on:
                return original(instrumenting_module_name, otlp_traces_endpoint, *args, **kwargs)
            if not self.asked:
                self.asked = True
                _compare(otlp_traces_endpoint)
            return trace.get_tracer(instrumenting_module_name)

        return init_tracer


class DoTracing:
    """``OutputProcessor.do_tracing(...)``: vLLM's ``llm_request``, of which there is one already."""

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_tracing(*args: Any, **kwargs: Any) -> Any:
            return None if recorder.traces_on else original(*args, **kwargs)

        return do_tracing


def _compare(endpoint: str) -> None:
    """Warn when vLLM was given another endpoint than the exporter."""
    ours = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
    if _address(endpoint) != _address(ours):
        given = without_secrets(endpoint)
        _logger.warning(
            "--otlp-traces-endpoint %s gets no spans: all of them, vLLM's own too, go to %s; "
            "to have them there, set OTEL_EXPORTER_OTLP_ENDPOINT=%s, or leave the option out",
            given, without_secrets(ours) or "the exporter that OTEL_TRACES_EXPORTER names", given,
        )  # fmt: skip


def _address(endpoint: str) -> str:
    """What two spellings of one endpoint have in common: host and port."""
    return endpoint.rpartition("://")[2].rstrip("/").removesuffix("/v1/traces").rstrip("/").lower()


init_tracer = InitTracer()
