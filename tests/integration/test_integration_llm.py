"""The real vLLM in one process: ``LLM(...)`` of a plain script, all that it records in one run."""

from __future__ import annotations

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from devtools.otlp_json import ERROR, SERVER, Span
from devtools.otlp_receiver import OtlpReceiver
from devtools.server import DEFAULT_ENV, clean_environment
from tests.support.contract import Row, check, read_meta, read_rows

pytestmark = pytest.mark.vllm

#: Statistics are off, as ``LLM`` does by default. The steps are counted by a wrapper that shares nothing with ours.
SCRIPT = """
import json, os, sys
from vllm import LLM, SamplingParams
from vllm.v1.engine.core import EngineCore

steps = []
original = EngineCore.step

def step(core):
    outputs, executed = original(core)
    if executed:
        steps.append(sum(len(output.new_token_ids) for out in outputs.values() for output in out.outputs))
    return outputs, executed

EngineCore.step = step
llm = LLM(sys.argv[1], max_model_len=256, enforce_eager=True, max_num_seqs=8, seed=0)
assert llm.llm_engine.log_stats is False
params = [
    SamplingParams(temperature=0, max_tokens=8, ignore_eos=True),
    SamplingParams(temperature=0.9, max_tokens=6, n=2, ignore_eos=True),
    SamplingParams(temperature=0, max_tokens=1, ignore_eos=True),
    SamplingParams(temperature=0, max_tokens=12, ignore_eos=True),
]
outputs = llm.generate(["hello", "hello world", "world", "one two three"], params, use_tqdm=False)
answers = [
    {
        "id": output.request_id,
        "prompt": len(output.prompt_token_ids),
        "tokens": [len(choice.token_ids) for choice in output.outputs],
        "reasons": [choice.finish_reason for choice in output.outputs],
    }
    for output in outputs
]
with open(sys.argv[2], "w") as file:
    json.dump({"answers": answers, "steps": steps, "pid": os.getpid()}, file)
"""


@dataclass
class Run:
    """What the script saw, and what was exported."""

    log: str
    answers: Sequence[Mapping[str, Any]]
    #: Tokens of each engine step that ran the model.
    steps: Sequence[int]
    pid: int
    spans: Sequence[Span]
    profile: Path

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def rows(self, name: str) -> list[Row]:
        return [row for row in read_rows(self.profile) if row.name == name]

    def request(self, answer: Mapping[str, Any]) -> Span:
        (found,) = [span for span in self.named("llm_request") if span.attributes["gen_ai.request.id"] == answer["id"]]
        return found


