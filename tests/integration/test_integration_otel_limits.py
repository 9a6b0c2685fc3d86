"""Limits of spans, and log lines, of a hooked function that uses the OpenTelemetry API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.test_integration_otel_variables import run
from tests.support.contract import read_rows

MINE = """
import logging
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

def fill(span):
    for number in range(5):
        span.set_attribute(f"key{number}", "value" * number)
    for number in range(3):
        span.add_event(f"event{number}", {"a": "12345", "b": [1, 2]})
    for number in range(1, 4):
        span.add_link(SpanContext(number, number, False, TraceFlags(1)), {"c": 1, "d": ["12345"]})

def work():
    logging.getLogger("mine").warning("at work")
    fill(trace.get_current_span())
"""
SCRIPT = """
import mine
from opentelemetry import trace
mine.work()
with trace.get_tracer("mine").start_as_current_span("sdk") as span:
    mine.fill(span)
"""
KEYS, EVENTS = [f"key{number}" for number in range(5)], [f"event{number}" for number in range(3)]
LINKS = [f"{number:016x}" for number in (1, 2, 3)]
ATTRIBUTES = (KEYS, 20)
ALL = (ATTRIBUTES, (EVENTS, [2, 2, 2]), (LINKS, [2, 2, 2]), (0, 0, 0))

#: Variable, value, and what is left, the last ones of each: keys and the longest text, events and links with the number
#: of their attributes, and how many attributes, events and links were dropped.
TABLE = [
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128", ALL),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2", ((KEYS[3:], 20), ALL[1], ALL[2], (3, 0, 0))),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0", (([], 0), ALL[1], ALL[2], (5, 0, 0))),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "1", ((KEYS[4:], 20), (EVENTS, [1, 1, 1]), (LINKS, [1, 1, 1]), (4, 0, 0))),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1", (ATTRIBUTES, (EVENTS, [1, 1, 1]), ALL[2], ALL[3])),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "0", (ATTRIBUTES, ALL[1], (LINKS, [0, 0, 0]), ALL[3])),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3", ((KEYS, 3), *ALL[1:])),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4", ((KEYS, 4), *ALL[1:])),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1", (ATTRIBUTES, (EVENTS[2:], [2]), ALL[2], (0, 2, 0))),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", "2", (ATTRIBUTES, ALL[1], (LINKS[1:], [2, 2]), (0, 0, 1))),
]


@pytest.fixture
def program(program):
    (program.folder / "site" / "mine.py").write_text(MINE)
    program.symbols.write_text("- symbol: mine:work\n  domain: Mine\n")
    program.native()
    return program


def without_times(span: Mapping[str, Any]) -> dict[str, Any]:
    """All that a limit may cut."""
    events = [{key: value for key, value in event.items() if key != "timeUnixNano"} for event in span.get("events", [])]
    keys = ("attributes", "links", "droppedAttributesCount", "droppedEventsCount", "droppedLinksCount")
    return {"events": events, **{key: span.get(key) for key in keys}}


@pytest.mark.parametrize(("variable", "value", "expected"), TABLE)
def test_a_limit_cuts_a_record_as_it_cuts_a_span_of_the_sdk(variable, value, expected, program, receiver) -> None:
    seen = run(program, receiver, SCRIPT, **{variable: value})
    span = seen.named("work")
    assert without_times(span) == without_times(seen.named("sdk"))
    attributes, events, links = (span.get(part, []) for part in ("attributes", "events", "links"))
    assert (
        (
            [attribute["key"] for attribute in attributes],
            max([len(attribute["value"]["stringValue"]) for attribute in attributes], default=0),
        ),
        ([event["name"] for event in events], [len(event.get("attributes", [])) for event in events]),
        ([link["spanId"] for link in links], [len(link.get("attributes", [])) for link in links]),
        tuple([span.get(f"dropped{part}Count", 0) for part in ("Attributes", "Events", "Links")]),
    ) == expected
    assert [row.name for row in read_rows(program.folder)] == ["work"]


def test_a_limit_that_is_no_number_is_said_and_costs_no_native_row(program, receiver) -> None:
    seen = run(program, receiver, SCRIPT, OTEL_SPAN_LINK_COUNT_LIMIT="few")
    assert seen.spans == []
    (said,) = [line for line in seen.done.warnings if line != "at work"]
    assert said.endswith("OTEL_SPAN_LINK_COUNT_LIMIT must be a non-negative integer but got few")
    assert [row.name for row in read_rows(program.folder)] == ["work"]


def test_log_lines_carry_the_ids_of_the_record_they_come_from(program, receiver) -> None:
    seen = run(
        program, receiver, SCRIPT,
        OTEL_LOGS_EXPORTER="otlp", OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
    )  # fmt: skip
    (line,) = [
        line
        for request in receiver.requests("logs")
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        for line in scope["logRecords"]
        if line["body"]["stringValue"] == "at work"
    ]
    work = seen.named("work")
    assert (line["traceId"], line["spanId"]) == (work["traceId"], work["spanId"])
