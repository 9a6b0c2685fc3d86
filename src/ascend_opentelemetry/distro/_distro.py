"""The distro: defaults, before the SDK is configured."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro

from ascend_opentelemetry._role import is_helper
from ascend_opentelemetry.environment_variables import SERVICE_PROF_CONFIG_PATH

OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME"
OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_CONFIG_FILE = "OTEL_CONFIG_FILE"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
_TRACES_INSECURE = "OTEL_EXPORTER_OTLP_TRACES_INSECURE"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_LOGS_ENDPOINT = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
_ENDPOINTS = (_ENDPOINT, _TRACES_ENDPOINT, _METRICS_ENDPOINT, _LOGS_ENDPOINT)


class AscendDistro(BaseDistro):
    """Sets what the user left open.

    Exporters: OTLP by gRPC, as the stock distro; none when ``SERVICE_PROF_CONFIG_PATH`` is set and no endpoint is:
    then native files are all that is wanted. vLLM's ``--otlp-traces-endpoint`` is an endpoint for spans alone.
    With ``OTEL_CONFIG_FILE`` the file decides about all that.
    """

    def _configure(self, **kwargs: Any) -> None:  # noqa: ARG002
        if is_helper():
            return
        if os.environ.get(_CONFIG_FILE):
            from ascend_opentelemetry.distro import _declarative  # where a file is used

            _declarative.apply()
            return  # what it leaves open has the defaults of the specification
        _follow_vllm()
        get = os.environ.get  # a variable that is empty counts as not set
        native_only = bool(get(SERVICE_PROF_CONFIG_PATH)) and not any(get(name) for name in _ENDPOINTS)
        for exporter in (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER):
            os.environ.setdefault(exporter, "none" if native_only else "otlp")
        os.environ.setdefault(_PROTOCOL, "grpc")
        if "service.name=" not in os.environ.get(OTEL_RESOURCE_ATTRIBUTES, ""):
            os.environ.setdefault(OTEL_SERVICE_NAME, "vllm")

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        if is_helper() or _is_listed(entry_point.name):
            return
        if entry_point.name == "fastapi":
            from ascend_opentelemetry.distro._quiet import fastapi_options

            kwargs = fastapi_options() | kwargs
        super().load_instrumentor(entry_point, **kwargs)


def _is_listed(name: str) -> bool:
    """Whether the declarative configuration has started this instrumentation already, or disabled it."""
    if not os.environ.get(_CONFIG_FILE):
        return False
    from ascend_opentelemetry.distro import _declarative

    return name in _declarative.settings().instrumentations


def _follow_vllm() -> None:
    """Export spans to the endpoint that only vLLM was given, and as vLLM would; nothing else goes there."""
    from ascend_opentelemetry.distro._vllm_arguments import traces_endpoint  # of no use to a helper

    get = os.environ.get
    endpoint = traces_endpoint()
    if endpoint is None or get(_ENDPOINT) or get(_TRACES_ENDPOINT) or "otlp" not in get(OTEL_TRACES_EXPORTER, "otlp"):
        return
    os.environ[_TRACES_ENDPOINT] = endpoint
    if not get(_TRACES_PROTOCOL):
        os.environ[_TRACES_PROTOCOL] = "grpc"
    if get(_TRACES_PROTOCOL) == "grpc" and not get(_TRACES_INSECURE):
        os.environ[_TRACES_INSECURE] = "true"
    for exporter, its_endpoint in ((OTEL_METRICS_EXPORTER, _METRICS_ENDPOINT), (OTEL_LOGS_EXPORTER, _LOGS_ENDPOINT)):
        if not get(its_endpoint):
            os.environ.setdefault(exporter, "none")
