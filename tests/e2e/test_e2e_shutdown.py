"""Ways out: how the processes of a server end, and what of their records arrives.

The sequence of a shutdown is vLLM's own: its children get a few milliseconds after the signal. What was done is counted
by an independent wrapper, which writes each of its lines at once.
"""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from devtools.client import Answer
from devtools.otlp_json import ERROR
from tests.support.reliability import note
from tests.support.service import Service
from tests.support.shapes import CLIENTS, SHAPES, Shape, ask, assert_complete, assert_one_tree, by_name, ours, running

pytestmark = [pytest.mark.vllm, pytest.mark.reliability]

#: How often each kind of shutdown is tried.
RUNS = int(os.environ.get("ASCEND_OTEL_TEST_SHUTDOWNS", "1"))
SPAWNED, FORKED = Shape(), SHAPES["forked"]


def counts(service: Service) -> tuple[int, int]:
    """Records made, by the witness and the answers; spans that tell of the same."""
    answers, steps = len(service.answers), len(service.witness("step"))
    names = ("llm_request", "queue", "prefill", "decode", "engine.step", "modelRunnerExec", "forward")
    return 4 * answers + 3 * steps, sum(len(ours(service, name)) for name in names)


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("delay", [0.0, 0.2])
@pytest.mark.parametrize("shape", [SPAWNED, FORKED], ids=["spawn", "fork"])
def test_nothing_is_lost_when_the_server_stops_after_the_last_answer(
    vllm_python: Path, tiny_model: Path, tmp_path: Path, shape: Shape, delay: float, run: int
) -> None:
    with running(tmp_path / "run", vllm_python, tiny_model, shape) as service:
        service.receiver.delay = delay
        ask(service, CLIENTS)
        service.server.stop()
    assert_complete(service, shape)
    assert_one_tree(service)
    start = "spawned" if shape is SPAWNED else "forked"
    done = f"SIGTERM right after the last of {CLIENTS} answers; the collector answers after {delay * 1000:.0f} ms"
    note(f"shutdown: {start} children, collector {'slow' if delay else 'fast'}", done, *counts(service))


@pytest.mark.parametrize("everyone", [False, True], ids=["API server alone", "Ctrl-C"])
def test_sigint_is_like_sigterm(vllm_python: Path, tiny_model: Path, tmp_path: Path, everyone: bool) -> None:
    with running(tmp_path / "run", vllm_python, tiny_model, FORKED) as service:
        ask(service, CLIENTS)
        service.server.stop(number=signal.SIGINT, everyone=everyone)
    assert_complete(service, FORKED)
    assert_one_tree(service)
    who = "all processes" if everyone else "the API server"
    note(f"shutdown: SIGINT to {who}", f"SIGINT right after the last of {CLIENTS} answers", *counts(service))


