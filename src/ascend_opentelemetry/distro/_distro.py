"""The distro: defaults, before the SDK is configured."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro

from ascend_opentelemetry.distro._role import is_helper
from ascend_opentelemetry.environment_variables import SERVICE_PROF_CONFIG_PATH

OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME"
OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)


class AscendDistro(BaseDistro):
    """Sets what the user left open.

    Exporters: OTLP by gRPC, as the stock distro; none when ``SERVICE_PROF_CONFIG_PATH`` is set and no endpoint is:
    then native files are all that is wanted.
    """

    def _configure(self, **kwargs: Any) -> None:  # noqa: ARG002
        if is_helper():
            return
        get = os.environ.get  # a variable that is empty counts as not set
        native_only = bool(get(SERVICE_PROF_CONFIG_PATH)) and not any(get(name) for name in _ENDPOINTS)
        for exporter in (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER):
            os.environ.setdefault(exporter, "none" if native_only else "otlp")
        os.environ.setdefault(_PROTOCOL, "grpc")
        if "service.name=" not in os.environ.get(OTEL_RESOURCE_ATTRIBUTES, ""):
            os.environ.setdefault(OTEL_SERVICE_NAME, "vllm")

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        if not is_helper():
            if entry_point.name == "fastapi":
                # a span a streamed chunk hides the request's own
                kwargs.setdefault("exclude_spans", ["receive", "send"])
            super().load_instrumentor(entry_point, **kwargs)
