from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devtools.semconv import load
from tests.support.live_check import LiveCheck, timers

REGISTRY = load()
RESOURCE = {
    "service.name": "vllm", "process.pid": 7, "telemetry.distro.name": "ascend-opentelemetry",
    "telemetry.distro.version": "1", "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": "1",
}  # fmt: skip
QUEUE = {"vllm.request.id": "cmpl-1"}
STEP = "ascend_opentelemetry.Schedule"
REQUEST = "ascend_opentelemetry.Request"


def encode(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [encode(item) for item in value]}}
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {kinds[type(value)]: str(value) if type(value) is int else value}


def pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": encode(value)} for key, value in attributes.items()]


def wrap(signal: str, content: Any, scope: str, resource: Mapping[str, Any]) -> dict[str, Any]:
    resources, scopes, items = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    }[signal]
    inner = {scopes: [{"scope": {"name": scope}, items: [content]}], "resource": {"attributes": pairs(resource)}}
    return {resources: [inner]}


def span(name: str, attributes: Mapping[str, Any], scope: str = REQUEST, kind: int = 1, **rest: Any) -> dict[str, Any]:
    content = {"traceId": "1", "spanId": "2", "name": name, "kind": kind, "attributes": pairs(attributes), **rest}
    return wrap("traces", content, scope, RESOURCE)


def findings(request: Mapping[str, Any], **options: Any) -> list[str]:
    check = LiveCheck(REGISTRY, **options)
    check.add(request)
    return sorted(check.findings)


def test_a_span_as_declared_is_fine() -> None:
    assert findings(span("queue", QUEUE)) == []


def test_spans_of_others_are_not_looked_at() -> None:
    assert findings(span("GET /", {"anything": 1}, "opentelemetry.instrumentation.fastapi")) == []
    assert findings(span("GET /", {}, "ascend_opentelemetry_of_others")) == []


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (span("queue", {**QUEUE, "vllm.new": 1}), "attribute vllm.new is not declared for it"),
        (span("queue", {**QUEUE, "gen_ai.usage.input_tokens": 1}), "attribute gen_ai.usage.input_tokens is not declared"),
        (span("queue", {}), "attribute vllm.request.id is required and missing"),
        (span("queue", {"vllm.request.id": 7}), "attribute vllm.request.id is 7, declared as string"),
        (span("queue", {"vllm.request.id": True}), "attribute vllm.request.id is True, declared as string"),
        (span("queue", QUEUE, STEP), f"span queue of {STEP}: not declared"),
        (span("queue", QUEUE, "ascend_opentelemetry"), "span queue of ascend_opentelemetry: not declared"),
        (span("queue", QUEUE, kind=2), "kind 2 is none of internal"),
        (span("queue", QUEUE, events=[{"name": "preempted"}]), "event preempted is not declared for it"),
        (span("queue", QUEUE, links=[{"traceId": "1"}]), "links are not declared for it"),
        (span("engine.step", {}, STEP, links=[{"attributes": pairs({"vllm.request.phase": "rest"})}]),
         "link: attribute vllm.request.phase is 'rest', declared as one of prefill, decode"),
        (span("modelExec", {}, "ascend_opentelemetry.Execute", events=[{"name": "exception", "attributes": []}]),
         "event exception: attribute exception.type is required and missing"),
        (span("llm_request", {"gen_ai.response.finish_reasons": ["stop", 1]}, kind=2),
         "attribute gen_ai.response.finish_reasons is ['stop', 1], declared as string[]"),
        (span("llm_request", {"gen_ai.request.temperature": 0}, kind=2), "temperature is 0, declared as double"),
        (span("engine.step", {"vllm.step.batch_size": True}, STEP), "batch_size is True, declared as int"),
    ],
)  # fmt: skip
def test_a_span_that_differs_is_found(request_: Mapping[str, Any], problem: str) -> None:
    assert any(problem in finding for finding in findings(request_)), findings(request_)


