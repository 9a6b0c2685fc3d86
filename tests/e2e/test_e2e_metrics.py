"""200 requests of every kind, half of them not traced: what metrics, spans, native rows, vLLM and the client count."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devtools.client import Answer, Client
from devtools.otlp_json import Span
from tests.support.contract import read_rows
from tests.support.otlp_metrics import Series, last_values
from tests.support.service import Service, serve

pytestmark = pytest.mark.vllm

PLAIN, CHOICES, LEFT, TOO_LONG, UNKNOWN, UNREAD, LONG = 115, 30, 15, 15, 12, 5, 8
TOTAL = PLAIN + CHOICES + LEFT + TOO_LONG + UNKNOWN + UNREAD + LONG
ENV = {
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_METRIC_EXPORT_INTERVAL": "1500",
    "OTEL_TRACES_SAMPLER": "traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.5",
    "WITNESS_STEP_MS": "2",  # a client that leaves is noticed before its last token
}


@dataclass
class Counted:
    """A server after 200 requests, with vLLM's metrics before, between and after; ours at two times."""

    service: Service
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    vllm: list[dict[str, float]] = field(default_factory=list)
    early: list[Series] = field(default_factory=list)
    late: list[Series] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def grown(self, name: str, since: int, until: int) -> float:
        """What vLLM's metric has grown by, over all its labels."""
        before, after = self.vllm[since], self.vllm[until]
        found = [key for key in after if key.partition("{")[0] == name]
        assert found, name
        return sum(after[key] - before.get(key, 0) for key in found)

    def all(self) -> Iterator[Answer]:
        for answers in self.answers.values():
            yield from answers


def total(series: list[Series], name: str, *, failed: bool | None = None) -> tuple[float, int]:
    """Sum and count of a metric over all processes; those with or without ``error.type`` only."""
    found = [one for one in series if one.name == name]
    if failed is not None:
        found = [one for one in found if ("error.type" in one.attributes) is failed]
    return sum(one.value for one in found), sum(one.count for one in found)