def test_with_a_collector_that_hangs_the_second_sigterm_ends_the_server(
    vllm_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    # spawned: with forked children vLLM now and then finds one of them dead on its own port, and ends by that error
    with running(tmp_path / "run", vllm_python, tiny_model, SPAWNED) as service:
        ask(service, CLIENTS)
        time.sleep(1.5)  # all that is done so far is exported
        service.receiver.delay = 60
        service.answers["last"] = service.client.completion(max_tokens=2)
        os.kill(service.server.pid, signal.SIGTERM)
        until = time.monotonic() + 30
        # until then vLLM itself takes the signal, and ignores a second one
        while "Application shutdown complete" not in service.server.log() or engines(service):
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.5)
        assert service.server.running()
        service.server.stop()
        # without it: the time of the last flush, 5 s
        assert service.server.stop_seconds < 2.5
    assert len(by_name(service)["httpRes"]) == len(service.answers)  # rows need no collector


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Long requests from all clients, one after the other, until the block ends; the server may die meanwhile."""
    ended = threading.Event()

    def client(number: int) -> None:
        turn = 0
        while not ended.is_set():
            name, turn = f"load-{number}-{turn}", turn + 1
            try:
                # of different lengths, so that at any moment most are in the middle
                answer = service.client.completion(f"hello {number}", max_tokens=120 + 15 * number, ignore_eos=True)
            except (OSError, http.client.HTTPException, ValueError):
                answer = Answer("", None, 0)  # no answer: the client does not know the id either
            service.answers[name] = answer
            if answer.status != 200:
                return

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield
        finally:
            ended.set()
            for running_client in clients:
                running_client.result()


def engines(service: Service) -> list[int]:
    """Process ids of vLLM's children; Python's resource tracker outlives them."""
    return [pid for pid, command in service.server.pids().items() if command.startswith("VLLM::")]


def child(service: Service, title: str) -> int:
    """Process id of the child with this title."""
    (pid,) = [pid for pid, command in service.server.pids().items() if command.startswith(title)]
    return pid


def assert_databases_are_whole(service: Service) -> None:
    for file in service.profile.glob("*/Trace_Service/*.db"):
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file


def missing_steps(service: Service, until: int) -> int:
    """How many of the steps that the witness saw before ``until`` (ns) have no row."""
    seen = [entry["tokens"] for entry in service.witness("step") if entry["time"] < until]
    rows = [
        frozenset((entry["rid"], entry["num_scheduled_tokens"]) for entry in row.args["rid"])
        for row in by_name(service)["batchFrameworkProcessing"]
    ]
    for step in seen:
        tokens = frozenset(step.items())
        if tokens in rows:
            rows.remove(tokens)
            seen = [other for other in seen if other is not step]
    return len(seen)


@pytest.mark.parametrize("victim", ["VLLM::EngineCore", "VLLM::Worker"])
def test_sigkill_under_load_loses_the_last_moment_of_the_victim_alone(
    vllm_python: Path, tiny_model: Path, tmp_path: Path, victim: str
) -> None:
    with running(tmp_path / "run", vllm_python, tiny_model, FORKED) as service:
        with load(service):
            time.sleep(2)
            os.kill(child(service, victim), signal.SIGKILL)
            killed = time.time_ns()
        until = time.monotonic() + 30
        while service.server.running() and time.monotonic() < until:
            time.sleep(0.05)
    assert_databases_are_whole(service)
    steps = [entry for entry in service.witness("step") if entry["time"] < killed]
    assert len(steps) > 100
    assert missing_steps(service, killed - 200_000_000) == 0

    # the API server has the whole story: a span for each request, with an error where the client got none or one
    requests = ours(service, "llm_request")
    answered = {f"cmpl-{answer.request_id}-0" for answer in service.answers.values() if answer.status == 200}
    good = {span.attributes["gen_ai.request.id"] for span in requests if span.status_code != ERROR}
    bad = [span for span in requests if span.status_code == ERROR]
    assert good == answered
    assert len(bad) == len(service.answers) - len(answered) > 0
    rows = by_name(service)
    assert len(rows["httpReq"]) == len(service.answers)
    missing = missing_steps(service, killed)
    note(
        f"SIGKILL of {victim.removeprefix('VLLM::')}", "killed under load; rows of engine steps",
        len(steps), len(steps) - missing, f"{missing or 'no'} rows of its last 200 ms; the API server's data are complete",
    )  # fmt: skip


def test_sigterm_under_load_ends_every_request_with_an_error(
    vllm_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with running(tmp_path / "run", vllm_python, tiny_model, FORKED) as service, load(service):
        time.sleep(2)
        sent = time.time_ns()
        service.server.stop()
        # without the time to abort, vLLM's HTTP server waits for clients that wait for the engine
        assert service.server.stop_seconds < 30
    assert_databases_are_whole(service)
    by_status = Counter(answer.status for answer in service.answers.values())
    answered = {f"cmpl-{answer.request_id}-0" for answer in service.answers.values() if answer.status == 200}
    requests = ours(service, "llm_request")
    aborted = [span for span in requests if span.attributes.get("gen_ai.response.finish_reasons") == ["abort"]]
    assert 0 < len(aborted) <= CLIENTS
    assert {span.status_code for span in aborted} == {ERROR}
    good = {span.attributes["gen_ai.request.id"] for span in requests if span.status_code != ERROR}
    # vLLM answers those that it aborts with what there is, or not at all
    assert good | {span.attributes["gen_ai.request.id"] for span in aborted} >= answered
    refused = sum(number for status, number in by_status.items() if status >= 400)
    assert len(requests) >= len(good) + len(aborted) + refused
    assert missing_steps(service, sent) == 0
    steps, spans = service.witness("step"), ours(service, "engine.step")
    note(
        "shutdown: SIGTERM under load", "requests run until the engine stops; spans of engine steps",
        len(steps), len(spans), f"{len(steps) - len(spans) or 'no'} steps of the last milliseconds",
    )  # fmt: skip
