"""A port for the Prometheus exporter of each process: a service has several, and one variable or file.

Source: ``opentelemetry-exporter-prometheus``, which serves ``OTEL_EXPORTER_PROMETHEUS_HOST`` and ``..._PORT``;
``opentelemetry-configuration``, which serves what the file says.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER

_logger = logging.getLogger(__name__)

_HOST = "OTEL_EXPORTER_PROMETHEUS_HOST"
_PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"
_DEFAULT_HOST, _DEFAULT_PORT = "localhost", 9464
#: Ports that are tried: more than a host has processes of a service.
_PORTS = 256

#: Names of the ports that this process has taken: between our look and the exporter's, nobody else may have it.
_taken: list[socket.socket] = []


def choose_port() -> None:
    """Have the exporter, if it is asked for, serve the first free port from the one that the variable names."""
    names = os.environ.get(OTEL_METRICS_EXPORTER, "").split(",")
    if "prometheus" not in [name.strip() for name in names]:
        return
    host, text = os.environ.get(_HOST, _DEFAULT_HOST), os.environ.get(_PORT, str(_DEFAULT_PORT))
    if text.isdigit():  # else the exporter says so
        os.environ[_PORT] = str(_first_free(host, int(text)))


def choose_ports(config: Any) -> None:
    """Have the Prometheus exporters of a configuration file serve the first free port from the one that it names.

    Args:
        config: the parsed file, which is changed.
    """
    provider = getattr(config, "meter_provider", None)
    for reader in getattr(provider, "readers", None) or ():
        exporter = getattr(getattr(getattr(reader, "pull", None), "exporter", None), "prometheus_development", None)
        if exporter is not None:
            first = _DEFAULT_PORT if exporter.port is None else exporter.port
            exporter.port = _first_free(exporter.host or _DEFAULT_HOST, first)


def _first_free(host: str, first: int) -> int:
    """That port, taken for this process; ``first`` where none is free or the host is unknown: the exporter says so."""
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        return first
    for port in range(first, min(first + _PORTS, 65536)):
        if _take(family, (address[0], port, *address[2:])):
            if port != first:
                _logger.info("process %d serves its metrics at http://%s:%d/metrics", os.getpid(), host, port)
            return port
    return first


def _take(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0ascend-otel-prometheus-{address[1]}")
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError:
        name.close()
        return False
    _taken.append(name)
    return True