def new_trace() -> str:
    """A ``traceparent`` with a random trace id, of which a uuid is none: the ratio looks at its half with fixed bits."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def is_sampled(answer: Answer) -> bool:
    """What ``traceidratio`` says about the trace that the client began."""
    assert answer.traceparent is not None
    return int(answer.traceparent.split("-")[1][16:], 16) < 1 << 63


def ask(client: Client, count: int, send: Callable[[Client, int, str], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(lambda index: send(client, index, new_trace()), range(count)))


def plain(client: Client, index: int, parent: str) -> Answer:
    fields: dict[str, Any] = {
        "max_tokens": 4 + index % 9,
        "ignore_eos": True,
        "stream": index % 3 == 0,
        "traceparent": parent,
    }
    return client.chat(f"hi {index}", **fields) if index % 2 else client.completion(f"hello {index % 7}", **fields)


@pytest.fixture(scope="module")
def counted(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Counted:
    folder = tmp_path_factory.mktemp("counted")
    args = ["--num-gpu-blocks-override", "24", "--block-size", "32"]
    with serve(folder, vllm_python, tiny_model, args=args, env=ENV) as service:
        counted = Counted(service)
        client = service.client
        warm_up = client.completion(max_tokens=2, ignore_eos=True, traceparent=new_trace())
        counted.vllm.append(service.server.metrics())
        counted.answers["warm_up"] = [warm_up]
        counted.answers["plain"] = ask(client, PLAIN, plain)
        counted.vllm.append(service.server.metrics())
        counted.early = exported(service)
        counted.answers |= {
            "choices": ask(client, CHOICES, lambda client, index, parent: client.completion(
                n=2, temperature=1, seed=index, max_tokens=6, ignore_eos=True, traceparent=parent)),
            "left": ask(client, LEFT, lambda client, _, parent: client.disconnecting(traceparent=parent)),
            "too_long": ask(client, TOO_LONG, lambda client, _, parent: client.completion(
                "hello world " * 200, traceparent=parent)),
            "unknown": ask(client, UNKNOWN, lambda client, index, parent: client.completion(
                model=f"no-such-model-{index}", traceparent=parent)),
            "unread": ask(client, UNREAD, lambda client, _, parent: client.chat(
                temperature="hot", traceparent=parent)),
            # eight at once do not fit into 24 blocks
            "long": ask(client, LONG, lambda client, index, parent: client.completion(
                f"hello world {index}", max_tokens=180, ignore_eos=True, traceparent=parent)),
        }  # fmt: skip
        until_idle(service)
        counted.vllm.append(service.server.metrics())
    counted.late = last_values(service.receiver.requests("metrics"))
    counted.spans = service.spans()
    return counted


def until_idle(service: Service) -> None:
    """Until the engine has noticed that clients have left."""
    deadline = time.monotonic() + 20
    while service.server.metric("vllm:num_requests_running") + service.server.metric("vllm:num_requests_waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)


def exported(service: Service) -> list[Series]:
    """What our metrics are after each process has exported again."""
    seen = service.receiver.received["metrics"]
    deadline = time.monotonic() + 30
    while service.receiver.received["metrics"] < seen + 6:
        assert time.monotonic() < deadline, "metrics are not exported"
        time.sleep(0.05)
    return last_values(service.receiver.requests("metrics"))


def test_the_client_got_what_it_asked_for(counted: Counted) -> None:
    assert sum(len(answers) for kind, answers in counted.answers.items() if kind != "warm_up") == TOTAL == 200
    assert {kind: {answer.status for answer in answers} for kind, answers in counted.answers.items()} == {
        "warm_up": {200}, "plain": {200}, "choices": {200}, "left": {200}, "too_long": {400}, "unknown": {404},
        "unread": {400},
        "long": {200},
    }  # fmt: skip
    assert 60 < sum(is_sampled(answer) for answer in counted.all()) < 140


def test_requests_are_as_many_as_the_client_sent(counted: Counted) -> None:
    durations = [one for one in counted.late if one.name == "gen_ai.server.request.duration"]
    by_error: dict[str, int] = {}
    for one in durations:
        error = one.attributes.get("error.type", "")
        by_error[error] = by_error.get(error, 0) + one.count
    assert by_error == {
        "": 1 + PLAIN + CHOICES + LONG, "abort": LEFT, "VLLMValidationError": TOO_LONG, "NotFoundError": UNKNOWN,
        "RequestValidationError": UNREAD,
    }  # fmt: skip
    assert {one.attributes["gen_ai.operation.name"] for one in durations} == {"chat", "text_completion"}
    assert {one.attributes["gen_ai.provider.name"] for one in durations} == {"vllm"}
    assert {one.attributes.get("gen_ai.request.model") for one in durations} == {"tiny", None}
    server = ("127.0.0.1", counted.service.server.port)
    assert {(one.attributes["server.address"], one.attributes["server.port"]) for one in durations} == {server}


def test_every_refused_request_has_the_status_that_its_client_got(counted: Counted) -> None:
    found = {span.trace_id: span.attributes.get("http.response.status_code") for span in counted.spans
             if span.name == "llm_request" and "error.type" in span.attributes}  # fmt: skip
    refused = counted.answers["too_long"] + counted.answers["unknown"] + counted.answers["unread"]
    expected = {answer.traceparent.split("-")[1]: answer.status for answer in refused
                if answer.traceparent and is_sampled(answer)}  # fmt: skip
    assert expected.items() <= found.items()
    assert set(expected.values()) == {400, 404}


def test_spans_are_those_of_the_traces_that_the_sampler_selects(counted: Counted) -> None:
    requests = [span for span in counted.spans if span.name == "llm_request"]
    expected = [
        answer.traceparent.split("-")[1] for answer in counted.all() if answer.traceparent and is_sampled(answer)
    ]
    assert sorted(span.trace_id for span in requests) == sorted(expected)


def test_spans_count_the_tokens_of_the_client_and_the_preemptions_of_the_native_rows(counted: Counted) -> None:
    requests = {span.trace_id: span for span in counted.spans if span.name == "llm_request"}
    for answer in counted.answers["plain"] + counted.answers["choices"] + counted.answers["long"]:
        assert answer.traceparent is not None
        if is_sampled(answer):
            span = requests[answer.traceparent.split("-")[1]]
            assert span.attributes["gen_ai.usage.input_tokens"] == answer.usage["prompt_tokens"]
            assert span.attributes["gen_ai.usage.output_tokens"] == answer.usage["completion_tokens"]
    ids = {span.attributes["vllm.request.id"] for span in counted.spans if span.name == "queue"}
    rows = [row for row in read_rows(counted.service.profile) if row.name == "Preempt"]
    preempted = sum(request_id in ids for row in rows for request_id in row.rids)
    events = [event.name for span in counted.spans for event in span.events]
    assert sum(span.attributes.get("vllm.request.preemptions", 0) for span in requests.values()) == preempted
    assert events.count("preempted") == preempted


def test_native_rows_and_vllm_count_the_choices(counted: Counted) -> None:
    choices = 1 + PLAIN + 2 * CHOICES + LONG
    rows = [row.name for row in read_rows(counted.service.profile)]
    assert (rows.count("httpReq"), rows.count("httpRes")) == (choices + LEFT, choices)
    for name in ("queue", "prefill", "decode"):
        assert total(counted.late, f"vllm.request.{name}.duration")[1] == choices
    assert counted.grown("vllm:request_success_total", 0, 2) == choices - 1


def test_tokens_and_preemptions_are_those_of_vllm_and_the_client(counted: Counted) -> None:
    for name, theirs in {
        "vllm.token.input": "vllm:prompt_tokens_total",
        "vllm.token.output": "vllm:generation_tokens_total",
        "vllm.request.preempted": "vllm:num_preemptions_total",
        "vllm.prefix_cache.queried": "vllm:prefix_cache_queries_total",
        "vllm.prefix_cache.hit": "vllm:prefix_cache_hits_total",
    }.items():
        everything = sum(value for key, value in counted.vllm[2].items() if key.partition("{")[0] == theirs)
        assert total(counted.late, name)[0] == everything, name
    plain = counted.answers["warm_up"] + counted.answers["plain"]
    assert total(counted.early, "vllm.token.input")[0] == sum(answer.usage["prompt_tokens"] for answer in plain)
    assert total(counted.early, "vllm.token.output")[0] == sum(answer.usage["completion_tokens"] for answer in plain)
    rows = [row for row in read_rows(counted.service.profile) if row.name == "Preempt"]
    preempted = total(counted.late, "vllm.request.preempted")[0]
    assert preempted == sum(len(row.rids) for row in rows) > 0


def test_times_between_tokens_are_those_of_vllm_bucket_by_bucket(counted: Counted) -> None:
    (series,) = [one for one in counted.late if one.name == "vllm.inter_token_latency"]
    theirs = {
        key: value for key, value in counted.vllm[2].items() if key.startswith("vllm:inter_token_latency_seconds")
    }
    buckets = {key.partition('le="')[2].partition('"')[0]: value for key, value in theirs.items() if "_bucket" in key}
    assert [float(bound) for bound in buckets if bound != "+Inf"] == list(series.bounds)
    assert series.count == buckets["+Inf"] > 1000
    (total_time,) = [value for key, value in theirs.items() if "_sum" in key]
    assert series.value == pytest.approx(total_time, rel=1e-6)


def test_latencies_are_those_of_vllm(counted: Counted) -> None:
    """Of requests with one choice that all ended well: the same sums, to 1 ms a request."""
    requests = 1 + PLAIN
    for name, theirs in {
        "gen_ai.server.request.duration": "vllm:e2e_request_latency_seconds",
        "gen_ai.server.time_to_first_token": "vllm:time_to_first_token_seconds",
        "gen_ai.server.time_per_output_token": "vllm:request_time_per_output_token_seconds",
        "vllm.request.queue.duration": "vllm:request_queue_time_seconds",
        "vllm.request.prefill.duration": "vllm:request_prefill_time_seconds",
        "vllm.request.decode.duration": "vllm:request_decode_time_seconds",
    }.items():
        seconds, count = total(counted.early, name)
        (sum_key,) = [key for key in counted.vllm[1] if key.partition("{")[0] == f"{theirs}_sum"]
        (count_key,) = [key for key in counted.vllm[1] if key.partition("{")[0] == f"{theirs}_count"]
        assert count == counted.vllm[1][count_key] == requests, name
        assert seconds == pytest.approx(counted.vllm[1][sum_key], abs=requests * 1e-3), name


def test_steps_are_those_of_an_independent_wrapper(counted: Counted) -> None:
    steps = [entry["tokens"] for entry in counted.service.witness("step")]
    assert total(counted.late, "vllm.step.requests") == (sum(len(step) for step in steps), len(steps))
    assert total(counted.late, "vllm.step.tokens") == (sum(sum(step.values()) for step in steps), len(steps))


def test_gauges_show_an_idle_engine_at_the_end(counted: Counted) -> None:
    gauges = {
        one.name: (one.value, one.attributes, one.unit, one.resource["vllm.process_kind"])
        for one in counted.late
        if one.kind == "gauge" and one.name.startswith("vllm.")
    }
    rank = {"vllm.data_parallel.rank": 0}
    assert gauges == {
        "vllm.request.running": (0, rank, "{request}", "engine_core"),
        "vllm.request.waiting": (0, rank, "{request}", "engine_core"),
        "vllm.kv_cache.utilization": (0, rank, "1", "engine_core"),
    }


def test_buckets_are_those_of_the_conventions_and_exemplars_are_traces(counted: Counted) -> None:
    first = [one for one in counted.late if one.name == "gen_ai.server.time_to_first_token"]
    assert {one.bounds for one in first} == {
        (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
    }
    spans = {(span.trace_id, span.span_id): span for span in counted.spans if span.name == "llm_request"}
    exemplars = {exemplar for one in first for exemplar in one.exemplars}
    assert len(exemplars) > 1
    for trace_id, span_id, value in exemplars:
        span = spans[trace_id, span_id]
        assert span.attributes["gen_ai.latency.time_to_first_token"] == pytest.approx(value, abs=1e-6)


def test_all_signals_of_a_process_have_one_resource(counted: Counted) -> None:
    def by_instance(resources: list[dict[str, object]]) -> dict[object, dict[str, object]]:
        return {resource["service.instance.id"]: resource for resource in resources}

    measured = by_instance([one.resource for one in counted.late])
    traced = by_instance([span.resource for span in counted.spans])
    assert measured.keys() >= traced.keys()
    for instance, resource in traced.items():
        assert resource == measured[instance]
    kinds = {str(resource.get("vllm.process_kind")): resource for resource in measured.values()}
    assert kinds.keys() == {"api_server", "engine_core", "worker"}
    ranks = {kind: {key: value for key, value in one.items() if "rank" in key} for kind, one in kinds.items()}
    assert ranks == {
        "api_server": {},
        "engine_core": {"vllm.data_parallel.rank": 0},
        "worker": {"vllm.data_parallel.rank": 0, "vllm.worker.rank": 0, "vllm.tensor_parallel.rank": 0,
                   "vllm.pipeline_parallel.rank": 0},
    }  # fmt: skip
    api_server = kinds["api_server"]
    assert {key: type(value) for key, value in api_server.items() if key != "os.version"} == {
        "service.name": str, "service.instance.id": str, "vllm.process_kind": str, "host.name": str, "host.arch": str,
        "host.id": str, "os.type": str, "process.pid": int, "process.parent_pid": int, "process.owner": str,
        "process.command": str, "process.executable.name": str, "process.executable.path": str,
        "process.runtime.name": str, "process.runtime.version": str, "process.runtime.description": str,
        "telemetry.distro.name": str, "telemetry.distro.version": str, "telemetry.auto.version": str,
        "telemetry.sdk.name": str, "telemetry.sdk.language": str, "telemetry.sdk.version": str,
    }  # fmt: skip
    assert api_server["service.name"] == "vllm"
    assert api_server["host.name"] == os.uname().nodename
    assert kinds["engine_core"]["process.pid"] != api_server["process.pid"]
