"""A collector that is absent, dies, is slow, refuses or breaks off: the program runs on and each span is accounted for."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.otlp_receiver import OtlpReceiver
from tests.support.reliability import note

pytestmark = pytest.mark.reliability

# a line of its input is a number of spans; it leaves what the package counted in a file
PROGRAM = """
import json, logging, sys, time

from ascend_opentelemetry._runtime import runtime
from ascend_opentelemetry.recorder import recorder
from fake_vllm.engine import Engine

logging.basicConfig(format="%(levelname)s %(message)s", level="INFO")
total = 0
for line in sys.stdin:
    for number in range(int(line)):
        total += Engine.scale(number)
    print("total", total, flush=True)
(sink,) = runtime._trace_sinks[0]._sinks
started = time.monotonic()
runtime.shutdown()
seconds = time.monotonic() - started
with open(sys.argv[1], "w") as file:
    json.dump([seconds, sink.exported, sink.dropped, recorder.lost, recorder.dropped], file)
print("ended")
"""

#: Seconds that the end of a process may take: for a live collector, and for one whose last attempt failed.
BOUND, BOUND_FAILED = 5.0, 1.0
#: Lines on stderr that are no warnings: ours, gRPC's own, and what is said where another distro is installed.
NO_NEWS = re.compile(r"INFO |I\d{4} |Configuration of configurator not loaded because ascend is")
#: Seconds for a busy machine.
SLACK = 2.5


@dataclass
class Ended:
    """What a process left."""

    out: str
    #: What stderr got but log lines of level INFO, and those.
    warnings: list[str]
    infos: list[str]
    #: That the pipeline took to end.
    seconds: float
    exported: int
    #: Spans that were lost, by reason.
    dropped: dict[str, int]


class Process:
    """The program above, with spans for one endpoint.

    Args:
        program: folder and environment.
        environment: more of it.
    """

    def __init__(self, program: Any, **environment: str) -> None:
        self._counts = program.folder / "counts.json"
        self._stderr = program.folder / "stderr"
        self.expected = ""
        #: Spans made, counted here.
        self.made = 0
        self._out: list[str] = []
        self._total = 0
        with self._stderr.open("w") as stderr:
            self.popen = subprocess.Popen(
                [Path(sys.executable).with_name("opentelemetry-instrument"), "python", "-c", PROGRAM, self._counts],
                env={**program.environment, "OTEL_BSP_SCHEDULE_DELAY": "50", **environment},
                cwd=program.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def make(self, spans: int) -> None:
        """Have it make spans, and wait until it has."""
        assert self.popen.stdin
        assert self.popen.stdout
        self.popen.stdin.write(f"{spans}\n")
        self.popen.stdin.flush()
        self._out.append(self.popen.stdout.readline())
        self.made += spans
        self._total += sum(number * 10 for number in range(spans))
        self.expected += f"total {self._total}\n"

    def log(self, level: str) -> list[str]:
        lines = self._stderr.read_text().splitlines()
        return [line.removeprefix(f"{level} ") for line in lines if line.startswith(f"{level} ")]

    def end(self) -> Ended:
        """End it; its output and its status are those of a program without telemetry."""
        out, _ = self.popen.communicate(timeout=60)
        assert self.popen.returncode == 0, self._stderr.read_text()
        assert "".join(self._out) + out == self.expected + "ended\n"
        seconds, exported, dropped, lost, late = json.loads(self._counts.read_text())
        assert (lost, late) == ({}, 0)
        assert exported + sum(dropped.values()) == self.made
        lines = [line for line in self._stderr.read_text().splitlines() if not NO_NEWS.match(line)]
        return Ended(out, lines, self.log("INFO"), seconds, exported, dropped)


@pytest.fixture(params=["http", "grpc"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class Collector:
    """A port at which a receiver comes and goes."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._file = folder / "traces.jsonl"
        self._kind = kind
        self._running = ExitStack()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.receiver: OtlpReceiver | None = None

    def start(self) -> OtlpReceiver:
        port = {f"{self._kind}_port": self._port}
        self.receiver = self._running.enter_context(OtlpReceiver(self._file, **port))
        return self.receiver

    def stop(self) -> None:
        self._running.close()

    def span_ids(self) -> list[str]:
        return [span.span_id for span in self.receiver.spans()] if self.receiver else []

    def environment(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": {"http": "http/protobuf", "grpc": "grpc"}[self._kind],
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }


@pytest.fixture
def collector(tmp_path: Path, kind: str) -> Iterator[Collector]:
    collector = Collector(tmp_path, kind)
    yield collector
    collector.stop()


