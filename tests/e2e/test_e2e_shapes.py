"""Servers of several processes: tensor and data parallel, forked workers, asynchronous steps, several API servers.

What each of them must have recorded is counted by an independent wrapper of the scheduler.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from devtools.otlp_json import Span
from tests.support.contract import Row, check, read_meta, read_rows
from tests.support.service import WITNESS, Service, serve

pytestmark = pytest.mark.vllm

STAND_IN = {"PYTHONPATH": f"{WITNESS}:{WITNESS.with_name('stand_in')}"}
REQUESTS = 16
CLIENTS = 8
#: How often the shutdown is tried with each sink.
RUNS = int(os.environ.get("ASCEND_OTEL_TEST_SHUTDOWNS", "1"))
STEP_SPANS = ("batchFrameworkProcessing", "modelExec", "update_from_output")


@dataclass(frozen=True)
class Shape:
    """How a server is started, and the processes that it then has.

    ``instrument`` False starts it without ``opentelemetry-instrument``: vLLM's plugin is the only way in.
    """

    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    instrument: bool = True
    api_servers: int = 1
    engines: int = 1
    workers: int = 1


SHAPES = {
    "two workers": Shape(
        args=["--tensor-parallel-size", "2", "--disable-log-stats"],
        env={"VLLM_CPU_OMP_THREADS_BIND": "0|1"},
        instrument=False,
        workers=2,
    ),
    "forked": Shape(env=STAND_IN),
    "asynchronous": Shape(env=STAND_IN | {"STAND_IN_ASYNC": "1"}),
    "data parallel": Shape(
        # as many API servers as engines is vLLM's default
        args=["--data-parallel-size", "2"], env={"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}, api_servers=2, engines=2,
    ),
    "two API servers": Shape(args=["--api-server-count", "2"], api_servers=2),
}  # fmt: skip

slow = pytest.mark.skipif(
    os.environ.get("ASCEND_OTEL_TEST_SLOW") != "1", reason="100 s and 7 GB of memory: set ASCEND_OTEL_TEST_SLOW=1"
)
every_shape = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow if shape.api_servers > 1 else ()) for name, shape in SHAPES.items()]
)

Served = Callable[[str], Service]


@contextmanager
def running(folder: Path, python: Path, model: Path, shape: Shape) -> Iterator[Service]:
    """A server of a shape with every step traced, warmed up by one request."""
    env = {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1", **shape.env}
    with serve(folder, python, model, args=shape.args, env=env, instrument=shape.instrument) as service:
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


@pytest.fixture(scope="module")
def served(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The run of a shape, by its name: made once and over."""

    @functools.cache
    def run(name: str) -> Service:
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        with running(folder, vllm_python, tiny_model, SHAPES[name]) as service:
            ask(service, REQUESTS)
        return service

    return run


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


@every_shape
def test_requests_and_steps_are_complete(served: Served, name: str) -> None:
    assert_complete(served(name), SHAPES[name])


@every_shape
def test_no_span_is_twice_or_an_orphan(served: Served, name: str) -> None:
    assert_one_tree(served(name))


@every_shape
def test_a_step_holds_what_each_of_its_workers_did(served: Served, name: str) -> None:
    service, shape = served(name), SHAPES[name]
    children: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in service.spans():
        children[span.trace_id, span.parent_id].append(span)
    engines = set()
    for step in ours(service, "engine.step"):
        assert step.parent_id == ""
        below = children[step.trace_id, step.span_id]
        times = dict.fromkeys(STEP_SPANS, 1) | dict.fromkeys(("modelRunnerExec", "sample_tokens"), shape.workers)
        assert Counter(span.name for span in below) == times
        runners = [span for span in below if span.name == "modelRunnerExec"]
        assert sorted(span.attributes["vllm.worker.rank"] for span in runners) == list(range(shape.workers))
        assert len({span.resource["process.pid"] for span in runners}) == shape.workers
        # the engine waits for the answer of rank 0 alone: what the others do later is still of this step
        others = {span.resource["process.pid"] for span in runners if span.attributes["vllm.worker.rank"]}
        for span in below:
            assert span.start >= step.start - 1_000_000, span.name
            assert span.resource["process.pid"] in others or span.end <= step.end + 1_000_000, span.name
        for runner in runners:
            (forward,) = [span for span in children[step.trace_id, runner.span_id] if span.name == "forward"]
            assert forward.resource == runner.resource
        engines.add(step.resource["process.pid"])
    assert len(engines) == shape.engines


