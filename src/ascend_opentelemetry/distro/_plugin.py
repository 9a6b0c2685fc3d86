"""The plugin that vLLM loads in each of its processes, for those that ``opentelemetry-instrument`` did not reach."""

from __future__ import annotations

import logging
import os

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER

from ascend_opentelemetry.distro._role import is_helper
from ascend_opentelemetry.environment_variables import SERVICE_PROF_CONFIG_PATH

_logger = logging.getLogger(__name__)

#: Set by a user who wants spans, or by the distro of a parent process.
_WANTS_TRACES = (OTEL_TRACES_EXPORTER, "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def vllm_plugin() -> None:
    """Entry point ``vllm.general_plugins``: instrument this process unless that is done already.

    It acts only where native files (``SERVICE_PROF_CONFIG_PATH``) or an OTel exporter is asked for.
    """
    wants_traces = any(os.environ.get(name, "none") not in ("", "none") for name in _WANTS_TRACES)
    if is_helper() or not (wants_traces or os.environ.get(SERVICE_PROF_CONFIG_PATH)):
        return
    try:
        from ascend_opentelemetry._instrumentor import VLLMInstrumentor

        instrumentor = VLLMInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            return
        if wants_traces and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            from ascend_opentelemetry.distro._configurator import AscendConfigurator
            from ascend_opentelemetry.distro._distro import AscendDistro

            AscendDistro().configure()
            AscendConfigurator().configure()
        instrumentor.instrument()
    except Exception:  # vLLM must start without us
        _logger.exception("vLLM is not instrumented")
