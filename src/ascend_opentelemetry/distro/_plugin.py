"""The plugin that vLLM loads in each of its processes, for those that ``opentelemetry-instrument`` did not reach."""

from __future__ import annotations

import logging
import os
import sys

from opentelemetry import metrics, trace
from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISABLED_INSTRUMENTATIONS

from ascend_opentelemetry._role import has_parent, is_helper
from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_NATIVE, SERVICE_PROF_CONFIG_PATH

_logger = logging.getLogger(__name__)

_CONFIG_FILE = "OTEL_CONFIG_FILE"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
#: What the first process of a service exports: ``yes`` (spans, and the rest as configured), ``metrics`` alone, or
#: ``no``. Its children do as it does.
_DECISION = "_ASCEND_OTEL_TRACES"


def vllm_plugin() -> None:
    """Entry point ``vllm.general_plugins``: instrument this process unless that is done already.

    It acts only where native files (``SERVICE_PROF_CONFIG_PATH``), an OTel exporter or vLLM's own tracing (on its
    command line) is asked for; ``OTEL_CONFIG_FILE`` asks for what the file says.
    """
    if is_helper() or _is_disabled():
        return
    _complete_resource()
    is_child = _DECISION in os.environ and has_parent()
    if not is_child:
        # a child cannot decide: vLLM, tracing by itself, puts its endpoint into the environment too
        os.environ[_DECISION] = "yes" if _wants_traces() else "metrics" if _wants_metrics() else "no"
    decision = os.environ[_DECISION]
    traces = decision == "yes"
    if decision == "no" and not _wants_native_files():
        return
    try:
        _instrument(decision, is_child)
        if traces:
            from ascend_opentelemetry.distro._quiet import correlate_logs

            correlate_logs()
    except Exception:  # vLLM must start without us
        _logger.exception("vLLM is not instrumented")


def _complete_resource() -> None:
    """Where the SDK was configured before this process knew what it is."""
    resource = sys.modules.get("ascend_opentelemetry.distro._resource")
    if resource is not None:
        resource.tell()


def _name_metrics_alone() -> None:
    """What a plain start does not name is not exported."""
    os.environ.setdefault(OTEL_METRICS_EXPORTER, "otlp")
    for exporter in (OTEL_TRACES_EXPORTER, OTEL_LOGS_EXPORTER):
        os.environ.setdefault(exporter, "none")


def _has_no_meters() -> bool:
    """Whether the program has set up no meter provider of its own."""
    return type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"


def _instrument(decision: str, is_child: bool) -> None:
    from ascend_opentelemetry._instrumentor import VLLMInstrumentor

    instrumentor = VLLMInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return
    traces = decision == "yes"
    unset = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if unset and (traces or (decision == "metrics" and _has_no_meters())):
        if not traces:
            _name_metrics_alone()
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


def _wants_native_files() -> bool:
    """Whether the user has native files written, by us or by others: who does it is found out later, and said."""
    off = os.environ.get(OTEL_PYTHON_VLLM_NATIVE, "").strip().lower() == "off"
    return bool(os.environ.get(SERVICE_PROF_CONFIG_PATH)) and not off


def _wants_metrics() -> bool:
    """Whether the user names an exporter of metrics, or an endpoint for them."""
    exporter = os.environ.get(OTEL_METRICS_EXPORTER)
    if exporter is not None:
        return exporter not in ("", "none")
    return bool(os.environ.get(_METRICS_ENDPOINT))


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