@every_shape
def test_each_process_has_its_own_file_and_instance_id(served: Served, name: str) -> None:
    service, shape = served(name), SHAPES[name]
    files = list(service.profile.glob("*/Trace_Service/*.db"))
    assert len({file.parent for file in files}) == 1
    of_process = {int(file.stem.rpartition("-")[2]): {row.name for row in read_rows(file)} for file in files}
    assert len(of_process) == len(files)
    writers = {
        marker: {pid for pid, names in of_process.items() if marker in names}
        for marker in ("httpReq", "batchFrameworkProcessing", "modelRunnerExec")
    }
    assert [len(pids) for pids in writers.values()] == [
        shape.api_servers, shape.engines, shape.engines * shape.workers,
    ]  # fmt: skip
    assert sum(map(len, writers.values())) == len(set().union(*writers.values()))
    # spans of the same events come from the same processes
    for event, marker in (("llm_request", "httpReq"), ("engine.step", "batchFrameworkProcessing")):
        assert {span.resource["process.pid"] for span in ours(service, event)} == writers[marker]
    assert {span.resource["process.pid"] for span in ours(service, "forward")} == writers["modelRunnerExec"]
    # also with vLLM's own spans, which begin before a fork
    pairs = {(span.resource["process.pid"], span.resource["service.instance.id"]) for span in service.spans()}
    pids, instances = zip(*pairs, strict=True)
    assert len(set(pids)) == len(set(instances)) == len(pairs)
    assert set(pids) >= set().union(*writers.values())


def overlaps(service: Service) -> int:
    """How many steps begin before the one before them has ended."""
    steps = sorted(ours(service, "engine.step"), key=lambda span: span.start)
    return sum(later.start < earlier.end for earlier, later in pairwise(steps))


def test_asynchronous_steps_overlap(served: Served) -> None:
    service = served("asynchronous")
    assert overlaps(service) > len(service.witness("step")) / 2
    assert overlaps(served("forked")) == 0
    first = {span.trace_id: span for span in ours(service, "batchFrameworkProcessing")}
    last = {span.trace_id: span for span in ours(service, "update_from_output")}
    for step in ours(service, "engine.step"):
        assert step.start == first[step.trace_id].start
        assert step.end == pytest.approx(last[step.trace_id].end, abs=100_000)


@pytest.mark.parametrize("name", ["forked", "asynchronous"])
def test_a_model_runner_that_calls_its_base_is_recorded_once_a_step(served: Served, name: str) -> None:
    service = served(name)
    taken = Counter(entry["pid"] for entry in service.witness("npu step"))
    assert sum(taken.values()) == len(service.witness("step"))
    assert Counter(row.pid for row in by_name(service)["modelRunnerExec"]) == taken
    assert Counter(span.resource["process.pid"] for span in ours(service, "modelRunnerExec")) == taken


@slow
def test_data_parallel_ranks(served: Served) -> None:
    service = served("data parallel")
    ranks = defaultdict(list)
    for file in service.profile.glob("*/Trace_Service/*.db"):
        names = {row.name for row in read_rows(file)}
        for marker in ("httpReq", "batchFrameworkProcessing", "modelRunnerExec"):
            if marker in names:
                ranks[marker].append(read_meta(file)["dpRankId"])
    assert {marker: sorted(values) for marker, values in ranks.items()} == {
        "httpReq": ["-1", "-1"], "batchFrameworkProcessing": ["0", "1"], "modelRunnerExec": ["0", "1"],
    }  # fmt: skip


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_nothing_is_lost_when_the_server_stops_after_the_last_answer(
    vllm_python: Path, tiny_model: Path, tmp_path: Path, delay: float, run: int
) -> None:
    shape = SHAPES["forked"]
    with running(tmp_path / "run", vllm_python, tiny_model, shape) as service:
        service.receiver.delay = delay
        ask(service, CLIENTS)
        service.server.stop()
    assert service.server.stop_seconds < 5
    assert_complete(service, shape)
    assert_one_tree(service)
