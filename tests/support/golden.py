"""The trees that a request and an engine step must have, by whatever way they leave the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from devtools.otlp_json import ERROR, INTERNAL, Span

_PHASES = ("queue", "prefill", "decode")


def request_tree(path: str, *, choices: int = 1, refused: bool = False) -> Counter[str]:
    """Paths of the spans of a request's trace: each span's name and those above it.

    Args:
        path: of the URL.
        choices: ``n`` of the request.
        refused: the engine never saw it.
    """
    root = f"POST {path}"
    phases = {} if refused else {f"{name} < llm_request < {root}": choices for name in _PHASES}
    return Counter({root: 1, f"llm_request < {root}": 1, **phases})


#: Paths of the spans of a step's trace on one worker.
STEP_TREE = Counter(
    {
        "engine.step": 1,
        "batchFrameworkProcessing < engine.step": 1,
        "modelExec < engine.step": 1,
        "update_from_output < engine.step": 1,
        "modelRunnerExec < engine.step": 1,
        "preprocess < modelRunnerExec < engine.step": 1,
        "forward < modelRunnerExec < engine.step": 1,
        "postprocess < modelRunnerExec < engine.step": 1,
        "sample_tokens < engine.step": 1,
        "sample < sample_tokens < engine.step": 1,
        "bookkeep < sample_tokens < engine.step": 1,
    }
)

#: Kind, scope, and the attributes with their types, of each of our spans; below an HTTP span ``llm_request`` is internal.
SPANS: dict[str, tuple[int, str, dict[str, type]]] = {
    "llm_request": (
        INTERNAL,
        "ascend_opentelemetry.Request",
        {
            "gen_ai.operation.name": str,
            "gen_ai.provider.name": str,
            "gen_ai.request.id": str,
            "server.address": str,
            "server.port": int,
            "gen_ai.request.model": str,
            "gen_ai.response.model": str,
            "gen_ai.request.temperature": float,
            "gen_ai.request.top_p": float,
            "gen_ai.request.max_tokens": int,
            "gen_ai.request.choice.count": int,
            "gen_ai.usage.input_tokens": int,
            "gen_ai.usage.output_tokens": int,
            "gen_ai.usage.cache_read.input_tokens": int,
            "gen_ai.response.finish_reasons": list,
            "vllm.request.preemptions": int,
            "gen_ai.latency.e2e": float,
            "gen_ai.latency.time_to_first_token": float,
            "vllm.request.inter_token_latency.mean": float,
            "vllm.request.inter_token_latency.max": float,
            "gen_ai.latency.time_in_queue": float,
            "gen_ai.latency.time_in_model_prefill": float,
            "gen_ai.latency.time_in_model_decode": float,
            "gen_ai.latency.time_in_model_inference": float,
        },
    ),
    "queue": (INTERNAL, "ascend_opentelemetry.Request", {"vllm.request.id": str}),
    "prefill": (
        INTERNAL,
        "ascend_opentelemetry.Request",
        {
            "vllm.request.id": str,
            "gen_ai.usage.input_tokens": int,
            "gen_ai.usage.cache_read.input_tokens": int,
            "vllm.request.chunks": int,
        },
    ),
    "decode": (
        INTERNAL,
        "ascend_opentelemetry.Request",
        {"vllm.request.id": str, "gen_ai.usage.output_tokens": int, "vllm.request.preemptions": int},
    ),
    "engine.step": (
        INTERNAL,
        "ascend_opentelemetry.Schedule",
        {
            "vllm.data_parallel.rank": int,
            "vllm.step.batch_size": int,
            "vllm.step.scheduled_tokens": int,
            "vllm.step.new_requests": int,
            "vllm.step.preempted_requests": int,
            "vllm.step.resumed_requests": int,
            "vllm.step.running_requests": int,
            "vllm.step.waiting_requests": int,
            "vllm.kv_cache.blocks.used": int,
            "vllm.kv_cache.blocks.free": int,
            "vllm.kv_cache.blocks.total": int,
        },
    ),
    "batchFrameworkProcessing": (INTERNAL, "ascend_opentelemetry.Schedule", {}),
    "update_from_output": (INTERNAL, "ascend_opentelemetry.Schedule", {}),
    "modelExec": (INTERNAL, "ascend_opentelemetry.Execute", {}),
    "modelRunnerExec": (
        INTERNAL,
        "ascend_opentelemetry.Execute",
        {
            "vllm.step.batch_size": int,
            "vllm.worker.rank": int,
            "vllm.data_parallel.rank": int,
            "vllm.tensor_parallel.rank": int,
            "vllm.pipeline_parallel.rank": int,
            "vllm.time.kind": str,
        },
    ),
    "forward": (INTERNAL, "ascend_opentelemetry.Execute", {"vllm.time.kind": str}),
    "sample_tokens": (INTERNAL, "ascend_opentelemetry.Execute", {"vllm.time.kind": str}),
}
#: Of an ``llm_request`` whose client has asked for it.
ASKED: dict[str, type] = {"gen_ai.request.seed": int, "gen_ai.request.stream": bool}
#: Names of the events of a span, and the types of their attributes.
EVENTS: dict[str, dict[str, dict[str, type]]] = {
    "llm_request": {"first_token": {}},
    "prefill": {"scheduled": {"vllm.request.scheduled_tokens": int}, "first_token": {}},
    "decode": {"finished": {}},
}


def paths(spans: Iterable[Span]) -> Counter[str]:
    """Each span of a trace as its name and those above it: ``queue < llm_request < POST ...``."""
    spans = list(spans)
    by_id = {span.span_id: span for span in spans}
    found: Counter[str] = Counter()
    for span in spans:
        names = [span.name]
        while span.parent_id in by_id:
            span = by_id[span.parent_id]
            names.append(span.name)
        found[" < ".join(names)] += 1
    return found


@dataclass(frozen=True)
class Node:
    """A span of ours as a test expects it: name, process, types of its attributes, events in order, what is below it."""

    name: str
    process: str
    attributes: Mapping[str, type]
    events: tuple[str, ...] = ()
    below: tuple[Node, ...] = ()
    failed: bool = False


def tree(spans: Iterable[Span], root: Span) -> Node:
    """The spans below ``root``, and itself, by their start."""
    spans = list(spans)
    below = sorted((span for span in spans if span.parent_id == root.span_id), key=lambda span: (span.start, span.end))
    return Node(
        root.name,
        root.resource["vllm.process_kind"],
        {key: type(value) for key, value in root.attributes.items()},
        tuple(event.name for event in root.events),
        tuple(tree(spans, span) for span in below),
        root.status_code == ERROR,
    )


def values(span: Span, *keys: str) -> tuple[Any, ...]:
    """Values of some attributes; None for one that is not there."""
    return tuple(span.attributes.get(key) for key in keys)
