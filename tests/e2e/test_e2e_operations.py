"""What vLLM is asked for, one golden tree each: its spans, their processes, and their attributes with types."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devtools.client import new_traceparent
from devtools.otlp_json import ERROR, Span
from tests.support.adapter import write_adapter
from tests.support.golden import STEP_TREE, Node, paths, tree, values
from tests.support.service import Service, serve
from tests.support.shapes import STAND_IN

pytestmark = pytest.mark.vllm

SUPPORT = Path(__file__).parents[1] / "support"
SPECULATION = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}
TRANSFER = {"kv_connector": "AnsweringConnector", "kv_role": "kv_both", "kv_connector_module_path": "transfer"}

API, ENGINE = "api_server", "engine_core"
Types = Mapping[str, type]

#: Of every ``llm_request`` that the engine has taken.
REQUEST: Types = {
    "gen_ai.operation.name": str,
    "gen_ai.provider.name": str,
    "gen_ai.request.id": str,
    "server.address": str,
    "server.port": int,
    "gen_ai.request.model": str,
    "gen_ai.response.model": str,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.response.finish_reasons": list,
    "gen_ai.latency.e2e": float,
}
#: Of one that has ended as it should.
ENDED: Types = {
    "gen_ai.usage.cache_read.input_tokens": int,
    "vllm.request.preemptions": int,
    "gen_ai.latency.time_in_queue": float,
    "gen_ai.latency.time_in_model_prefill": float,
    "gen_ai.latency.time_in_model_inference": float,
}
#: Of one that generates text.
SAMPLING: Types = {
    "gen_ai.request.temperature": float,
    "gen_ai.request.top_p": float,
    "gen_ai.request.max_tokens": int,
    "gen_ai.request.choice.count": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.latency.time_to_first_token": float,
}
BETWEEN_TOKENS: Types = {
    "vllm.request.inter_token_latency.mean": float,
    "vllm.request.inter_token_latency.max": float,
}
DECODED: Types = {**BETWEEN_TOKENS, "gen_ai.latency.time_in_model_decode": float}
GENERATION = {**REQUEST, **ENDED, **SAMPLING, **DECODED}
DRAFTS: Types = {"vllm.spec_decode.drafted_tokens": int, "vllm.spec_decode.accepted_tokens": int}
PEER: Types = {
    "vllm.kv_transfer.do_remote_prefill": bool,
    "vllm.kv_transfer.do_remote_decode": bool,
    "vllm.kv_transfer.remote_engine_id": str,
    "vllm.kv_transfer.remote_request_id": str,
    "vllm.kv_transfer.remote_host": str,
    "vllm.kv_transfer.remote_port": int,
}

QUEUE = Node("queue", ENGINE, {"vllm.request.id": str})
PREFILL_TYPES: Types = {
    "vllm.request.id": str,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.cache_read.input_tokens": int,
    "vllm.request.chunks": int,
}
DECODE_TYPES: Types = {"vllm.request.id": str, "gen_ai.usage.output_tokens": int, "vllm.request.preemptions": int}
PREFILL = Node("prefill", ENGINE, PREFILL_TYPES, ("scheduled", "first_token"))
DECODE = Node("decode", ENGINE, DECODE_TYPES, ("finished",))
SPECULATED = Node("decode", ENGINE, {**DECODE_TYPES, **DRAFTS}, ("finished",))


def request(attributes: Types, *below: Node) -> Node:
    return Node("llm_request", API, attributes, ("first_token",), below)


TEXT = request(GENERATION, QUEUE, PREFILL, SPECULATED)
TREES: dict[str, list[Node]] = {
    "chat": [
        request(
            {
                **GENERATION,
                "gen_ai.request.stream": bool,
                "gen_ai.request.seed": int,
                "gen_ai.request.stop_sequences": list,
                "gen_ai.request.frequency_penalty": float,
                "gen_ai.request.presence_penalty": float,
                "vllm.request.repetition_penalty": float,
            },
            QUEUE,
            PREFILL,
            SPECULATED,
        )
    ],
    "chunked": [
        request(
            GENERATION,
            QUEUE,
            Node("prefill", ENGINE, PREFILL_TYPES, ("scheduled", *["chunk"] * 4, "first_token")),
            SPECULATED,
        )
    ],
    "prompts": [TEXT, TEXT],
    "adapter": [request({**GENERATION, "vllm.lora.name": str}, QUEUE, PREFILL, SPECULATED)],
    "structured": [
        request(
            {**GENERATION, "vllm.request.structured_output": str, "gen_ai.output.type": str}, QUEUE, PREFILL, SPECULATED
        )
    ],
    "responses": [TEXT],
    "messages": [TEXT],
    "batch": [TEXT, TEXT],
    "tokens": [TEXT],
    "remote decode": [
        request(
            {**REQUEST, **ENDED, **SAMPLING, "gen_ai.latency.time_in_model_decode": float,
             "vllm.kv_transfer.do_remote_decode": bool},
            QUEUE,
            Node("prefill", ENGINE, {**PREFILL_TYPES, **PEER}, ("scheduled", "first_token", "finished")),
        )
    ],
    "remote prefill": [request({**GENERATION, **PEER}, QUEUE, PREFILL, SPECULATED)],
    "killed": [
        Node(
            "llm_request",
            API,
            {**REQUEST, **SAMPLING, **BETWEEN_TOKENS, "error.type": str},
            ("exception", "first_token"),
            (QUEUE, PREFILL, Node("decode", ENGINE, {**DECODE_TYPES, **DRAFTS}, (), (), True)),
            True,
        )
    ],
}  # fmt: skip
POOLED = Node("prefill", ENGINE, PREFILL_TYPES, ("scheduled", "finished"))
POOLING_TREES = {
    "embeddings": [
        Node("llm_request", API, {**REQUEST, **ENDED, "gen_ai.request.encoding_formats": list}, (), (QUEUE, POOLED))
    ],
    "score": [Node("llm_request", API, {**REQUEST, **ENDED}, (), (QUEUE, POOLED))] * 2,
    "rerank": [Node("llm_request", API, {**REQUEST, **ENDED}, (), (QUEUE, POOLED))] * 3,
}


class Asked:
    """Requests to a server, by their kind."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.bodies: dict[str, dict[str, Any]] = {}
        self._contexts: dict[str, str] = {}

    def context(self, kind: str) -> str:
        self._contexts[kind] = context = new_traceparent()
        return context

    def post(self, kind: str, path: str, **body: Any) -> dict[str, Any]:
        text = json.dumps({"model": "tiny", **body}).encode()
        headers = {"Content-Type": "application/json", "traceparent": self.context(kind)}
        call = urllib.request.Request(f"{self.service.server.url}{path}", text, headers)
        with urllib.request.urlopen(call, timeout=120) as answer:
            found = answer.read()
        self.bodies[kind] = {} if body.get("stream") else json.loads(found)
        return self.bodies[kind]

    def spans(self, kind: str) -> list[Span]:
        """Spans of ours in the trace of a request."""
        trace_id = self._contexts[kind].split("-")[1]
        return [
            span for span in self.service.spans()
            if span.trace_id == trace_id and span.scope.startswith("ascend_opentelemetry.")
        ]  # fmt: skip

    def requests(self, kind: str) -> list[Span]:
        found = [span for span in self.spans(kind) if span.name == "llm_request"]
        return sorted(found, key=lambda span: str(span.attributes["gen_ai.request.id"]))

    def trees(self, kind: str) -> list[Node]:
        spans = self.spans(kind)
        return [tree(spans, span) for span in self.requests(kind)]


