"""The plugin that vLLM loads in each of its processes, for those that ``opentelemetry-instrument`` did not reach."""

from __future__ import annotations

import logging
import os

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISABLED_INSTRUMENTATIONS

from ascend_opentelemetry.distro._role import _has_parent, is_helper
from ascend_opentelemetry.environment_variables import SERVICE_PROF_CONFIG_PATH

_logger = logging.getLogger(__name__)

_CONFIG_FILE = "OTEL_CONFIG_FILE"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
#: Whether the first process of a service exports spans: its children do as it does.
_DECISION = "_ASCEND_OTEL_TRACES"


def vllm_plugin() -> None:
    """Entry point ``vllm.general_plugins``: instrument this process unless that is done already.

    It acts only where native files (``SERVICE_PROF_CONFIG_PATH``), an OTel exporter or vLLM's own tracing (on its
    command line) is asked for; ``OTEL_CONFIG_FILE`` asks for what the file says.
    """
    if is_helper() or _is_disabled():
        return
    is_child = _DECISION in os.environ and _has_parent()
    if not is_child:
        # a child cannot decide: vLLM, tracing by itself, puts its endpoint into the environment too
        os.environ[_DECISION] = "yes" if _wants_traces() else "no"
    traces = os.environ[_DECISION] == "yes"
    if not (traces or os.environ.get(SERVICE_PROF_CONFIG_PATH)):
        return
    try:
        _instrument(traces, is_child)
        if traces:
            from ascend_opentelemetry.distro._quiet import correlate_logs

            correlate_logs()
    except Exception:  # vLLM must start without us
        _logger.exception("vLLM is not instrumented")


def _instrument(traces: bool, is_child: bool) -> None:
    from ascend_opentelemetry._instrumentor import VLLMInstrumentor

    instrumentor = VLLMInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return
    if traces and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        from ascend_opentelemetry.distro._configurator import AscendConfigurator
        from ascend_opentelemetry.distro._distro import AscendDistro

        AscendDistro().configure()
        AscendConfigurator().configure()
        if instrumentor.is_instrumented_by_opentelemetry:  # by the declarative configuration
            return
    # then a provider that comes up here later is vLLM's, for its own tracing
    nobody = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if not traces and (is_child or nobody):
        instrumentor.instrument(tracer_provider=trace.NoOpTracerProvider())
    else:
        instrumentor.instrument()


def _is_disabled() -> bool:
    """Whether the user does not want vLLM instrumented."""
    names = [name.strip() for name in os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")]
    if "vllm" in names or "*" in names:
        return True
    if not os.environ.get(_CONFIG_FILE):
        return False
    from ascend_opentelemetry.distro import _declarative

    return not _declarative.settings().instrumentations.get("vllm", True)


def _wants_traces() -> bool:
    """Whether the user has spans exported."""
    get = os.environ.get
    if get(_CONFIG_FILE):
        return True
    exporter = get(OTEL_TRACES_EXPORTER)
    if exporter is not None:
        return exporter not in ("", "none")
    from ascend_opentelemetry.distro._vllm_arguments import traces_endpoint

    return bool(get(_ENDPOINT) or get(_TRACES_ENDPOINT) or traces_endpoint())
