"""Times of four requests that wait for one slot, against vLLM's own statistics and the client's clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.otlp_json import Span
from tests.support.analyzer import run_analyzer
from tests.support.contract import check, read_rows
from tests.support.service import Service

pytestmark = pytest.mark.vllm

REQUESTS = range(4)


def statistics(service: Service, request_id: str) -> dict[str, float]:
    """vLLM's ``FinishedRequestStats``, in ms."""
    (entry,) = [entry for entry in service.witness("finished") if request_id in entry["request_id"]]
    names = {
        "queue": "queued_time", "first_token": "time_to_first_token", "total": "e2e_latency",
        "prefill": "prefill_time", "decode": "decode_time",
    }  # fmt: skip
    return {name: entry[key] * 1e3 for name, key in names.items()}


def spans_of(service: Service, request_id: str) -> dict[str, Span]:
    (request,) = [
        span for span in service.spans()
        if span.name == "llm_request" and request_id in span.attributes.get("gen_ai.request.id", "")
    ]  # fmt: skip
    return {span.name: span for span in service.spans() if span.parent_id == request.span_id} | {"llm_request": request}


def test_requests_waited(queued: Service) -> None:
    waits = sorted(statistics(queued, answer.request_id)["queue"] for answer in queued.answers.values())
    assert sum(wait > 500 for wait in waits) >= 2, waits


@pytest.mark.parametrize("index", REQUESTS)
def test_spans_agree_with_vllm_and_the_client(queued: Service, index: int) -> None:
    answer = queued.answers[f"request-{index}"]
    expected = statistics(queued, answer.request_id)
    spans = spans_of(queued, answer.request_id)
    request = spans["llm_request"]
    (first_token,) = [event.time for event in request.events if event.name == "first_token"]
    found = {
        "queue": spans["queue"].ms,
        "first_token": (first_token - request.start) / 1e6,
        "total": request.ms,
        "prefill": spans["prefill"].ms,
        "decode": spans["decode"].ms,
    }
    assert found == pytest.approx(expected, abs=5)
    attributes = {
        "queue": request.attributes["gen_ai.latency.time_in_queue"] * 1e3,
        "first_token": request.attributes["gen_ai.latency.time_to_first_token"] * 1e3,
        "total": request.attributes["gen_ai.latency.e2e"] * 1e3,
        "prefill": request.attributes["gen_ai.latency.time_in_model_prefill"] * 1e3,
        "decode": request.attributes["gen_ai.latency.time_in_model_decode"] * 1e3,
    }
    assert attributes == pytest.approx(expected, abs=5)
    client = {"first_token": (answer.first - answer.start) / 1e6, "total": (answer.end - answer.start) / 1e6}
    assert {name: found[name] for name in client} == pytest.approx(client, abs=30)


@pytest.mark.parametrize("index", REQUESTS)
def test_native_rows_agree_with_vllm_and_the_client(queued: Service, index: int) -> None:
    answer = queued.answers[f"request-{index}"]
    expected = statistics(queued, answer.request_id)
    rows = [row for row in read_rows(queued.profile) if any(answer.request_id in rid for rid in row.rids)]

    def time(name: str, queue: str | None = None) -> int:
        return min(
            row.start for row in rows
            if row.name == name and (queue is None or row.args["scope#QueueName"] == queue)
        )  # fmt: skip

    arrival = time("httpReq")
    found = {
        "queue": (time("Dequeue", "WAITING") - time("Enqueue", "WAITING")) / 1e6,
        "first_token": (time("detokenize") - arrival) / 1e6,
        "total": (time("httpRes") - arrival) / 1e6,
    }
    assert found == pytest.approx({name: expected[name] for name in found}, abs=5)
    assert found["first_token"] == pytest.approx((answer.first - answer.start) / 1e6, abs=30)
    assert found["total"] == pytest.approx((answer.end - answer.start) / 1e6, abs=30)


def test_the_files_keep_the_contract(queued: Service) -> None:
    assert check(queued.profile, complete=True) == []


def test_the_real_analyzer_agrees(queued: Service, tmp_path: Path) -> None:
    table = {row["http_rid"]: row for row in run_analyzer("parse", queued.profile, tmp_path / "out")["request"]}
    for answer in queued.answers.values():
        expected = statistics(queued, answer.request_id)
        (row,) = [row for rid, row in table.items() if answer.request_id in rid]
        assert float(row["queue_wait_time(ms)"]) == pytest.approx(expected["queue"], abs=5)
        assert float(row["first_token_latency(ms)"]) == pytest.approx(expected["first_token"], abs=5)
        assert float(row["execution_time(ms)"]) == pytest.approx(expected["total"], abs=5)