def test_a_timer_of_a_symbols_file_has_the_attributes_of_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "symbols.yaml"
    path.write_text(
        "- symbol: vllm.v1.core:Scheduler.make\n  domain: Schedule\n  attributes:\n    - name: size\n      expr: args[0]\n"
        "- symbol: vllm.v1.core:Scheduler.schedule\n  handler: ascend_opentelemetry.vllm:schedule\n  name: ours\n"
    )
    known = timers([path])
    assert known == {(STEP, "make"): {"size"}}
    assert findings(span("make", {"size": "3"}, STEP), known_timers=known) == []
    assert findings(span("make", {}, REQUEST), known_timers=known) == [f"span make of {REQUEST}: not declared"]
    assert findings(span("make", {"vllm.new": 1}, STEP), known_timers=known) == [f"span make of {STEP}: not declared"]


def test_a_timer_with_a_name_of_ours_hides_no_attribute() -> None:
    known = {(REQUEST, "queue"): {"size"}}
    assert findings(span("queue", {"size": "3"}), known_timers=known) == []
    (problem,) = findings(span("queue", {**QUEUE, "vllm.new": 1}), known_timers=known)
    assert problem.endswith("attribute vllm.new is not declared for it")


def test_what_others_add_is_named() -> None:
    assert findings(span("queue", {**QUEUE, "tier": "gold"}), added={"tier"}) == []


@pytest.mark.parametrize(
    ("resource", "found"),
    [
        ({**RESOURCE, "host.name": "a", "vllm.new": "x"}, ["resource: attribute vllm.new is not declared for it"]),
        ({**RESOURCE, "process.pid": "7"}, ["resource: attribute process.pid is '7', declared as int"]),
        ({"telemetry.distro.name": "ascend-opentelemetry", "service.name": "a"},
         [f"resource: attribute {key} is required and missing" for key in sorted(RESOURCE)
          if key not in ("service.name", "telemetry.distro.name")]),
        ({"service.name": "of another distribution", "vllm.process_id": "7"}, []),
        ({"service.name": 7}, ["resource: attribute service.name is 7, declared as string"]),
    ],
)  # fmt: skip
def test_the_resource_of_our_spans_is_looked_at(resource: Mapping[str, Any], found: list[str]) -> None:
    request = span("queue", QUEUE)
    request["resourceSpans"][0]["resource"]["attributes"] = pairs(resource)
    assert findings(request) == found


def metric(**fields: Any) -> dict[str, Any]:
    point = {"attributes": pairs({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm"})}
    content = {
        "name": "gen_ai.server.request.duration", "unit": "s", "histogram": {"dataPoints": [point]}, **fields
    }  # fmt: skip
    return wrap("metrics", {key: value for key, value in content.items() if value is not None}, REQUEST, RESOURCE)


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (metric(), []),
        (metric(histogram=None, exponentialHistogram={}), []),
        (metric(unit="ms"), ["has the unit ms, declared with s"]),
        (metric(name="vllm.new"), ["the registry does not have it"]),
        (metric(histogram=None, sum={"isMonotonic": True}), ["comes from a counter, declared as histogram"]),
        (metric(histogram=None, sum={}), ["comes from a updowncounter, declared as histogram"]),
        (metric(histogram=None, gauge={"dataPoints": [{"asInt": "1"}]}),
         ["attribute gen_ai.operation.name is required and missing",
          "attribute gen_ai.provider.name is required and missing",
          "comes from a gauge, declared as histogram", "has a value asInt, declared as double"]),
    ],
)  # fmt: skip
def test_a_metric_has_its_unit_instrument_value_and_attributes(request_: Mapping[str, Any], found: list[str]) -> None:
    assert [finding.split(": ", 1)[1] for finding in findings(request_)] == found


def test_a_log_record_of_ours_is_an_event_of_the_registry() -> None:
    fine = {"eventName": "exception", "attributes": pairs({"exception.type": "ValueError"})}
    assert findings(wrap("logs", fine, REQUEST, RESOURCE)) == []
    assert findings(wrap("logs", {"eventName": "vllm.new"}, REQUEST, RESOURCE)) == [
        "event vllm.new: the registry does not have it"
    ]
    assert findings(wrap("logs", {"body": {"stringValue": "text"}}, REQUEST, RESOURCE)) == [
        "event : the registry does not have it"
    ]


def test_a_file_is_read_line_by_line_and_other_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        "\n".join(json.dumps(line) for line in ({"kind": "step"}, span("queue", {}), span("queue", {}))) + "\n"
    )
    check = LiveCheck(REGISTRY)
    check.add_file(path)
    assert check.findings == {f"span queue of {REQUEST}: attribute vllm.request.id is required and missing": 2}
    assert check.seen == {"span queue": 2}
