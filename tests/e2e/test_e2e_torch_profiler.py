"""The torch profiler switched on and off by the config file while clients are served."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devtools.client import Answer
from devtools.otlp_json import plain
from tests.support.otlp_metrics import last_values
from tests.support.service import Service, serve

pytestmark = pytest.mark.vllm

#: Ours and another one of the same process, in both orders; the real torch.
TWO_PROFILERS = """\
import json
import sys
from pathlib import Path

from ascend_opentelemetry.npu.torch._profiler import Options, make
from ascend_opentelemetry.npu.torch._recording import Recording
from ascend_opentelemetry.npu.torch._source import TorchSource

TorchSource().start(leader=True)  # as a process does: before torch

import torch

folder, found = Path(sys.argv[1]), {}


def work():
    for _ in range(10):
        torch.ones(8, 8) @ torch.ones(8, 8)


def record(name):
    recording = Recording(lambda: make(Options(folder / name), 5), 5, 0)
    recording.step(True)
    work()
    return recording


def count(recording):
    return sum(name == "aten::mm" for _, name, _, _ in recording.operators())


for name in ("first", "again"):
    recording = record(name)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as other:
        work()
    work()
    found[name] = [count(recording), sum(one.name == "aten::mm" for one in other.events())]
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as other:
    work()
    recording = record("refused")
    recording.end_now()
found["refused"] = [recording.problem, sum(one.name == "aten::mm" for one in other.events())]
once = torch.profiler.schedule(wait=0, warmup=1, active=1, repeat=1)
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], schedule=once) as other:
    recording = record("warming up")
    recording.end_now()
    other.step()
    work()
found["warming up"] = [recording.problem, sum(one.name == "aten::mm" for one in other.events())]
recording = record("alone")
recording.end_now()
found["alone"] = [recording.problem, count(recording)]
found["written"] = sorted(str(file.relative_to(folder).parts[0]) for file in folder.rglob("trace_view.json"))
(folder / "found.json").write_text(json.dumps(found))
"""
CLIENTS = 4
ENV = {
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_METRIC_EXPORT_INTERVAL": "500",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
    "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "0.5",
    "OTEL_BSP_MAX_QUEUE_SIZE": "30000",  # the spans of all traced steps wait while the profiler stops
}


@dataclass
class Profiled:
    """The run: answers, and when each recording was asked for and when it was to end (ns since 1970)."""

    service: Service
    before: Answer
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log records of this name, as OTLP/JSON with plain attributes."""
        return [record for record in log_records(self.service) if record.get("eventName") == name]


def log_records(service: Service) -> Iterator[dict[str, Any]]:
    for request in service.receiver.requests("logs"):
        for resource in request["resourceLogs"]:
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    yield {**record, "attributes": plain(record.get("attributes", ()))}


