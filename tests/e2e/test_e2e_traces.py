"""Traces of 24 requests to a real server."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from devtools.client import Answer
from devtools.otlp_json import ERROR, INTERNAL, SERVER, Span
from tests.support.service import Service

pytestmark = pytest.mark.vllm

#: Refused before the engine sees them.
REFUSED = ("too_long", "unknown_model")
PHASES = ("queue", "prefill", "decode")
#: vLLM's own start-up spans, which overlap as vLLM makes them.
STARTUP = "vllm."


def engine_spans(service: Service) -> list[Span]:
    return [span for span in service.spans() if span.scope.startswith("ascend_opentelemetry.")]


def traces_of(service: Service) -> dict[str, list[Span]]:
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in service.spans():
        traces[span.trace_id].append(span)
    return traces


def requests(service: Service) -> list[Span]:
    return [span for span in engine_spans(service) if span.name == "llm_request"]


def request_of(service: Service, answer: Answer) -> Span:
    """The llm_request span of an answer; there is exactly one."""
    (found,) = [
        span
        for span in requests(service)
        if re.fullmatch(rf"(cmpl|chatcmpl)-{answer.request_id}(-0)?", str(span.attributes.get("gen_ai.request.id")))
    ]
    return found


def test_every_request_has_one_trace(mixed: Service) -> None:
    traces = traces_of(mixed)
    seen = Counter(span.trace_id for span in requests(mixed))
    # 24 and the one that warmed up
    assert len(mixed.answers) == 24
    assert len(seen) == 25
    assert set(seen.values()) == {1}
    for kind, answer in mixed.answers.items():
        if kind.split("-")[0] in REFUSED:
            continue
        spans = traces[request_of(mixed, answer).trace_id]
        assert len({span.resource["process.pid"] for span in spans}) >= 2, kind
        assert {"queue", "prefill"} <= {span.name for span in spans}, kind


def test_span_ids_are_unique_and_parents_exist(mixed: Service) -> None:
    spans = mixed.spans()
    ids = Counter((span.trace_id, span.span_id) for span in spans)
    assert [key for key, count in ids.items() if count > 1] == []
    remote = {answer.traceparent.split("-")[2] for answer in mixed.answers.values() if answer.traceparent}
    orphans = [
        span for span in spans
        if span.parent_id and (span.trace_id, span.parent_id) not in ids and span.parent_id not in remote
    ]  # fmt: skip
    assert [(span.name, span.parent_id) for span in orphans] == []


def test_children_lie_within_their_parents(mixed: Service) -> None:
    spans = mixed.spans()
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    late = []
    for span in spans:
        parent = by_id.get((span.trace_id, span.parent_id))
        if parent is None or span.scope.startswith(STARTUP):
            continue
        if span.start < parent.start - 1_000_000 or span.end > parent.end + 1_000_000:
            late.append((parent.name, span.name, (span.start - parent.start) / 1e6, (span.end - parent.end) / 1e6))
    assert late == []


def test_a_refused_request_has_one_trace_with_error_status(mixed: Service) -> None:
    refused = [span for span in requests(mixed) if "gen_ai.request.id" not in span.attributes]
    assert sorted(span.attributes["error.type"] for span in refused) == [
        "NotFoundError", "NotFoundError", "VLLMValidationError", "VLLMValidationError",
    ]  # fmt: skip
    for span in refused:
        assert span.status_code == ERROR
        assert span.attributes["gen_ai.operation.name"] == "text_completion"
        phases = [other for other in mixed.spans() if other.trace_id == span.trace_id and other.name in PHASES]
        assert phases == []
    (unknown, _) = [span for span in refused if span.attributes["error.type"] == "NotFoundError"]
    assert unknown.attributes["gen_ai.request.model"] == "no-such-model"
    assert unknown.attributes["http.response.status_code"] == 404
    assert "no-such-model" in unknown.status_message


def test_a_disconnect_ends_the_request_as_aborted(mixed: Service) -> None:
    span = request_of(mixed, mixed.answers["disconnect-a"])
    assert span.status_code == ERROR
    assert span.attributes["error.type"] == "abort"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["abort"]
    names = {other.name for other in mixed.spans() if other.parent_id == span.span_id}
    assert names == set(PHASES)


@pytest.mark.parametrize("kind", ["completion-a", "chat-a", "stream-a", "stop-a", "n-b", "long-3"])
def test_token_counts_are_those_of_the_client(mixed: Service, kind: str) -> None:
    answer = mixed.answers[kind]
    span = request_of(mixed, answer)
    assert span.attributes["gen_ai.usage.input_tokens"] == answer.usage["prompt_tokens"]
    assert span.attributes["gen_ai.usage.output_tokens"] == answer.usage["completion_tokens"]
    assert span.attributes["gen_ai.response.finish_reasons"] == answer.finish_reasons
    assert span.attributes["gen_ai.request.model"] == "tiny"
    assert span.attributes["gen_ai.operation.name"] == (
        "chat" if kind[:-2] in ("chat", "stream") else "text_completion"
    )
    assert span.status_code != ERROR


def test_parallel_sampling_is_one_request_with_phases_of_each_choice(mixed: Service) -> None:
    span = request_of(mixed, mixed.answers["n-a"])
    assert span.attributes["gen_ai.request.choice.count"] == 3
    children = Counter(other.name for other in mixed.spans() if other.parent_id == span.span_id)
    assert children == {"queue": 3, "prefill": 3, "decode": 3}


def test_preemptions_are_events_of_the_phases(mixed: Service) -> None:
    events = [event.name for span in engine_spans(mixed) if span.name in PHASES for event in span.events]
    preempted = mixed.metrics[1]
    base = mixed.metrics[0]
    (key,) = [key for key in preempted if key.startswith("vllm:num_preemptions_total")]
    count = preempted[key] - base[key]
    assert count > 0, "the cache was not small enough"
    assert events.count("preempted") == count
    assert events.count("resumed") == count
    decodes = [span for span in engine_spans(mixed) if span.name == "decode"]
    assert sum(span.attributes["vllm.request.preemptions"] for span in decodes) == count


def test_a_client_traceparent_is_continued(mixed: Service) -> None:
    answer = mixed.answers["long-0"]
    assert answer.traceparent is not None
    _, trace_id, parent_id, _ = answer.traceparent.split("-")
    span = request_of(mixed, answer)
    assert span.trace_id == trace_id
    spans = traces_of(mixed)[trace_id]
    (top,) = [other for other in spans if other.parent_id == parent_id]
    assert top.kind == SERVER
    assert span.parent_id == top.span_id
    assert span.kind == INTERNAL


def test_steps_are_traces_of_their_own_and_linked_both_ways(mixed: Service) -> None:
    spans = engine_spans(mixed)
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    steps = [span for span in spans if span.name == "engine.step"]
    assert steps
    for step in steps:
        assert step.parent_id == ""
        names = Counter(span.name for span in spans if span.trace_id == step.trace_id)
        assert names["batchFrameworkProcessing"] == names["modelExec"] == names["update_from_output"] == 1
        assert names["modelRunnerExec"] == names["forward"] == 1
        assert len(step.links) == step.attributes["vllm.step.batch_size"]
        for link in step.links:
            assert by_id[link.trace_id, link.span_id].name == link.attributes["vllm.request.phase"]
    prefills = [span for span in spans if span.name == "prefill"]
    for prefill in prefills:
        first = [link for link in prefill.links if link.attributes.get("vllm.step.position") == "first"]
        assert len(first) == 1
        step = by_id[first[0].trace_id, first[0].span_id]
        assert step.name == "engine.step"
        assert (prefill.trace_id, prefill.span_id) in [(link.trace_id, link.span_id) for link in step.links]


def test_at_the_default_ratio_no_link_dangles(mixed: Service) -> None:
    spans = engine_spans(mixed)
    ids = {(span.trace_id, span.span_id) for span in spans}
    links = [link for span in spans for link in span.links]
    assert len(links) > 48
    assert [link for link in links if (link.trace_id, link.span_id) not in ids] == []
