"""A real Jaeger with its traces in memory, and what it answers about them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from devtools.backend import CONFIG, Backend, BackendError, free_ports
from devtools.otlp_json import Span, spans_of

JAEGER_CONFIG = CONFIG / "jaeger.yaml"


@dataclass(frozen=True)
class JaegerSpan:
    """A span as Jaeger's user interface gets it.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: 16 hex digits, "" for a root.
        follows: trace and span id of each link; Jaeger keeps no attributes of a link here.
        name: operation name.
        service: service name.
        start_us: start, in microseconds since 1970.
        duration_us: duration in microseconds.
        tags: attributes, kind (``span.kind``), status and scope; an array is a string of JSON.
        logs: fields of each event, its name as ``event``.
        process: attributes of the resource.
        warnings: what Jaeger finds wrong with the span, as a parent that is not there.
    """

    trace_id: str
    span_id: str
    parent_id: str
    follows: tuple[tuple[str, str], ...]
    name: str
    service: str
    start_us: int
    duration_us: int
    tags: dict[str, Any]
    logs: list[dict[str, Any]]
    process: dict[str, Any]
    warnings: tuple[str, ...]


class Jaeger(Backend):
    """A Jaeger on free ports of the loopback, with the configuration of ``collector-config/jaeger.yaml``.

    Args:
        binary: its command.
        log_path: file that gets its output.

    Attributes:
        grpc_endpoint: URL of OTLP/gRPC.
        http_endpoint: URL of OTLP/HTTP, without ``/v1/traces``.
        query_url: URL of the query API.
    """

    def __init__(self, binary: Path, *, log_path: Path) -> None:
        grpc, http, query, query_grpc, health = free_ports(5)
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.http_endpoint = f"http://127.0.0.1:{http}"
        self.query_url = f"http://127.0.0.1:{query}"
        variables = {
            "JAEGER_OTLP_GRPC_PORT": str(grpc),
            "JAEGER_OTLP_HTTP_PORT": str(http),
            "JAEGER_QUERY_HTTP_PORT": str(query),
            "JAEGER_QUERY_GRPC_PORT": str(query_grpc),
            "JAEGER_HEALTH_PORT": str(health),
        }
        health_url = f"http://127.0.0.1:{health}/status"
        super().__init__(binary, configs=[JAEGER_CONFIG], variables=variables, health_url=health_url, log_path=log_path)

    def services(self) -> list[str]:
        """Names of the services that sent spans, sorted."""
        return sorted(self._get("/api/services")["data"] or ())

    def trace(self, trace_id: str) -> list[JaegerSpan]:
        """The spans of a trace as the user interface shows them, by start; none when the trace is not known."""
        answer = self._get(f"/api/traces/{trace_id}", unknown={"data": []})
        spans = [_jaeger_span(span, trace["processes"]) for trace in answer["data"] for span in trace["spans"]]
        return sorted(spans, key=lambda span: span.start_us)

    def spans(self, trace_id: str) -> list[Span]:
        """The spans of a trace with all that OTLP carries, by start; none when the trace is not known."""
        return _otlp_spans(self._get(f"/api/v3/traces/{trace_id}", unknown={"result": {}}))

    def wait_spans(self, trace_id: str, count: int, timeout: float = 15) -> list[Span]:
        """The spans of a trace once there are ``count`` of them; those that are there after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while len(spans := self.spans(trace_id)) < count and time.monotonic() < until:
            time.sleep(0.05)
        return spans

    def find(
        self,
        service: str,
        operation: str | None = None,
        attributes: Mapping[str, str] | None = None,
        *,
        limit: int = 1000,
    ) -> set[str]:
        """Ids of the traces with a span that matches, in any order.

        Args:
            service: name of its service.
            operation: its name; None for any.
            attributes: its attributes, each value as a string: "12", "true".
            limit: largest number of traces.

        Raises:
            BackendError: Jaeger refuses the query.
        """
        query = {"service": service, "limit": str(limit)}
        if operation is not None:
            query["operation"] = operation
        if attributes:
            query["tags"] = json.dumps(dict(attributes))
        return {trace["traceID"].zfill(32) for trace in self._get(f"/api/traces?{urlencode(query)}")["data"] or ()}

    def service_spans(self, service: str, *, hours: float = 1, limit: int = 1000) -> list[Span]:
        """All spans of the traces that a service has part in, with all that OTLP carries, by start.

        Args:
            service: name of the service.
            hours: how far back to look.
            limit: largest number of traces.

        Raises:
            BackendError: Jaeger refuses the query.
        """
        now = datetime.now(timezone.utc)
        query = {
            "query.service_name": service,
            "query.start_time_min": (now - timedelta(hours=hours)).isoformat(),
            "query.start_time_max": (now + timedelta(hours=hours)).isoformat(),
            "query.num_traces": str(limit),
        }
        return _otlp_spans(self._get(f"/api/v3/traces?{urlencode(query)}", unknown={"result": {}}))

    def _get(self, path: str, *, unknown: Any = None) -> Any:
        try:
            with urllib.request.urlopen(f"{self.query_url}{path}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404 and unknown is not None:
                return unknown
            raise BackendError(f"jaeger answers {error.code} to {path}: {error.read().decode()}") from error


def _otlp_spans(answer: Mapping[str, Any]) -> list[Span]:
    return sorted(spans_of(answer["result"]), key=lambda span: span.start)


def _jaeger_span(span: Mapping[str, Any], processes: Mapping[str, Any]) -> JaegerSpan:
    # a trace id whose first half is zero comes as the second half alone
    references = span["references"]
    parents = [reference["spanID"] for reference in references if reference["refType"] == "CHILD_OF"]
    links = [reference for reference in references if reference["refType"] == "FOLLOWS_FROM"]
    process = processes[span["processID"]]
    return JaegerSpan(
        trace_id=span["traceID"].zfill(32),
        span_id=span["spanID"],
        parent_id=parents[0] if parents else "",
        follows=tuple((link["traceID"].zfill(32), link["spanID"]) for link in links),
        name=span["operationName"],
        service=process["serviceName"],
        start_us=span["startTime"],
        duration_us=span["duration"],
        tags=_fields(span["tags"]),
        logs=[_fields(log["fields"]) for log in span["logs"]],
        process=_fields(process["tags"]),
        warnings=tuple(span["warnings"] or ()),
    )


def _fields(fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {field["key"]: field["value"] for field in fields}
