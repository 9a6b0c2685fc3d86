"""A port for the Prometheus exporter of each process: a service has several, and one variable.

Source: ``opentelemetry-exporter-prometheus``, which serves ``OTEL_EXPORTER_PROMETHEUS_HOST`` and ``..._PORT``.
"""

from __future__ import annotations

import logging
import os
import socket

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER

_logger = logging.getLogger(__name__)

_HOST = "OTEL_EXPORTER_PROMETHEUS_HOST"
_PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"
#: Ports that are tried: more than a host has processes of a service.
_PORTS = 256

#: Names of the ports that this process has taken: between our look and the exporter's, nobody else may have it.
_taken: list[socket.socket] = []


def choose_port() -> None:
    """Have the exporter, if it is asked for, serve the first free port from the one that the variable names."""
    names = os.environ.get(OTEL_METRICS_EXPORTER, "").split(",")
    if "prometheus" not in [name.strip() for name in names]:
        return
    host, text = os.environ.get(_HOST, "localhost"), os.environ.get(_PORT, "9464")
    if not text.isdigit():
        return  # the exporter says so
    first = int(text)
    for port in range(first, min(first + _PORTS, 65536)):
        if _take(host, port):
            if port != first:
                _logger.info("process %d serves its metrics at http://%s:%d/metrics", os.getpid(), host, port)
            os.environ[_PORT] = str(port)
            return


def _take(host: str, port: int) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0ascend-otel-prometheus-{port}")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError:
        name.close()
        return False
    _taken.append(name)
    return True
