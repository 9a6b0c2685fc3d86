from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue

import pytest

from ascend_opentelemetry.status import _process as process
from ascend_opentelemetry.status import is_alive, start_ticks


def test_a_process_is_known_by_its_start() -> None:
    ticks = start_ticks(os.getpid())
    assert isinstance(ticks, int)
    assert ticks > (start_ticks(1) or 0)
    assert is_alive(os.getpid(), ticks)
    assert not is_alive(os.getpid(), ticks + 1)


def test_a_process_that_has_ended_has_none(dead_pid) -> None:
    assert start_ticks(dead_pid) is None
    assert not is_alive(dead_pid, 1)


def test_a_process_whose_end_is_not_noticed_yet_has_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert start_ticks(child.pid) is None
    finally:
        child.wait()


@pytest.mark.parametrize(
    ("title", "role"),
    [("VLLM::EngineCore", "EngineCore"), ("VLLM::Worker_TP1", "Worker_TP1"), ("VLLM::APIServer_0", "APIServer_0")],
)
def test_the_title_that_vllm_gives_is_the_role(monkeypatch, title, role) -> None:
    monkeypatch.setattr(process, "process_title", lambda: title)
    assert process.role() == role


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        (["python", "/venv/bin/vllm", "serve", "model"], "APIServer"),
        (["python", "-u", "/venv/bin/vllm", "serve", "model"], "APIServer"),
        (["python", "-m", "vllm.entrypoints.openai.api_server", "--port", "1"], "APIServer"),
        (["python", "/venv/bin/vllm", "bench", "serve"], "main"),
        (["python", "-m", "mine", "serve"], "main"),
        (["python", "script.py"], "main"),
        (["python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(1)"], "child"),
        (["python"], "main"),
    ],
)
def test_a_first_process_without_a_title(monkeypatch, arguments, role) -> None:
    monkeypatch.setattr("sys.orig_argv", arguments)
    assert process.role() == role


def put_role(queue: SimpleQueue[str]) -> None:
    queue.put(process.role())


def test_a_child_without_a_title_has_the_name_that_multiprocessing_gave_it() -> None:
    context = get_context("fork")
    queue: SimpleQueue[str] = context.SimpleQueue()
    child = context.Process(target=put_role, args=(queue,), name="EngineCore_DP0")
    child.start()
    assert queue.get() == "EngineCore_DP0"
    child.join(30)
