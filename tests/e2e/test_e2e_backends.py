"""24 requests, looked up in a real Jaeger: sent to it by gRPC, by HTTP, and through a real Collector."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from devtools.backends import Backends
from devtools.client import Answer, mix
from devtools.collector import Collector
from devtools.jaeger import Jaeger
from devtools.otlp_json import ERROR, Span
from tests.support.golden import paths, request_tree
from tests.support.service import serve
from tests.support.shapes import STAND_IN

pytestmark = pytest.mark.vllm

ROADS = ("grpc", "http/protobuf", "collector")
#: Which of the requests end with an error status; the client of the third one leaves.
FAILED = ("too_long", "unknown_model", "disconnect")

GOLDEN = {
    "completion": request_tree("/v1/completions"),
    "chat": request_tree("/v1/chat/completions"),
    "stream": request_tree("/v1/chat/completions"),
    "n": request_tree("/v1/completions", choices=3),
    "stop": request_tree("/v1/completions"),
    "disconnect": request_tree("/v1/completions"),
    "too_long": request_tree("/v1/completions", refused=True),
    "unknown_model": request_tree("/v1/completions", refused=True),
}


@dataclass(frozen=True)
class Seen:
    """What a backend has of a run; the servers are gone."""

    answers: dict[str, Answer]
    #: All spans of the service, by the v3 API of Jaeger.
    spans: list[Span]
    #: The Collector's metric of ``llm_request`` spans; None without a Collector.
    counted: float | None

    def trace(self, answer: Answer) -> list[Span]:
        """The spans of the trace that the client began."""
        assert answer.traceparent is not None
        return [span for span in self.spans if span.trace_id == answer.traceparent.split("-")[1]]


@pytest.fixture(scope="module")
def seen(
    backends: Backends, vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Seen]:
    """The run of a road, by its name: made once."""

    @functools.cache
    def run(road: str) -> Seen:
        folder = tmp_path_factory.mktemp(road.replace("/", "-"))
        with ExitStack() as stack:
            jaeger = stack.enter_context(Jaeger(backends.jaeger, log_path=folder / "jaeger.log"))
            collector = None
            if road == "collector":
                options = {"file": folder / "otel.jsonl", "log_path": folder / "otelcol.log"}
                collector = Collector(backends.collector, traces_endpoint=jaeger.grpc_endpoint, **options)
                stack.enter_context(collector)
            target = collector or jaeger
            env = {
                **STAND_IN,
                "OTEL_EXPORTER_OTLP_ENDPOINT": target.http_endpoint if "http" in road else target.grpc_endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf" if "http" in road else "grpc",
                "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
                "WITNESS_STEP_MS": "5",  # slow enough that a client which leaves is noticed
            }
            with serve(folder / "run", vllm_python, tiny_model, config='{"enable": 0}', env=env) as service:
                service.client.completion(max_tokens=2)
                for turn in range(3):
                    answers = mix(service.client, traceparents=True)
                    service.answers |= {f"{kind}-{turn}": answer for kind, answer in answers.items()}
            counted = None
            if collector is not None:
                counted = collector.wait_metric("traces_span_metrics_calls_total", 25, span_name="llm_request")
            first = service.answers["completion-2"]
            assert first.traceparent is not None
            jaeger.wait_spans(first.traceparent.split("-")[1], 5)
            return Seen(service.answers, jaeger.service_spans("vllm"), counted)

    return run


every_road = pytest.mark.parametrize("road", ROADS)


@every_road
def test_each_of_24_requests_has_the_trace_that_its_client_began(seen: Callable[[str], Seen], road: str) -> None:
    run = seen(road)
    assert len(run.answers) == 24
    for name, answer in run.answers.items():
        kind = name.partition("-")[0]
        assert paths(run.trace(answer)) == GOLDEN[kind], name


@every_road
def test_a_trace_spans_the_processes(seen: Callable[[str], Seen], road: str) -> None:
    run = seen(road)
    for name, answer in run.answers.items():
        pids = defaultdict(set)
        for span in run.trace(answer):
            pids[span.name].add(span.resource["process.pid"])
        assert all(len(of_name) == 1 for of_name in pids.values()), name
        if "queue" in pids:
            assert pids["queue"] == pids["prefill"] != pids["llm_request"], name
    workers = {span.resource["process.pid"] for span in run.spans if span.name == "forward"}
    engines = {span.resource["process.pid"] for span in run.spans if span.name == "engine.step"}
    assert (len(workers), len(engines), workers & engines) == (1, 1, set())


@every_road
def test_links_lead_to_step_traces_and_back(seen: Callable[[str], Seen], road: str) -> None:
    run = seen(road)
    by_id = {(span.trace_id, span.span_id): span for span in run.spans}
    linked = [span for span in run.spans if span.name in ("prefill", "decode")]
    assert len(linked) > 2 * 18
    for span in linked:
        assert span.links, span.name
        for link in span.links:
            step = by_id[link.trace_id, link.span_id]
            assert step.name == "engine.step"
            assert (span.trace_id, span.span_id) in {(back.trace_id, back.span_id) for back in step.links}


@every_road
def test_failed_requests_have_error_status(seen: Callable[[str], Seen], road: str) -> None:
    run = seen(road)
    for name, answer in run.answers.items():
        (request,) = [span for span in run.trace(answer) if span.name == "llm_request"]
        assert (request.status_code == ERROR) == name.startswith(FAILED), name


def test_span_metrics_of_the_collector_count_the_requests(seen: Callable[[str], Seen]) -> None:
    run = seen("collector")
    assert run.counted == len(run.answers) + 1  # and the one that warmed up