def kill_worker(asked: Asked) -> None:
    """A worker dies while a request runs."""
    call = {"prompt": "hello world hello world", "max_tokens": 230, "ignore_eos": True}
    running = threading.Thread(
        target=lambda: asked.service.client.completion(**call, traceparent=asked.context("killed"))
    )
    # before the request, which may be over until all spans are read
    (worker,) = {span.resource["process.pid"] for span in asked.service.spans() if span.name == "modelRunnerExec"}
    before = len(asked.service.witness("step"))
    running.start()
    while len(asked.service.witness("step")) < before + 10:
        assert running.is_alive(), "the request is over"
        time.sleep(0.01)
    os.kill(worker, signal.SIGSTOP)  # so that the engine is in a step for sure
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    running.join(60)


@pytest.fixture(scope="module")
def generating(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """A server that drafts tokens, takes 32 of them a step, and has an adapter and a connector."""
    folder = tmp_path_factory.mktemp("generating")
    adapter = write_adapter(folder / "adapter")
    args = ["--max-num-batched-tokens", "32", "--enable-lora", "--max-lora-rank", "8", "--enable-scale-out"]
    args += ["--lora-modules", f"words={adapter}", "--speculative-config", json.dumps(SPECULATION)]
    args += ["--kv-transfer-config", json.dumps(TRANSFER)]
    path = [STAND_IN["PYTHONPATH"], *(str(SUPPORT / name) for name in ("numba_stand_in", "transfer"))]
    env = {"PYTHONPATH": ":".join(path), "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1", "WITNESS_STEP_MS": "2"}
    with serve(folder / "run", vllm_python, tiny_model, args=args, env=env) as service:
        asked = Asked(service)
        greedy = {"temperature": 0, "ignore_eos": True}
        asked.post(
            "chat", "/v1/chat/completions", messages=[{"role": "user", "content": "hello world"}], stream=True,
            max_tokens=12, seed=7, stop=["zzz"], frequency_penalty=0.5, presence_penalty=0.25, repetition_penalty=1.5,
            **greedy,
        )  # fmt: skip
        asked.post("chunked", "/v1/completions", prompt="hello world " * 20, max_tokens=12, **greedy)
        asked.post("prompts", "/v1/completions", prompt=["hello hello", "world world"], max_tokens=6, **greedy)
        asked.post("adapter", "/v1/completions", model="words", prompt="hello hello", max_tokens=6, **greedy)
        asked.post(
            "structured", "/v1/completions", prompt="hello hello", max_tokens=24, temperature=0,
            structured_outputs={"json": {"type": "object", "properties": {"a": {"const": "aaaaaa"}}, "required": ["a"]}},
        )  # fmt: skip
        asked.post("responses", "/v1/responses", input="hello hello", max_output_tokens=8, temperature=0)
        message = {"role": "user", "content": "hello hello"}
        asked.post("messages", "/v1/messages", messages=[message], max_tokens=8, temperature=0)
        asked.post(
            "batch", "/v1/chat/completions/batch", messages=[[message], [message]], max_tokens=8,
            add_generation_prompt=False, **greedy,  # so that both fit into one step
        )  # fmt: skip
        parameters = {"max_tokens": 8, **greedy}
        asked.post("tokens", "/inference/v1/generate", token_ids=[5, 6, 7], sampling_params=parameters)
        answer = asked.post(
            "remote decode", "/v1/completions", prompt="hello hello", max_tokens=1,
            kv_transfer_params={"do_remote_decode": True}, **greedy,
        )  # fmt: skip
        asked.post(
            "remote prefill", "/v1/completions", prompt="hello hello", max_tokens=6,
            kv_transfer_params=answer["kv_transfer_params"], **greedy,
        )  # fmt: skip
        kill_worker(asked)
    return asked


@pytest.fixture(scope="module")
def pooling(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The same model, whose hidden states are the answer."""
    folder = tmp_path_factory.mktemp("pooling")
    env = {**STAND_IN, "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1"}
    with serve(folder / "run", vllm_python, tiny_model, args=["--runner", "pooling"], env=env) as service:
        asked = Asked(service)
        asked.post("embeddings", "/v1/embeddings", input="hello world", encoding_format="float")
        asked.post("score", "/v1/score", queries="hello", documents="world")
        asked.post("rerank", "/v1/rerank", query="hello", documents=["world", "fox"])
    return asked


@pytest.mark.parametrize("kind", TREES)
def test_the_tree_of_a_generation(generating: Asked, kind: str) -> None:
    assert generating.trees(kind) == TREES[kind]


@pytest.mark.parametrize("kind", POOLING_TREES)
def test_the_tree_of_a_pooling_request(pooling: Asked, kind: str) -> None:
    assert pooling.trees(kind) == POOLING_TREES[kind]


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("chat", "chat"), ("responses", "chat"), ("messages", "chat"), ("batch", "chat"), ("tokens", "text_completion"),
     ("chunked", "text_completion"), ("embeddings", "embeddings"), ("score", "score"), ("rerank", "rerank")],
)  # fmt: skip
def test_each_request_names_its_operation(generating: Asked, pooling: Asked, kind: str, operation: str) -> None:
    asked = pooling if kind in POOLING_TREES else generating
    keys = ("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.response.model")
    for span in asked.requests(kind):
        assert values(span, *keys) == (operation, "tiny", "tiny")


def test_sampling_parameters_are_those_of_the_client(generating: Asked) -> None:
    (span,) = generating.requests("chat")
    found = {key: value for key, value in span.attributes.items() if ".request." in key}
    del found["gen_ai.request.id"], found["vllm.request.preemptions"]
    assert {key: value for key, value in found.items() if "inter_token" not in key} == {
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.max_tokens": 12,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["zzz"],
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": 0.25,
        "vllm.request.repetition_penalty": 1.5,
    }


def test_the_chunks_of_a_prompt_add_up(generating: Asked) -> None:
    (prefill,) = [span for span in generating.spans("chunked") if span.name == "prefill"]
    sizes = [event.attributes["vllm.request.scheduled_tokens"] for event in prefill.events[:-1]]
    assert sizes == [32, 32, 32, 32, 12]
    assert values(prefill, "gen_ai.usage.input_tokens", "vllm.request.chunks") == (sum(sizes), 5)
    assert len(prefill.links) == 5


def test_a_mean_lies_below_the_maximum_and_within_the_decode(generating: Asked) -> None:
    (span,) = generating.requests("chunked")
    mean, longest, tokens = values(
        span, "vllm.request.inter_token_latency.mean", "vllm.request.inter_token_latency.max",
        "gen_ai.usage.output_tokens",
    )  # fmt: skip
    decode = span.attributes["gen_ai.latency.time_in_model_decode"]
    assert 0 < mean <= longest <= span.attributes["gen_ai.latency.e2e"]
    assert mean * (tokens - 1) == pytest.approx(decode, abs=0.1)


def test_an_adapter_and_a_structure_are_named(generating: Asked) -> None:
    (span,) = generating.requests("adapter")
    assert values(span, "vllm.lora.name", "gen_ai.request.model", "gen_ai.response.model") == ("words",) * 3
    (span,) = generating.requests("structured")
    assert values(span, "vllm.request.structured_output", "gen_ai.output.type") == ("json", "json")


def test_drafts_of_requests_and_steps_are_those_that_vllm_counts(generating: Asked) -> None:
    spans = [span for span in generating.service.spans() if "vllm.spec_decode.drafted_tokens" in span.attributes]
    totals = {
        name: tuple(sum(span.attributes[key] for span in spans if span.name == name) for key in DRAFTS)
        for name in ("engine.step", "decode")
    }
    drafted, accepted = totals["engine.step"]
    assert totals["decode"] == (drafted, accepted)
    assert 0 < accepted <= drafted
    # a request's tokens: the first one of its prefill, then one and the accepted ones of each step
    (decode,) = [span for span in generating.spans("chunked") if span.name == "decode"]
    tokens, taken = values(decode, "gen_ai.usage.output_tokens", "vllm.spec_decode.accepted_tokens")
    assert len(decode.links) + 1 <= tokens <= len(decode.links) + 1 + taken


def test_the_tree_of_a_step_that_drafts(generating: Asked) -> None:
    (killed,) = generating.requests("killed")  # the worker's last moment is lost with it
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in generating.service.spans():
        traces[span.trace_id].append(span)
    steps = [
        trace for trace in traces.values()
        if any(span.name == "engine.step" and span.end < killed.start for span in trace)
    ]  # fmt: skip
    assert len(steps) > 30
    for trace in steps:
        assert paths(trace) == STEP_TREE + Counter({"draft < sample_tokens < engine.step": 1})


def test_prefill_and_decode_on_two_instances_are_linked(generating: Asked) -> None:
    (prefill,), (decode,) = generating.requests("remote decode"), generating.requests("remote prefill")
    assert [(link.trace_id, link.span_id, link.attributes) for link in decode.links] == [
        (prefill.trace_id, prefill.span_id, {"vllm.link.kind": "remote_prefill"})
    ]
    (engine,) = [span for span in generating.spans("remote decode") if span.name == "prefill"]
    assert decode.attributes["vllm.kv_transfer.remote_request_id"] == engine.attributes["vllm.request.id"]
    assert values(engine, *PEER) == values(decode, *PEER)
    # the context travels between the two, and the engine of the decode does not see it
    assert "traceparent" in generating.bodies["remote decode"]["kv_transfer_params"]
    assert "traceparent" not in generating.bodies["remote prefill"]["kv_transfer_params"]["seen"]


def test_a_step_that_the_engine_did_not_survive_has_failed_and_keeps_its_children(generating: Asked) -> None:
    (span,) = generating.requests("killed")
    assert span.attributes["error.type"] == "EngineDeadError"
    spans = generating.service.spans()
    (step,) = [span for span in spans if span.name == "engine.step" and span.status_code == ERROR]
    assert step.status_message == "the engine stopped"
    assert {span.name for span in spans if span.parent_id == step.span_id} >= {"batchFrameworkProcessing", "modelExec"}


def test_workers_say_that_their_times_are_the_hosts(generating: Asked) -> None:
    workers = {
        "modelRunnerExec",
        "preprocess",
        "forward",
        "postprocess",
        "sample_tokens",
        "sample",
        "bookkeep",
        "draft",
    }
    seen = {span.name: span.attributes["vllm.time.kind"] for span in generating.service.spans() if span.name in workers}
    assert seen == dict.fromkeys(workers, "host")


def of(service: Service, kind: str) -> tuple[Span, list[Span]]:
    """The ``llm_request`` of a request of the shared server, and its trace."""
    answer = service.answers[kind]
    (root,) = [
        span for span in service.spans()
        if re.fullmatch(rf"cmpl-{answer.request_id}-0", str(span.attributes.get("gen_ai.request.id")))
    ]  # fmt: skip
    return root, [span for span in service.spans() if span.trace_id == root.trace_id]


def test_the_tree_of_three_choices(mixed: Service) -> None:
    root, spans = of(mixed, "n-a")
    attributes = {key: kind for key, kind in GENERATION.items() if ".time_in_" not in key}  # vLLM's: of each choice
    found = tree(spans, root)
    assert sorted(found.below, key=lambda node: node.name) == [DECODE] * 3 + [PREFILL] * 3 + [QUEUE] * 3
    assert tree([], root) == Node("llm_request", API, {**attributes, "gen_ai.request.seed": int}, ("first_token",))


def test_the_tree_of_an_abort(mixed: Service) -> None:
    root, spans = of(mixed, "disconnect-a")
    attributes = {**REQUEST, **SAMPLING, **BETWEEN_TOKENS, "error.type": str, "gen_ai.request.stream": bool}
    assert tree(spans, root) == Node(
        "llm_request", API, attributes, ("first_token",), (QUEUE, PREFILL, DECODE), failed=True
    )
    assert values(root, "error.type", "gen_ai.response.finish_reasons") == ("abort", ["abort"])
    assert root.attributes["gen_ai.usage.output_tokens"] >= 3


def test_the_tree_of_a_refusal(mixed: Service) -> None:
    refused = {"gen_ai.operation.name": str, "gen_ai.provider.name": str, "gen_ai.request.model": str,
               "server.address": str, "server.port": int, "error.type": str,
               "http.response.status_code": int}  # fmt: skip
    roots = [span for span in mixed.spans() if span.attributes.get("error.type") == "NotFoundError"]
    for root in roots:
        assert tree(mixed.spans(), root) == Node("llm_request", API, refused, failed=True)
    assert len(roots) == 2


def test_the_tree_of_a_preempted_request(mixed: Service) -> None:
    kinds = [kind for kind in mixed.answers if kind.startswith("long-")]
    roots = [of(mixed, kind) for kind in kinds]
    preempted = [(root, spans) for root, spans in roots if root.attributes["vllm.request.preemptions"]]
    assert preempted
    for root, spans in preempted:
        found = tree(spans, root)
        assert (found.name, found.attributes) == ("llm_request", GENERATION)
        queue, prefill, decode = found.below
        assert (queue, prefill) == (QUEUE, PREFILL)
        count = root.attributes["vllm.request.preemptions"]
        assert decode.events == ("preempted", "resumed") * count + ("finished",)
        (span,) = [span for span in spans if span.parent_id == root.span_id and span.name == "decode"]
        assert span.attributes["vllm.request.preemptions"] == count
