"""Spans as the SDK's console exporter prints them, out of the log of a server whose processes share it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from devtools.otlp_json import Event, Link, Span

#: vLLM puts the process before each line: ``(EngineCore pid=12) ``.
_PREFIX = re.compile(r"\(\w+ pid=\d+\) ")
_KINDS = {"SpanKind.INTERNAL": 1, "SpanKind.SERVER": 2, "SpanKind.CLIENT": 3}
_STATUS = {"UNSET": 0, "OK": 1, "ERROR": 2}


def read_console(log: str) -> list[Span]:
    """The spans in a log; the scope of a span is not printed."""
    of_process: dict[str, list[str]] = defaultdict(list)
    for line in log.splitlines():
        prefix = _PREFIX.match(line)
        of_process[prefix[0] if prefix else ""].append(line[prefix.end() :] if prefix else line)
    spans: list[Span] = []
    for lines in of_process.values():
        text, decoder = "\n".join(lines), json.JSONDecoder()
        start = text.find('{\n    "name"')
        while start >= 0:
            found, end = decoder.raw_decode(text, start)
            spans.append(_span(found))
            start = text.find('{\n    "name"', end)
    return spans


def _span(found: Mapping[str, Any]) -> Span:
    status = found["status"]
    return Span(
        trace_id=found["context"]["trace_id"].removeprefix("0x"),
        span_id=found["context"]["span_id"].removeprefix("0x"),
        parent_id=(found["parent_id"] or "").removeprefix("0x"),
        name=found["name"],
        scope="",
        kind=_KINDS[found["kind"]],
        start=_nanoseconds(found["start_time"]),
        end=_nanoseconds(found["end_time"]),
        attributes=found["attributes"],
        status_code=_STATUS[status["status_code"]],
        status_message=status.get("description", ""),
        events=[
            Event(event["name"], _nanoseconds(event["timestamp"]), event["attributes"]) for event in found["events"]
        ],
        links=[
            Link(
                link["context"]["trace_id"].removeprefix("0x"),
                link["context"]["span_id"].removeprefix("0x"),
                link["attributes"],
            )
            for link in found["links"]
        ],
        resource=found["resource"]["attributes"],
    )


def _nanoseconds(text: str) -> int:
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1_000_000) * 1000
