"""A real OpenTelemetry Collector: what it received as a file, what it made of it as metrics."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devtools.backend import CONFIG, Backend, free_ports
from devtools.exposition import total
from devtools.otlp_json import Span, read_lines, read_spans

COLLECTOR_CONFIG = CONFIG / "collector.yaml"
FILE_CONFIG = CONFIG / "collector-file.yaml"
#: Seconds to wait for a metric.
_PATIENCE = 15.0


class Collector(Backend):
    """A Collector on free ports of the loopback, with the configuration of ``collector-config``.

    Args:
        binary: its command.
        traces_endpoint: URL of the OTLP/gRPC that gets the traces.
        file: what arrives is appended to it, as OTLP/JSON.
        log_path: file that gets its output.

    Attributes:
        grpc_endpoint: URL of OTLP/gRPC.
        http_endpoint: URL of OTLP/HTTP, without ``/v1/traces``.
        metrics_url: URL of the Prometheus endpoint with the metrics of spans.
        self_url: URL of the Collector's own metrics.
    """

    def __init__(self, binary: Path, *, traces_endpoint: str, file: Path, log_path: Path) -> None:
        grpc, http, prometheus, own, health = free_ports(5)
        self.file = file
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.http_endpoint = f"http://127.0.0.1:{http}"
        self.metrics_url = f"http://127.0.0.1:{prometheus}/metrics"
        self.self_url = f"http://127.0.0.1:{own}/metrics"
        variables = {
            "COLLECTOR_OTLP_GRPC_PORT": str(grpc),
            "COLLECTOR_OTLP_HTTP_PORT": str(http),
            "COLLECTOR_PROMETHEUS_PORT": str(prometheus),
            "COLLECTOR_SELF_PORT": str(own),
            "COLLECTOR_HEALTH_PORT": str(health),
            "COLLECTOR_TRACES_ENDPOINT": urlsplit(traces_endpoint).netloc,
            "COLLECTOR_METRICS_INTERVAL": "500ms",
            "COLLECTOR_FILE": str(file),
        }
        super().__init__(
            binary,
            configs=[COLLECTOR_CONFIG, FILE_CONFIG],
            variables=variables,
            health_url=f"http://127.0.0.1:{health}/",
            log_path=log_path,
        )

    def spans(self) -> list[Span]:
        """The spans that arrived, once they are in the file, in order."""
        return read_spans(self.file)

    def requests(self, key: str) -> list[dict[str, Any]]:
        """The lines of the file with this key, in order: ``resourceSpans``, ``resourceMetrics`` or ``resourceLogs``."""
        return [line for line in read_lines(self.file) if key in line]

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of the Prometheus endpoint called ``name`` that have these labels; 0 for none."""
        return total(_get(self.metrics_url), name, labels)

    def own_metric(self, name: str, **labels: str) -> float:
        """The same of the Collector's own metrics: ``otelcol_receiver_accepted_spans`` and the like."""
        return total(_get(self.self_url), name, labels)

    def wait_metric(self, name: str, value: float, **labels: str) -> float:
        """``metric`` once it is at least ``value``; what it is after 15 seconds.

        A new counter is shown as 0 first and has its value an interval later.
        """
        until = time.monotonic() + _PATIENCE
        while (current := self.metric(name, **labels)) < value and time.monotonic() < until:
            time.sleep(0.1)
        return current


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()
