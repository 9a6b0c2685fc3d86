"""Reading OTLP/JSON lines: one ExportTraceServiceRequest a line, as the OTLP file exporter writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INTERNAL, SERVER, CLIENT = 1, 2, 3
UNSET, OK, ERROR = 0, 1, 2


@dataclass(frozen=True)
class Event:
    """An event of a span; ``time`` in ns since 1970."""

    name: str
    time: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Link:
    """A link of a span, ids in lower-case hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A finished span: ids in lower-case hex, ``parent_id`` "" for a root, times in ns since 1970, OTLP's numbers."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    scope: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any] = field(default_factory=dict)
    status_code: int = UNSET
    status_message: str = ""
    events: list[Event] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)

    @property
    def ms(self) -> float:
        """Duration in milliseconds."""
        return (self.end - self.start) / 1e6


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The requests of a file, in order; none where the file is missing."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def read_spans(path: Path) -> list[Span]:
    """All spans of a file, in the order in which they were received."""
    return [span for request in read_lines(path) for span in spans_of(request)]


def plain(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes as a dict of Python values, from OTLP's list of key and AnyValue."""
    return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}


def spans_of(request: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of one export request (OTLP/JSON), in order."""
    for resource_spans in request.get("resourceSpans", ()):
        resource = plain(resource_spans.get("resource", {}).get("attributes", ()))
        for scope_spans in resource_spans.get("scopeSpans", ()):
            scope = scope_spans.get("scope", {}).get("name", "")
            for span in scope_spans.get("spans", ()):
                yield _span(span, scope, resource)


def _span(span: Mapping[str, Any], scope: str, resource: dict[str, Any]) -> Span:
    status = span.get("status", {})
    events = [
        Event(event.get("name", ""), int(event.get("timeUnixNano", 0)), plain(event.get("attributes", ())))
        for event in span.get("events", ())
    ]
    links = [
        Link(link.get("traceId", ""), link.get("spanId", ""), plain(link.get("attributes", ())))
        for link in span.get("links", ())
    ]
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span.get("name", ""),
        scope=scope,
        kind=span.get("kind", 0),
        start=int(span.get("startTimeUnixNano", 0)),
        end=int(span.get("endTimeUnixNano", 0)),
        attributes=plain(span.get("attributes", ())),
        status_code=status.get("code", UNSET),
        status_message=status.get("message", ""),
        events=events,
        links=links,
        resource=resource,
    )


def _value(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind == "doubleValue":
            return float(content)
        if kind == "bytesValue":
            return base64.b64decode(content)
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        if kind == "kvlistValue":
            return plain(content.get("values", ()))
        return content
    return None
