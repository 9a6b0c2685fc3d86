"""Servers of several shapes, and what each of them must have recorded, counted by the witness."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devtools.otlp_json import Span
from tests.support import npu_stand_in
from tests.support.contract import Row, check, read_rows
from tests.support.service import WITNESS, Service, serve

STAND_IN = {"PYTHONPATH": f"{WITNESS}:{WITNESS.with_name('stand_in')}"}
CLIENTS = 8
STEP_SPANS = ("batchFrameworkProcessing", "modelExec", "update_from_output")


@dataclass(frozen=True)
class Shape:
    """How a server is started, and the processes that it then has.

    ``instrument`` False starts it without ``opentelemetry-instrument``: vLLM's plugin is the only way in. With ``npu`` it
    has the stand-ins of the NPU's driver and of torch_npu, and all that measures them is on.
    """

    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    instrument: bool = True
    api_servers: int = 1
    engines: int = 1
    workers: int = 1
    npu: bool = False


SHAPES = {
    "two workers": Shape(
        args=["--tensor-parallel-size", "2", "--disable-log-stats"],
        env={"VLLM_CPU_OMP_THREADS_BIND": "0|1"},
        instrument=False,
        workers=2,
    ),
    "forked": Shape(env=STAND_IN | {"PYTHONPATH": f"{STAND_IN['PYTHONPATH']}:{npu_stand_in.PYTHON}"}, npu=True),
    "asynchronous": Shape(env=STAND_IN | {"STAND_IN_ASYNC": "1"}),
    "data parallel": Shape(
        # as many API servers as engines is vLLM's default
        args=["--data-parallel-size", "2"], env={"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}, api_servers=2, engines=2,
    ),
    "two API servers": Shape(args=["--api-server-count", "2"], api_servers=2),
}  # fmt: skip


@contextmanager
def running(folder: Path, python: Path, model: Path, shape: Shape) -> Iterator[Service]:
    """A server of a shape with every step traced, warmed up by one request."""
    env = {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1", **shape.env}
    config: dict[str, object] = {"enable": 1, "prof_dir": str(folder / "prof")}
    if shape.npu:
        env |= npu_stand_in.variables(folder / "driver")
        config["npu_memory_usage_freq"] = 10
    with serve(
        folder, python, model, config=json.dumps(config), args=shape.args, env=env, instrument=shape.instrument
    ) as service:
        # /health is answered by the first of several API servers that listens
        deadline = time.monotonic() + 60
        while service.server.log().count("Application startup complete") < shape.api_servers:
            assert time.monotonic() < deadline, "not all API servers have started"
            time.sleep(0.1)
        service.answers["warm-up"] = service.client.completion(max_tokens=2)
        yield service


def ask(service: Service, requests: int) -> None:
    """Requests of different lengths, ``CLIENTS`` at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = pool.map(
            lambda index: service.client.completion(f"hello {index}", max_tokens=16 + index, ignore_eos=True),
            range(requests),
        )
        service.answers |= {f"request-{index}": answer for index, answer in enumerate(answers)}


def ours(service: Service, name: str) -> list[Span]:
    return [span for span in service.spans() if span.name == name and span.scope.startswith("ascend_opentelemetry.")]


def by_name(service: Service) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(service.profile):
        rows[row.name].append(row)
    return rows


def assert_complete(service: Service, shape: Shape) -> None:
    """Every request and step is there once: as spans, and as rows with the scheduler's own numbers."""
    assert {answer.status for answer in service.answers.values()} == {200}
    sent = sorted(f"cmpl-{answer.request_id}-0" for answer in service.answers.values())
    steps = [entry["tokens"] for entry in service.witness("step")]
    assert len(steps) > 20

    assert sorted(span.attributes["gen_ai.request.id"] for span in ours(service, "llm_request")) == sent
    for phase in ("queue", "prefill", "decode"):
        assert len(ours(service, phase)) == len(sent), phase
    for name in ("engine.step", *STEP_SPANS):
        assert len(ours(service, name)) == len(steps), name
    for name in ("modelRunnerExec", "forward", "sample_tokens"):
        assert len(ours(service, name)) == len(steps) * shape.workers, name

    rows = by_name(service)
    assert sorted(row.rids[0] for row in rows["httpReq"]) == sorted(row.rids[0] for row in rows["httpRes"]) == sent
    expected = Counter(frozenset(step.items()) for step in steps)
    for name in ("batchFrameworkProcessing", "modelExec"):
        found = Counter(
            frozenset((entry["rid"], entry["num_scheduled_tokens"]) for entry in row.args["rid"]) for row in rows[name]
        )
        assert found == expected, name
    batches = Counter(frozenset(step) for step in steps for _ in range(shape.workers))
    for name in ("modelRunnerExec", "forward"):
        assert Counter(frozenset(row.rids) for row in rows[name]) == batches, name
    assert check(service.profile, complete=True) == []


def assert_one_tree(service: Service) -> None:
    """No span twice, none without its parent."""
    spans = service.spans()
    ids = Counter((span.trace_id, span.span_id) for span in spans)
    assert [(span.name, span.resource["process.pid"]) for span in spans if ids[span.trace_id, span.span_id] > 1] == []
    assert [span.name for span in spans if span.parent_id and (span.trace_id, span.parent_id) not in ids] == []
