"""Processes of one service that ask each other to flush."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.recorder import Recorder
from ascend_opentelemetry.recorder._peers import SERVICE_VARIABLE, Peers

CHILD = """
import sys, threading
from ascend_opentelemetry.recorder import recorder
class Sink:
    def write(self, records): print("wrote", len(records), flush=True)
    def commit(self): ...
    def request_flush(self): ...
    def after_fork(self): ...
    def flush(self, timeout):
        print("flushed", flush=True)
        if "hang" in sys.argv: threading.Event().wait(timeout)
        return True
    def shutdown(self, timeout): ...
recorder.start([Sink()])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICE_VARIABLE, f"test-{os.getpid()}-{time.monotonic_ns()}")


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.close()


@pytest.fixture
def children() -> Iterator[Any]:
    """Starts processes of the service that are told to flush."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def sockets() -> int:
    return Path("/proc/net/unix").read_text().count(f"@ascend-otel-{os.environ[SERVICE_VARIABLE]}-")


def test_alone_there_is_nobody_to_ask(peers) -> None:
    peers.listen(lambda: pytest.fail("we do not ask ourselves"))
    assert peers.flush_others(5) is True


def test_others_have_flushed_when_the_answer_comes(peers, children) -> None:
    first, second = children(), children()
    assert peers.flush_others(5) is True
    for child in (first, second):
        os.set_blocking(child.stdout.fileno(), False)
        assert child.stdout.readline() == "flushed\n"


def test_a_process_of_another_service_is_not_asked(peers, children) -> None:
    child = children(**{SERVICE_VARIABLE: "another"})
    assert peers.flush_others(5) is True
    os.set_blocking(child.stdout.fileno(), False)
    assert child.stdout.readline() == ""


def test_one_that_hangs_costs_the_timeout_and_no_more(peers, children) -> None:
    children("hang")
    children()
    start = time.monotonic()
    assert peers.flush_others(0.2) is False
    assert 0.2 <= time.monotonic() - start < 1.5


def test_one_that_everybody_asks_already_is_not_waited_for(peers) -> None:
    """Its socket takes no more, however often it is asked; nobody reads it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(f"\0ascend-otel-{os.environ[SERVICE_VARIABLE]}-1")
        deadline = time.monotonic() + 5
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    asking.sendto(b"flush", deaf.getsockname())
        peers.flush_others(5)
        assert time.monotonic() < deadline


def test_one_that_was_killed_leaves_nothing(peers, children) -> None:
    child = children()
    assert sockets() == 1
    child.kill()
    child.wait()
    assert sockets() == 0
    assert peers.flush_others(5) is True


def test_only_the_word_is_an_order(peers, children) -> None:
    child = children()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.bind("")
        asking.sendto(b"other", f"\0ascend-otel-{os.environ[SERVICE_VARIABLE]}-{child.pid}")
    assert peers.flush_others(5) is True
    os.set_blocking(child.stdout.fileno(), False)
    assert child.stdout.readline() == "flushed\n"
    assert child.stdout.readline() == ""


def test_it_listens_once_and_ends(peers) -> None:
    before = set(threading.enumerate())
    peers.listen(lambda: None)
    peers.listen(lambda: None)
    (thread,) = set(threading.enumerate()) - before
    assert sockets() == 1
    for _ in range(20):  # the name is free at once
        peers.close()
        assert sockets() == 0
        peers.listen(lambda: None)
    peers.close()
    thread.join(5)
    assert (thread.is_alive(), sockets()) == (False, 0)


def test_a_recorder_answers_from_its_start_to_its_shutdown(sink) -> None:
    recorder = Recorder()
    assert sockets() == 0
    recorder.start([sink])
    assert sockets() == 1
    recorder.shutdown(1)
    assert sockets() == 0


def test_a_forked_child_answers_for_itself(sink) -> None:
    recorder = Recorder()
    recorder.start([sink])
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"x")
        time.sleep(10)
        os._exit(0)
    try:
        os.read(reading, 1)
        assert sockets() == 2
        assert recorder.flush_others(5) is True
        assert "flush" not in sink.calls  # the child's sink has it, not ours
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        recorder.shutdown(1)
        os.close(reading)
        os.close(writing)
