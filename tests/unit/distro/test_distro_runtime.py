from __future__ import annotations

import json
import logging
import multiprocessing.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBasedTraceIdRatio

from ascend_opentelemetry import _runtime
from ascend_opentelemetry._provider import as_sampler
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.recorder import KIND_SERVER, Recorder, RecordType

RATIO = "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO"


class CountingSink:
    def __init__(self) -> None:
        self.written = 0
        self.ended = 0

    def write(self, records: Any) -> None:
        self.written += len(records)

    def commit(self) -> None: ...
    def request_flush(self) -> None: ...
    def after_fork(self) -> None: ...

    def flush(self, timeout: float) -> bool:
        return True

    def shutdown(self, timeout: float) -> None:
        self.ended += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(_runtime, "recorder", recorder)
    return recorder


@pytest.fixture
def runtime(recorder: Recorder) -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"enable": 1, "prof_dir": str(tmp_path / "prof")}))
    os.environ["SERVICE_PROF_CONFIG_PATH"] = str(path)
    return path


@pytest.fixture(autouse=True)
def _quiet_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runtime, "show_messages", lambda: None)


def record(value: int = 1) -> Any:
    return (RecordType("Test", "call"), 1, 2, threading.get_ident(), (1, 2, 0, 1), (), None)


def test_without_sinks_nothing_is_on(runtime, recorder) -> None:
    runtime.start()
    assert (runtime.started, runtime.has_traces, recorder.on) == (True, False, False)


def test_traces_are_on_when_somebody_takes_them(runtime, recorder) -> None:
    sink = CountingSink()
    runtime.start()
    runtime.add_traces([sink], lambda *_: True)
    assert (runtime.has_traces, recorder.on, recorder.traces_on) == (True, True, True)
    recorder.emit(record())
    assert recorder.flush(5) is True
    assert sink.written == 1


def test_spans_of_others_flow_without_any_hook(runtime, recorder) -> None:
    """With OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=vllm only the configurator runs."""
    sink = CountingSink()
    runtime.add_traces([sink], lambda *_: True)
    recorder.emit(record())
    assert recorder.flush(5) is True
    assert sink.written == 1


def test_a_second_start_does_nothing(runtime, recorder) -> None:
    sink = CountingSink()
    runtime.add_traces([sink], lambda *_: False)
    before = threading.active_count()
    runtime.start()
    assert threading.active_count() == before
    assert recorder.sample(1, "x", 1, {}) is False


def test_shutdown_ends_the_sinks_once(runtime, recorder) -> None:
    sink = CountingSink()
    runtime.add_traces([sink], lambda *_: True)
    recorder.emit(record())
    runtime.shutdown()
    runtime.shutdown()
    assert (sink.written, sink.ended, recorder.on, runtime.started) == (1, 1, False, False)


def test_native_files_are_on_where_the_config_says_so(runtime, recorder, config) -> None:
    recorder.set_meta("early", "1")
    call = recorder.register(RecordType("Test", "call"))
    runtime.start()
    assert (recorder.on, recorder.traces_on, call.native_on) == (True, False, True)
    recorder.set_meta("late", "2")
    assert dict(runtime._native._window.meta) == {"early": "1", "late": "2"}
    runtime.shutdown()
    assert (recorder.on, recorder.on_meta) == (False, None)


def test_it_starts_again(runtime, recorder, config) -> None:
    runtime.start()
    runtime.shutdown()
    runtime.start()
    assert recorder.native is not None
    assert recorder.windows == 2


@pytest.mark.parametrize("text", ["", None])
def test_a_path_that_is_empty_counts_as_none(runtime, recorder, text) -> None:
    if text is not None:
        os.environ["SERVICE_PROF_CONFIG_PATH"] = text
    runtime.start()
    assert runtime._native is None


