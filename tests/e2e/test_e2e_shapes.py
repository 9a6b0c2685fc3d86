"""Servers of several processes: tensor and data parallel, forked workers, asynchronous steps, several API servers.

What each of them must have recorded is counted by an independent wrapper of the scheduler.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from devtools.otlp_json import Span
from tests.support.analyzer import run_analyzer
from tests.support.contract import read_meta, read_rows
from tests.support.otlp_metrics import Series, last_values
from tests.support.service import Service
from tests.support.shapes import SHAPES, STEP_SPANS, ask, assert_complete, assert_one_tree, by_name, ours, running

pytestmark = pytest.mark.vllm

REQUESTS = 16

slow = pytest.mark.skipif(
    os.environ.get("ASCEND_OTEL_TEST_SLOW") != "1", reason="100 s and 7 GB of memory: set ASCEND_OTEL_TEST_SLOW=1"
)
every_shape = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow if shape.api_servers > 1 else ()) for name, shape in SHAPES.items()]
)

Served = Callable[[str], Service]


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
        for span in runners:
            assert span.attributes["vllm.tensor_parallel.rank"] == span.attributes["vllm.worker.rank"]
            assert span.attributes["vllm.pipeline_parallel.rank"] == 0
            assert span.attributes["vllm.data_parallel.rank"] == step.attributes["vllm.data_parallel.rank"]
        assert len({span.resource["process.pid"] for span in runners}) == shape.workers
        # the engine waits for the answer of rank 0 alone: what the others do later is still of this step
        others = {span.resource["process.pid"] for span in runners if span.attributes["vllm.worker.rank"]}
        for span in below:
            assert span.start >= step.start - 1_000_000, span.name
            assert span.resource["process.pid"] in others or span.end <= step.end + 1_000_000, span.name
        for runner in runners:
            (forward,) = [span for span in children[step.trace_id, runner.span_id] if span.name == "forward"]
            assert forward.resource == runner.resource
        engines.add((step.resource["process.pid"], step.attributes["vllm.data_parallel.rank"]))
    assert sorted(rank for _, rank in engines) == list(range(shape.engines))


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


def test_files_of_workers_say_their_rank(served: Served) -> None:
    service = served("two workers")
    found = [
        (meta["dpRankId"], meta["ppRankId"], meta["tpRankId"])
        for meta in map(read_meta, service.profile.glob("*/Trace_Service/*.db"))
        if "tpRankId" in meta
    ]
    assert sorted(found) == [("0", "0", "0"), ("0", "0", "1")]


def test_the_real_analyzer_reads_files_of_several_ranks(served: Served, tmp_path: Path) -> None:
    service = served("two workers")
    tables = run_analyzer("analyze", service.profile, tmp_path / "out")
    assert len(tables["forward"]) == 2 * len(service.witness("step"))


def process_kinds(series: list[Series], name: str) -> set[object]:
    return {one.resource.get("vllm.process_kind") for one in series if one.name == name}


def test_npus_are_measured_by_the_first_process_and_the_allocator_by_the_worker(served: Served) -> None:
    """Driver and torch_npu are stand-ins: what is shown is the way of their numbers to the sink."""
    service = served("forked")
    series = last_values(service.receiver.requests("metrics"))
    found = {name: [one for one in series if one.name == name] for name in {one.name for one in series}}
    assert {one.attributes["hw.id"]: one.value for one in found["hw.gpu.memory.usage"]} == {
        "npu-2": 61234 << 20, "npu-6": 1024 << 20,
    }  # fmt: skip
    assert {one.attributes["hw.id"]: one.value for one in found["hw.power"]} == {"npu-2": 297.3, "npu-6": 90.5}
    hardware = {name for name in found if name.startswith("hw.") or name == "npu.process.memory.usage"}
    assert len(hardware) == 9
    for name in hardware:
        assert process_kinds(series, name) == {"api_server"}, name
    allocator = {name for name in found if name.startswith("npu.allocator.")}
    assert len(allocator) == 4
    for name in allocator:
        assert process_kinds(series, name) == {"worker"}, name
    assert {one.attributes["npu.memory.state"]: one.value for one in found["npu.allocator.memory"]} == {
        "allocated": 1000, "reserved": 4096, "active": 1200, "inactive_split": 400, "requested": 900,
    }  # fmt: skip
    # a worker counts its device from 0; the driver knows the number of its chip
    assert {one.attributes["hw.id"] for one in found["npu.allocator.memory"]} == {"npu-2"}


def test_samples_of_memory_and_failed_allocations_are_events(served: Served) -> None:
    events = Counter(
        record["eventName"]
        for request in served("forked").receiver.requests("logs")
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        if scope["scope"]["name"] == "ascend_opentelemetry.npu"
        for record in scope["logRecords"]
    )
    assert events["npu.memory.oom"] == 1
    assert events["npu.memory.sample"] > 20


def test_the_real_analyzer_draws_the_memory_of_the_npus(served: Served, tmp_path: Path) -> None:
    service = served("forked")
    rows = by_name(service)["npu"]
    assert {row.pid for row in rows} == {row.pid for row in by_name(service)["httpReq"]}
    run_analyzer("analyze", service.profile, tmp_path / "out")
    events = json.loads((tmp_path / "out" / "chrome_tracing.json").read_text())
    drawn = [event["args"] for event in events if event["name"] == "NPU Usage" and event["ph"] == "C"]
    assert len(drawn) == len(rows) > 20
    assert {value for args in drawn for value in args.values()} == {61234, 1024}


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