def wait_for_sessions(run: Profiled, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(run.events("npu.profiling.session")) < number:
        assert time.monotonic() < deadline, run.service.server.log()[-3000:]
        time.sleep(0.2)


@pytest.fixture(scope="module")
def profiled(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """Twice under load: the first time until it is switched off, then for five steps."""
    folder = tmp_path_factory.mktemp("profiled")
    with serve(folder, vllm_python, tiny_model, config='{"enable": 0}', env=ENV) as service:
        run = Profiled(service, service.client.completion(max_tokens=24, ignore_eos=True))
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                run.answers.append(service.client.completion(max_tokens=24, ignore_eos=True))

        def write(**fields: object) -> None:
            service.config.write_text(json.dumps({"prof_dir": str(service.profile), **fields}))

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for number, steps in enumerate((0, 5), 1):
            write(enable=1, acl_task_time=3, torch_prof_step_num=steps)
            begin = time.time_ns()
            time.sleep(0.6)
            write(enable=0, acl_task_time=3)
            run.asked.append((begin, time.time_ns()))
            wait_for_sessions(run, number)
            time.sleep(0.5)  # until every process has seen that it is off
        # nobody asks any more: the worker is idle when the third one ends
        write(enable=1, acl_task_time=3)
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        write(enable=0, acl_task_time=3)
        wait_for_sessions(run, 3)
        time.sleep(1)  # for the last export of metrics
    return run


def recordings(run: Profiled) -> list[Path]:
    return sorted(run.service.profile.glob("*/torch_*/trace_view.json"))


def test_answers_are_unchanged(profiled: Profiled) -> None:
    assert len(profiled.answers) > 3 * CLIENTS
    assert {answer.status for answer in profiled.answers} == {200}
    assert {tuple(answer.texts) for answer in profiled.answers} == {tuple(profiled.before.texts)}


def test_each_recording_is_told_with_folder_duration_and_trace_id(profiled: Profiled) -> None:
    sessions = profiled.events("npu.profiling.session")
    files = recordings(profiled)
    assert len(files) == len(sessions) == 3
    assert sorted(one["attributes"]["npu.recording.folder"] for one in sessions) == [str(file.parent) for file in files]
    for session in sessions:
        attributes = session["attributes"]
        assert attributes["npu.profiler.name"] == "torch"
        assert attributes["npu.recording.operators"] > 100
        content = json.loads(Path(attributes["npu.recording.folder"], "trace_view.json").read_text())
        assert content["otel_trace_id"] == session["traceId"]
    assert len({one["traceId"] for one in sessions}) == 3
    for (begin, end), session in zip(profiled.asked, sessions, strict=False):
        started = int(session["timeUnixNano"])
        assert begin - 50_000_000 < started < end
        assert 0 < session["attributes"]["npu.recording.duration"] < (end - started) / 1e9 + 1


def test_a_recording_of_five_steps_holds_five(profiled: Profiled) -> None:
    session = profiled.events("npu.profiling.session")[1]
    content = json.loads(Path(session["attributes"]["npu.recording.folder"], "trace_view.json").read_text())
    embedded = [event for event in content["traceEvents"] if event.get("name") == "aten::embedding"]
    assert len(embedded) == 5, "one a forward"


def test_windows_carry_the_ids_of_recorded_forwards(profiled: Profiled) -> None:
    windows = profiled.events("npu.operator.window")
    forwards = {
        (span.trace_id, span.span_id): span for span in profiled.service.spans() if span.name == "modelRunnerExec"
    }
    linked = [window for window in windows if window.get("spanId")]
    assert len(linked) > 10
    for window in linked:
        span = forwards[window["traceId"], window["spanId"]]
        assert span.start - 20_000 <= int(window["timeUnixNano"]) <= span.end + 20_000
        assert 0 < window["attributes"]["npu.operator.time"] <= (span.end - span.start) / 1e9
        assert window["attributes"]["npu.operator.count"] > 10
    assert len({window["spanId"] for window in linked}) == len(linked), "one a forward"


def test_operators_are_metrics_of_the_worker(profiled: Profiled) -> None:
    found = last_values(profiled.service.receiver.requests("metrics"))
    series = [one for one in found if one.name == "npu.operator.count"]
    assert {one.attributes["npu.operator.type"] for one in series} >= {"aten::embedding", "aten::copy_"}
    assert {one.attributes["npu.core.type"] for one in series} == {"CPU"}
    workers = {span.resource["process.pid"] for span in profiled.service.spans() if span.name == "modelRunnerExec"}
    assert {one.resource["process.pid"] for one in series} == workers
    told = sum(one["attributes"]["npu.recording.operators"] for one in profiled.events("npu.profiling.session"))
    assert sum(one.value for one in series) == told


def test_recordings_open_in_npu_top(profiled: Profiled) -> None:
    session = profiled.events("npu.profiling.session")[1]["attributes"]
    command = ["npu", "top", "--json", "--limit", "0", session["npu.recording.folder"]]
    done = subprocess.run(
        [sys.executable, "-m", "ascend_opentelemetry.cli", *command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = {line["type"]: line for line in json.loads(done.stdout)["operators"]}
    assert lines["aten::embedding"]["count"] == 5
    assert lines["aten::embedding"]["core_types"] == ["CPU"]
    assert sum(line["count"] for line in lines.values()) == session["npu.recording.operators"]


def test_profilers_of_the_program_go_before_ours_and_lose_nothing(vllm_python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [vllm_python, "-c", TWO_PROFILERS, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    early = "a recording of operators ends early: another profiler of torch starts in this process"
    assert done.stderr.count(early) == 2
    reason = (
        "another profiler of torch records or warms up in this process (vLLM's /start_profile, torch.profiler): "
        "end that one first"
    )
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "first": [10, 10], "again": [10, 10], "refused": [reason, 20], "warming up": [reason, 10], "alone": ["", 10],
        "written": ["again", "alone", "first"],
    }  # fmt: skip