@pytest.mark.parametrize(
    ("text", "ratio"), [(None, 0.01), ("", 0.01), ("0", 0.0), ("0.5", 0.5), ("1", 1.0), ("1e-3", 0.001)]
)
def test_step_ratio(runtime, recorder, text, ratio, caplog) -> None:
    if text is not None:
        os.environ[RATIO] = text
    runtime.start()
    assert recorder.step_ratio == ratio
    assert caplog.records == []


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "nan", "inf", "50%"])
def test_a_step_ratio_that_is_none_is_said_once(runtime, recorder, text, caplog) -> None:
    os.environ[RATIO] = text
    with caplog.at_level(logging.WARNING):
        runtime.start()
        runtime.start()
    assert recorder.step_ratio == 0.01
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{RATIO}={text!r} is no number from 0 to 1: 0.01 is used"
    ]


@pytest.mark.parametrize(
    ("sampler", "trace_id", "expected"),
    [
        (ALWAYS_ON, 1, True),
        (ALWAYS_OFF, 1, False),
        (ParentBasedTraceIdRatio(0.5), 1, True),
        (ParentBasedTraceIdRatio(0.5), (1 << 64) - 1, False),
    ],
)
def test_the_sampler_of_the_provider_decides(sampler, trace_id, expected) -> None:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    assert as_sampler(provider)(trace_id, "llm_request", KIND_SERVER, {"a": 1}, None) is expected


def test_a_child_of_multiprocessing_ends_it_by_a_finalizer(runtime, recorder) -> None:
    sink = CountingSink()
    runtime.add_traces([sink], lambda *_: True)
    multiprocessing.util._run_finalizers(100)
    assert sink.ended == 1


ENDS = {
    "exit": "",
    "exception": "raise ValueError('end')",
    "sys.exit": "import sys; sys.exit(3)",
    "fork": "import os; pid = os.fork()\nif pid: os.waitpid(pid, 0); os._exit(0)\nsink.name = 'child'; emit()",
    "multiprocessing fork": (
        "import multiprocessing\n"
        "def child():\n    sink.name = 'child'; emit()\n"
        "process = multiprocessing.get_context('fork').Process(target=child); process.start(); process.join()"
    ),
    "started in the child": (
        "import multiprocessing\n"
        "def child():\n    sink.name = 'child'; start(); emit()\n"
        "process = multiprocessing.get_context('fork').Process(target=child); process.start(); process.join()"
    ),
}

PROGRAM = """
from ascend_opentelemetry._runtime import runtime
from ascend_opentelemetry.recorder import RecordType, recorder
class Sink:
    name, written = "parent", 0
    def write(self, records): self.written += len(records)
    def commit(self): ...
    def request_flush(self): ...
    def after_fork(self): self.written = 0
    def flush(self, timeout): return True
    def shutdown(self, timeout):
        if self.name: print(self.name, self.written, flush=True)
sink = Sink()
def start(): runtime.add_traces([sink], lambda *_: True)
def emit(): recorder.emit((RecordType("Test", "call"), 1, 2, 3, (1, 2, 0, 1), (), None))
"""


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_a_process_drains(end) -> None:
    program = PROGRAM + ("" if end == "started in the child" else "start(); emit()\n") + ENDS[end]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    expected = {"fork": "child 1\n", "multiprocessing fork": "child 1\nparent 1\n", "started in the child": "child 1\n"}
    assert done.stdout == expected.get(end, "parent 1\n"), done.stderr


@pytest.mark.parametrize("text", ["true", " TRUE "])
def test_a_disabled_sdk_exports_nothing(text) -> None:
    program = (
        "from ascend_opentelemetry.distro import AscendConfigurator\n"
        "from ascend_opentelemetry._runtime import runtime\n"
        "AscendConfigurator().configure()\n"
        "from ascend_opentelemetry import VLLMInstrumentor\n"
        "VLLMInstrumentor().instrument()\n"
        "print(runtime.has_traces)"
    )
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OTEL_TRACES_EXPORTER": "console"}
    arguments = [sys.executable, "-c", program]
    for disabled, expected in ((text, "False\n"), ("false", "True\n")):
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=60, env=environment | {"OTEL_SDK_DISABLED": disabled}
        )
        assert done.stdout == expected, done.stderr