@pytest.fixture
def start(program: Any, collector: Collector) -> Iterator[Callable[..., Process]]:
    """Starts processes, whose exporter gives a request up after ``timeout`` seconds, its retries included."""
    started: list[Process] = []

    def start_process(timeout: float = 10) -> Process:
        limit = {"OTEL_EXPORTER_OTLP_TIMEOUT": str(timeout)}
        started.append(Process(program, **collector.environment(), **limit))
        return started[-1]

    yield start_process
    for process in started:
        process.popen.kill()
        process.popen.wait()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited for 20 s"
        time.sleep(0.02)


def said(ended: Ended, collector: Collector, *words: str) -> str:
    """The one warning, which names the endpoint."""
    (warning,) = ended.warnings
    assert warning.startswith("WARNING Cannot export spans to "), warning
    for word in (collector.address, *words):
        assert word in warning
    return warning


NOBODY = {"http": "ConnectionRefusedError", "grpc": "UNAVAILABLE"}
NO_COLLECTOR = "Start a collector there"


def test_never_there(start, collector, kind) -> None:
    process = start()
    for _ in range(4):
        process.make(5)
        time.sleep(0.2)  # a request of its own
    ended = process.end()
    assert (ended.exported, sum(ended.dropped.values())) == (0, 20)
    said(ended, collector, NOBODY[kind], NO_COLLECTOR, "OTEL_TRACES_EXPORTER=none")
    assert ended.infos == []
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: never there ({kind})", "20 spans, then the end", 20, 0, "20, one warning")


def test_never_there_and_a_process_that_ends_at_once(start, collector, kind) -> None:
    process = start()
    process.make(5)
    ended = process.end()
    assert (ended.exported, sum(ended.dropped.values())) == (0, 5)
    said(ended, collector, NOBODY[kind], NO_COLLECTOR)
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: never there, short process ({kind})", "5 spans, then the end at once", 5, 0, "5, one warning")


def test_absent_at_start_and_there_after_a_while(start, collector, kind) -> None:
    process = start(timeout=3)
    process.make(4)
    until(lambda: process.log("WARNING"))
    collector.start()
    process.make(6)
    until(lambda: len(collector.span_ids()) == 6)
    ended = process.end()
    assert (ended.exported, ended.dropped) == (6, {"export_failed": 4})
    said(ended, collector, NOBODY[kind], NO_COLLECTOR)
    (again,) = ended.infos
    assert again.endswith(f"{collector.address}{'/v1/traces' if kind == 'http' else ''} again; 4 were lost.")
    note(f"collector: absent at start ({kind})", "4 spans before it came, 6 after", 10, 6, "4, one warning")


def test_spans_that_wait_for_their_next_attempt_get_it_when_the_process_ends(start, collector, kind) -> None:
    process = start()
    process.make(5)
    time.sleep(1.5)  # the third attempt is due three seconds after the first
    collector.start()
    ended = process.end()
    assert (ended.exported, ended.dropped, ended.warnings) == (5, {}, [])
    assert len(set(collector.span_ids())) == 5
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: there just before the end ({kind})", "5 spans wait for a retry at the end", 5, 5)


def test_it_dies_and_comes_back(start, collector, kind) -> None:
    collector.start()
    process = start(timeout=3)
    process.make(5)
    until(lambda: len(collector.span_ids()) == 5)
    collector.stop()
    process.make(4)
    until(lambda: process.log("WARNING"))
    collector.start()
    process.make(6)
    until(lambda: len(collector.span_ids()) == 11)
    ended = process.end()
    assert (ended.exported, ended.dropped) == (11, {"export_failed": 4})
    said(ended, collector, NOBODY[kind])
    assert [line.partition(" again; ")[2] for line in ended.infos] == ["4 were lost."]
    assert len(set(collector.span_ids())) == 11
    note(f"collector: dies and comes back ({kind})", "5, 4 and 6 spans", 15, 11, "4, one warning")


def test_it_dies_and_stays_away(start, collector, kind) -> None:
    collector.start()
    process = start()
    process.make(5)
    until(lambda: len(collector.span_ids()) == 5)
    collector.stop()
    for _ in range(3):
        process.make(4)
        time.sleep(0.2)
    ended = process.end()
    assert (ended.exported, sum(ended.dropped.values())) == (5, 12)
    said(ended, collector, NOBODY[kind], NO_COLLECTOR)
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: dies ({kind})", "5 spans before, 12 after", 17, 5, "12, one warning")


def test_an_answer_that_takes_longer_than_the_end_may(start, collector, kind) -> None:
    collector.start().delay = 30
    process = start(timeout=20)
    process.make(5)
    ended = process.end()
    assert (ended.exported, ended.dropped) == (0, {"shutdown": 5})
    said(ended, collector, "no answer (5 spans waited for it when the process ended)", "more resources")
    assert BOUND - 0.5 < ended.seconds < BOUND + SLACK
    note(f"collector: 30 s an answer ({kind})", "5 spans, then the end", 5, 0, "5, one warning")


