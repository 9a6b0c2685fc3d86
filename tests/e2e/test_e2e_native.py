"""Native files of 24 requests to a real server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from devtools.client import Answer
from tests.support.analyzer import run_analyzer
from tests.support.contract import Row, check, read_meta, read_rows
from tests.support.service import Service

pytestmark = pytest.mark.vllm


def rows(service: Service, name: str) -> list[Row]:
    return [row for row in read_rows(service.profile) if row.name == name]


def rids(service: Service, answer: Answer) -> list[str]:
    """Ids of the httpReq rows of an answer, one for each choice."""
    return sorted(row.rids[0] for row in rows(service, "httpReq") if answer.request_id in row.rids[0])


def test_the_files_keep_the_contract(mixed: Service) -> None:
    assert check(mixed.profile, complete=True) == []


def test_one_date_folder_and_a_file_of_each_process(mixed: Service) -> None:
    files = list(mixed.profile.glob("*/Trace_Service/*.db"))
    assert len({file.parent for file in files}) == 1
    by_names: Counter[tuple[str, ...]] = Counter()
    for file in files:
        names = {row.name for row in read_rows(file)}
        by_names[tuple(name for name in ("httpReq", "batchFrameworkProcessing", "forward") if name in names)] += 1
    assert by_names == {("httpReq",): 1, ("batchFrameworkProcessing",): 1, ("forward",): 1}
    assert sorted(read_meta(file)["dpRankId"] for file in files) == ["-1", "0", "0"]


def test_steps_are_those_of_an_independent_wrapper(mixed: Service) -> None:
    steps = [entry["tokens"] for entry in mixed.witness("step")]
    schedule, execute = rows(mixed, "batchFrameworkProcessing"), rows(mixed, "modelExec")
    assert len(schedule) == len(execute) == len(steps) > 100
    for name, found in (("schedule", schedule), ("modelExec", execute)):
        tokens = [{entry["rid"]: entry["num_scheduled_tokens"] for entry in row.args["rid"]} for row in found]
        assert tokens == steps, name
    assert [json.dumps(row.args["rid"]) for row in schedule] == [json.dumps(row.args["rid"]) for row in execute]
    runner = [[entry["rid"] for entry in row.args["rid"]] for row in rows(mixed, "modelRunnerExec")]
    forward = [row.args["rid"] for row in rows(mixed, "forward")]
    assert runner == forward == [list(step) for step in steps]


def test_token_sums_are_those_of_the_metrics(mixed: Service) -> None:
    before, after = mixed.metrics

    def difference(name: str) -> float:
        keys = [key for key in after if key.partition("{")[0] == name]
        assert keys, name
        return sum(after[key] - before.get(key, 0) for key in keys)

    warm_up = rows(mixed, "httpReq")[0].rids[0]
    responses = [row for row in rows(mixed, "httpRes") if row.rids[0] != warm_up]
    aborted = {rid for kind, answer in mixed.answers.items() if "disconnect" in kind for rid in rids(mixed, answer)}
    assert len(aborted) == 2
    scheduled: Counter[str] = Counter()
    generated: Counter[str] = Counter()
    prompts: dict[str, int] = {}
    for row in rows(mixed, "batchFrameworkProcessing"):
        for entry in row.args["rid"]:
            rid = entry["rid"].rpartition("-")[0]
            scheduled[rid] += entry["num_scheduled_tokens"]
            prompts[rid] = entry["num_prompt_tokens"]
            # a step whose tokens reach the end of what is known gives one new token
            if entry["num_computed_tokens"] + entry["num_scheduled_tokens"] >= entry["num_prompt_tokens"]:
                generated[rid] += 1
    del prompts[warm_up], generated[warm_up]
    assert sum(prompts.values()) == difference("vllm:prompt_tokens_total")
    finished = sum(row.args["replyTokenSize="] for row in responses)
    # tokens of aborted requests were counted as they came
    rest = difference("vllm:generation_tokens_total") - finished
    assert 0 < rest <= sum(generated[rid] for rid in aborted)
    assert sum(row.args["recvTokenSize="] for row in responses) == sum(
        count for rid, count in prompts.items() if rid not in aborted
    )


@pytest.mark.parametrize("kind", ["completion-a", "chat-a", "stream-a", "stop-a", "n-b", "long-3"])
def test_token_counts_are_those_of_the_client(mixed: Service, kind: str) -> None:
    answer = mixed.answers[kind]
    ids = rids(mixed, answer)
    assert len(ids) == len(answer.finish_reasons)
    responses = [row for row in rows(mixed, "httpRes") if row.rids[0] in ids]
    assert sorted(row.rids[0] for row in responses) == ids
    assert {row.args["recvTokenSize="] for row in responses} == {answer.usage["prompt_tokens"]}
    assert sum(row.args["replyTokenSize="] for row in responses) == answer.usage["completion_tokens"]


def test_every_request_of_the_engine_has_its_rows(mixed: Service) -> None:
    refused = [kind for kind in mixed.answers if kind.startswith(("too_long", "unknown_model"))]
    expected = sorted(
        rid for kind, answer in mixed.answers.items() if kind not in refused for rid in rids(mixed, answer)
    )
    assert len(expected) == 24  # 20 requests, two of them threefold
    for kind in refused:
        assert rids(mixed, mixed.answers[kind]) == []
    for name in ("tokenize", "detokenize"):
        scalar = sorted(row.args["rid"] for row in rows(mixed, name) if isinstance(row.args["rid"], str))
        assert [rid for rid in scalar if rid in expected] == expected, name
    enqueued = {
        row.args["rid"].rpartition("-")[0] for row in rows(mixed, "Enqueue") if isinstance(row.args["rid"], str)
    }
    assert set(expected) <= enqueued


def test_the_real_analyzer_reads_it(mixed: Service, tmp_path: Path) -> None:
    tables = run_analyzer("analyze", mixed.profile, tmp_path / "out")
    requests = {row["http_rid"]: row for row in tables["request"]}
    for kind in ("completion-a", "chat-b", "long-7"):
        answer = mixed.answers[kind]
        row = requests[rids(mixed, answer)[0]]
        assert float(row["recv_token_size"]) == answer.usage["prompt_tokens"]
        assert float(row["reply_token_size"]) == answer.usage["completion_tokens"]
    steps = [row for row in tables["batch"] if row["name"] == "batchFrameworkProcessing"]
    assert len(steps) == len(mixed.witness("step"))
    parsed = run_analyzer("parse", mixed.profile, tmp_path / "parsed")
    summary = {row["Metric"]: row for row in tables["request_summary"]}
    latencies = [float(row["first_token_latency(ms)"]) for row in parsed["request"]]
    maximum = float(summary["first_token_latency (ms)"]["Max"])
    assert maximum == pytest.approx(max(latencies), abs=0.01)