@pytest.fixture(scope="module")
def llm(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("llm")
    script, config, result = folder / "script.py", folder / "config.json", folder / "result.json"
    script.write_text(SCRIPT)
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "prof")}))
    with OtlpReceiver(folder / "traces.jsonl") as receiver:
        env = clean_environment() | DEFAULT_ENV
        env |= {
            "OTEL_PYTHON_DISTRO": "ascend",
            "OTEL_PYTHON_CONFIGURATOR": "ascend",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint or "",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
            "SERVICE_PROF_CONFIG_PATH": str(config),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        command = [str(vllm_python.parent / "opentelemetry-instrument"), str(vllm_python), str(script)]
        done = subprocess.run(
            [*command, str(tiny_model), str(result)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, cwd=folder, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        spans = receiver.spans()
    seen = json.loads(result.read_text())
    return Run(done.stdout, seen["answers"], seen["steps"], seen["pid"], spans, folder / "prof")


def test_every_request_is_one_trace(llm: Run) -> None:
    assert len(llm.answers) == 4
    assert len(llm.named("llm_request")) == 4
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in llm.spans:
        by_trace[span.trace_id].append(span)
    for answer in llm.answers:
        root = llm.request(answer)
        choices, trace = len(answer["tokens"]), by_trace[root.trace_id]
        assert (root.parent_id, root.kind, root.status_code == ERROR) == ("", SERVER, False)
        expected = {"llm_request": 1, "queue": choices, "prefill": choices}
        if max(answer["tokens"]) > 1:
            expected["decode"] = choices
        assert Counter(span.name for span in trace) == expected
        assert {span.parent_id for span in trace if span is not root} == {root.span_id}
        assert [event.name for event in root.events] == ["first_token"]


def test_token_counts_are_those_of_the_outputs(llm: Run) -> None:
    assert [answer["tokens"] for answer in llm.answers] == [[8], [6, 6], [1], [12]]
    for answer in llm.answers:
        found = llm.request(answer).attributes
        assert found["gen_ai.usage.input_tokens"] == answer["prompt"]
        assert found["gen_ai.usage.output_tokens"] == sum(answer["tokens"])
        assert found["gen_ai.response.finish_reasons"] == answer["reasons"]
        assert found["gen_ai.request.choice.count"] == len(answer["tokens"])
        assert found["gen_ai.operation.name"] == "text_completion"
        assert "gen_ai.latency.time_in_queue" not in found  # vLLM's statistics are off
    decoded = sorted(span.attributes["gen_ai.usage.output_tokens"] for span in llm.named("decode"))
    assert decoded == [6, 6, 8, 12]


def test_phases_follow_one_another_within_their_request(llm: Run) -> None:
    by_id = {(span.trace_id, span.span_id): span for span in llm.spans}
    phases: dict[str, list[Span]] = defaultdict(list)
    for name in ("queue", "prefill", "decode"):
        for span in llm.named(name):
            phases[span.attributes["vllm.request.id"]].append(span)
    assert len(phases) == 5
    for spans in phases.values():
        root = by_id[spans[0].trace_id, spans[0].parent_id]
        for before, after in pairwise(spans):
            assert before.end == after.start
        assert root.start - 1_000_000 <= spans[0].start
        assert spans[-1].end <= root.end + 1_000_000


def test_every_step_is_a_trace_linked_with_its_requests(llm: Run) -> None:
    by_id = {(span.trace_id, span.span_id): span for span in llm.spans}
    steps = llm.named("engine.step")
    assert len(steps) == len(llm.steps)
    for step in steps:
        assert step.parent_id == ""
        names = Counter(span.name for span in llm.spans if span.trace_id == step.trace_id)
        for name in ("batchFrameworkProcessing", "modelExec", "modelRunnerExec", "forward", "update_from_output"):
            assert names[name] == 1, name
        assert len(step.links) == step.attributes["vllm.step.batch_size"]
        for link in step.links:
            assert by_id[link.trace_id, link.span_id].name == link.attributes["vllm.request.phase"]
    for name, position, index in (("prefill", "first", 0), ("decode", "last", -1)):
        for span in llm.named(name):
            assert span.links[index].attributes["vllm.step.position"] == position
    forth = {(step.span_id, link.span_id) for step in steps for link in step.links}
    back = {
        (link.span_id, span.span_id)
        for name in ("prefill", "decode")
        for span in llm.named(name)
        for link in span.links
    }
    assert forth == back


def test_spans_lie_within_their_parents_and_no_parent_is_missing(llm: Run) -> None:
    ours = [span for span in llm.spans if span.scope.startswith("ascend_opentelemetry")]
    by_id = {(span.trace_id, span.span_id): span for span in llm.spans}
    assert len(by_id) == len(llm.spans)
    children = [span for span in ours if span.parent_id]
    parents = [by_id[span.trace_id, span.parent_id] for span in children]
    outside = [
        (parent.name, child.name)
        for parent, child in zip(parents, children, strict=True)
        if child.start < parent.start - 1_000_000 or child.end > parent.end + 1_000_000
    ]
    assert outside == []


def test_the_native_file_keeps_the_contract(llm: Run) -> None:
    assert check(llm.profile, complete=True) == []
    (file,) = llm.profile.glob("*/Trace_Service/*.db")
    assert file.name.endswith(f"-{llm.pid}.db")
    assert read_meta(file)["dpRankId"] == "0"


def test_native_rows_are_those_of_the_steps_with_tokens(llm: Run) -> None:
    names = Counter(row.name for row in read_rows(llm.profile))
    for name in ("batchFrameworkProcessing", "modelExec", "modelRunnerExec", "forward", "KVCacheStatus"):
        assert names[name] == len(llm.steps), name
    for name in ("httpReq", "tokenize", "httpRes", "CacheHitRate", "Free"):
        assert names[name] == 5, name
    lists = [row.args["rid"] for row in llm.rows("batchFrameworkProcessing")]
    assert lists == [row.args["rid"] for row in llm.rows("modelExec")]
    # each request runs once for its prompt and once for every token after the first
    runs = Counter(entry["rid"] for rid in lists for entry in rid)
    assert sorted(runs.values()) == [1, 6, 6, 8, 12]
    assert sum(runs.values()) == sum(llm.steps)


def test_native_token_counts_are_those_of_the_outputs(llm: Run) -> None:
    responses = [(row.args["recvTokenSize="], row.args["replyTokenSize="]) for row in llm.rows("httpRes")]
    expected = [(answer["prompt"], tokens) for answer in llm.answers for tokens in answer["tokens"]]
    assert sorted(responses) == sorted(expected)


def test_nothing_was_said_but_that_profiling_is_on(llm: Run) -> None:
    ours = [line for line in llm.log.splitlines() if "ascend_opentelemetry" in line and " WARNING" in line.upper()]
    assert ours == []