def test_an_answer_that_did_not_come_in_time_before(start, collector, kind) -> None:
    collector.start().delay = 30
    process = start(timeout=1)
    process.make(5)
    until(lambda: process.log("WARNING"))
    process.make(5)
    ended = process.end()
    assert (ended.exported, sum(ended.dropped.values())) == (0, 10)
    said(ended, collector, {"http": "TimeoutError", "grpc": "DEADLINE_EXCEEDED"}[kind], "more resources")
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: timed out ({kind})", "5 spans timed out, 5 more, then the end", 10, 0, "10, one warning")


def fail_with(receiver: OtlpReceiver, status: int | str) -> None:
    if isinstance(status, int):
        receiver.http_status = status
    else:
        receiver.grpc_status = status


REFUSALS = [("http", 429), ("http", 503), ("grpc", "RESOURCE_EXHAUSTED"), ("grpc", "UNAVAILABLE")]


@pytest.mark.parametrize(("kind", "status"), REFUSALS)
def test_it_is_asked_again_when_it_says_so_even_at_the_end(start, collector, kind, status) -> None:
    receiver = collector.start()
    fail_with(receiver, status)
    receiver.fail_first, receiver.retry_after = 1, 2
    process = start()
    process.make(5)
    ended = process.end()
    assert (ended.exported, ended.dropped, ended.warnings, ended.infos) == (5, {}, [], [])
    assert len(collector.span_ids()) == len(set(collector.span_ids())) == 5
    assert (receiver.refused["traces"], receiver.received["traces"]) == (1, 1)
    assert ended.seconds < BOUND + SLACK
    note(f"collector: {status}, come again in 2 s ({kind})", "5 spans, then the end", 5, 5)


@pytest.mark.parametrize(("kind", "status"), REFUSALS)
def test_it_refuses_for_ever(start, collector, kind, status) -> None:
    receiver = collector.start()
    fail_with(receiver, status)
    process = start(timeout=3)
    process.make(5)
    until(lambda: process.log("WARNING"))
    process.make(5)
    time.sleep(0.2)
    process.make(5)
    ended = process.end()
    assert (ended.exported, sum(ended.dropped.values())) == (0, 15)
    said(ended, collector, str(status))
    assert ended.infos == []
    # three requests: two or three attempts in the time of each, and a last one
    assert 2 <= receiver.refused["traces"] <= 12
    assert ended.seconds < BOUND_FAILED + SLACK
    note(f"collector: {status} for ever ({kind})", "15 spans in 3 requests", 15, 0, "15, one warning")


def test_some_spans_are_rejected(start, collector, kind) -> None:
    receiver = collector.start()
    receiver.rejected = 2, "too old"
    process = start()
    for requests in (1, 2):
        process.make(5)
        until(lambda count=requests: receiver.received["traces"] == count)
    ended = process.end()
    assert (ended.exported, ended.dropped) == (6, {"rejected": 4})
    said(ended, collector, "partial success (too old)")
    note(f"collector: partial success ({kind})", "2 of 5 spans rejected, twice", 10, 6, "4, one warning")


@pytest.mark.parametrize("kind", ["http"])
def test_an_answer_that_breaks_off(start, collector, kind) -> None:
    receiver = collector.start()
    receiver.close_mid_body = True
    process = start()
    process.make(5)
    until(lambda: process.log("WARNING"))
    receiver.close_mid_body = False
    process.make(3)
    ended = process.end()
    # it has them, but has not said so to the end: no second time, and counted as lost
    assert (ended.exported, ended.dropped) == (3, {"export_failed": 5})
    assert len(collector.span_ids()) == len(set(collector.span_ids())) == 8
    assert receiver.received["traces"] == 2
    said(ended, collector, "IncompleteRead")
    note(
        f"collector: answer breaks off ({kind})", "5 spans, 3 after it", 8, 8, "5 that were not confirmed, one warning"
    )


OUTPUT = "{0} [0, 10] 30\n{0} {0} failed\n"


def test_children_of_a_program_without_a_collector(program, collector, kind) -> None:
    started = time.monotonic()
    program.serve("spawn", "fork", OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")
    alone = time.monotonic() - started
    started = time.monotonic()
    done = program.serve("spawn", "fork", **collector.environment())
    seconds = time.monotonic() - started
    assert done.code == 0
    assert done.out == OUTPUT.format("parent") + "".join(
        OUTPUT.format(child) + f"{child} ended with 0\n" for child in ("spawn", "fork")
    )
    assert [NOBODY[kind] in line and collector.address in line for line in done.warnings] == [True] * 3
    assert seconds - alone < 3 * (BOUND_FAILED + SLACK)
    note(f"collector: never there, 3 processes ({kind})", "a parent, two children", 39, 0, "one warning a process")
