"""A test span, sent as a service sends its spans."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import urlsplit

Protocol: TypeAlias = Literal["grpc", "http/protobuf"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

#: Seconds for the one attempt.
TIMEOUT = 3
_TRACES_PATH = "/v1/traces"


class Answer(NamedTuple):
    """What became of the test span.

    ``endpoint`` is as the exporter has it: a URL, or for gRPC host and port. ``cause`` is empty when it was taken,
    else as in ``otlp``'s ``Outcome``; ``detail`` is what the endpoint said, ``rejected`` 1 when it did not want the
    span.
    """

    endpoint: str
    protocol: Protocol
    tls: bool
    cause: str
    detail: str
    rejected: int
    seconds: float

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None where there are none."""
        url = self.endpoint if "://" in self.endpoint else f"//{self.endpoint}"
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if self.tls or self.protocol == "grpc" else 80)
        except ValueError:
            return None
        return (parts.hostname, port) if parts.hostname else None

    @property
    def path(self) -> str:
        """Of the URL."""
        return urlsplit(self.endpoint).path if "://" in self.endpoint else ""


def protocol_of(env: Mapping[str, str]) -> str:
    """The protocol that the variables name; grpc, as in the distribution, when none does."""
    return env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"


def send_test_span(protocol: Protocol, endpoint: str | None = None) -> Answer:
    """Make the exporter of the SDK from the variables of this process, and one attempt.

    Args:
        protocol: of OTLP.
        endpoint: in place of the variables', as a value of ``OTEL_EXPORTER_OTLP_ENDPOINT``.

    Raises:
        Exception: the exporter cannot be made, of whatever type it raises.
    """
    from opentelemetry.sdk.resources import Resource

    from ascend_opentelemetry.otlp import to_readable
    from ascend_opentelemetry.otlp._encoder import SpanEncoder
    from ascend_opentelemetry.otlp._otlp_transport import open_transport
    from ascend_opentelemetry.otlp._transport import Transport
    from ascend_opentelemetry.recorder import SAMPLED, RecordType, getrandbits

    exporter = _make_exporter(protocol, endpoint)
    transport = open_transport(exporter) or Transport(exporter)
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or "vllm"})
    now = time.time_ns()
    ids = (getrandbits(128), getrandbits(64), 0, SAMPLED)
    record = (RecordType("doctor", "ascend-otel doctor"), now, now, threading.get_ident(), ids, (), None)
    payload: Any = [to_readable(record, resource)]
    if transport.takes_bytes:
        encoder = SpanEncoder(resource)
        encoder.add([record])
        payload = encoder.take()
    transport.end_retries()
    started = time.monotonic()
    outcome = transport.send(payload, 1)
    seconds = time.monotonic() - started
    transport.shutdown()
    https = transport.address.lower().startswith("https://")
    tls = https if protocol != "grpc" else not getattr(exporter, "_insecure", True)
    return Answer(transport.address, protocol, tls, outcome.cause, outcome.detail, outcome.rejected, seconds)


def _make_exporter(protocol: Protocol, endpoint: str | None) -> Any:
    if protocol == "grpc":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=endpoint, timeout=TIMEOUT)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    url = endpoint.rstrip("/") + _TRACES_PATH if endpoint is not None else None
    return HttpExporter(endpoint=url, timeout=TIMEOUT)


def as_protocol(text: str) -> Protocol | None:
    """The text as one of the protocols that the exporters of the SDK speak."""
    return next((protocol for protocol in PROTOCOLS if protocol == text), None)
