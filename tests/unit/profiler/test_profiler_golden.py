"""The calls behind the reference's ``api_forms`` database, replayed by a process with the real runtime."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from devtools.otlp_json import Span
from devtools.otlp_receiver import OtlpReceiver
from tests.support.contract import check

GOLDEN = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "native" / "native_golden" / "api_forms"

PROGRAM = """
import threading, time
from ascend_opentelemetry import Level, Profiler, VLLMInstrumentor
from ascend_opentelemetry.recorder import recorder

VLLMInstrumentor().instrument()

def new():
    return Profiler(Level.INFO)

new().domain("Engine").res("req-1").event("httpReq")
s = new().domain("Schedule").span_start("batchFrameworkProcessing")
time.sleep(0.01)
s.res([{"rid": "req-1", "iter": 0, "type": 0, "num_scheduled_tokens": 7}]).attr("batch_type", "Prefill")
s.span_end()
kv = new().domain("Schedule.KVCache").res(["req-1"])
kv.metric("TotalBlocks", 100).metric("FreeBlocks", 93).metric("UsagePercent", 0.07).event("KVCacheStatus")
queue = new().domain("Schedule").res("req-1").metric_inc("WAITING", 1)
queue.metric_scope("QueueName", "WAITING").metric_scope_as_req_id().event("Enqueue")
new().domain("Request").link("req-1", "42")
new().domain("npu").metric("usage", 12).launch()
new().attr("\\u4e2d\\u6587", 'é"quote').event("no_domain")
new().event("no_attr")
new().add_meta_info("dpRankId", 0)

def forward():
    with new().domain("Execute").span_start("forward"):
        time.sleep(0.002)
    recorder.flush()  # while the thread is there to be asked for its id

thread = threading.Thread(target=forward)
thread.start()
thread.join()
Profiler(Level.L2).event("level30")
"""

NESTED = """
from opentelemetry import trace
from ascend_opentelemetry import Level, Profiler, VLLMInstrumentor

VLLMInstrumentor().instrument()

@Profiler.span("decorated", domain="Execute")
def decorated():
    Profiler(Level.INFO).domain("Engine").res("r").event("inside")

with trace.get_tracer("sdk").start_as_current_span("parent"):
    try:
        with Profiler(Level.INFO).domain("Schedule").span_start("block") as block:
            block.res(["a", "b"])
            with trace.get_tracer("sdk").start_as_current_span("child"):
                decorated()
            raise LookupError("gone")
    except LookupError:
        pass
"""


class Left(NamedTuple):
    """What a process has left: files below the folder, and spans."""

    prof: Path
    spans: list[Span]


Run = Callable[..., Left]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program under ``opentelemetry-instrument``."""

    def run(program: str, *, native: bool, traces: bool) -> Left:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "SERVICE_PROF_", "_ASCEND_OTEL_"))
        }
        environment |= {"OTEL_PYTHON_DISTRO": "ascend", "OTEL_PYTHON_CONFIGURATOR": "ascend"}
        prof = tmp_path / "prof"
        if native:
            config = tmp_path / "config.json"
            config.write_text(json.dumps({"enable": 1, "prof_dir": str(prof), "profiler_level": "INFO"}))
            environment["SERVICE_PROF_CONFIG_PATH"] = str(config)
        with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
            if traces:
                environment |= {
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.http_endpoint}/v1/traces",
                    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                    "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
                }
            done = subprocess.run(
                [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, "-c", program],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stdout, "Profiler:" in done.stderr) == (0, "", False), done.stderr
            return Left(prof, receiver.spans())

    return run


def slices(folder: Path) -> list[dict[str, Any]]:
    """The rows of the only file, as stored but for what differs from run to run: threads are 0, 1 ... as they come."""
    (file,) = folder.rglob("ms_service_*.db")
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM slice ORDER BY id")]
        threads = [name for (name,) in connection.execute("SELECT thread_name FROM thread")]
    known: list[int] = []
    for row in rows:
        assert row.pop("end_time") == row.pop("timestamp") + row["duration"]
        assert f"ms_service_{file.name.split('_')[2].rpartition('-')[0]}-{row.pop('pid')}.db" == file.name
        assert row["track_id"] == row["tid"]
        if row["tid"] not in known:
            known.append(row["tid"])
            assert f"{row['cat']}({row['tid']})" in threads
        row["tid"] = row["track_id"] = known.index(row["tid"])
        row["duration"] = row["duration"] // 1_000_000 // (10 if row["name"] == "batchFrameworkProcessing" else 2) > 0
    return rows


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no shared/data/native beside the repository")
@pytest.mark.parametrize("traces", [False, True])
def test_the_rows_are_those_of_the_reference(run, traces) -> None:
    left = run(PROGRAM, native=True, traces=traces)
    expected = slices(GOLDEN / "prof")
    assert len(expected) == 9
    assert slices(left.prof) == expected
    (file,) = left.prof.rglob("*.db")
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        meta = connection.execute("SELECT value, slice FROM Meta WHERE name = 'dpRankId' ORDER BY rowid").fetchall()
    assert meta[-1] == ("0", "")  # before it stands what the hooks of an installed vLLM know
    assert check(left.prof) == []
    assert len(left.spans) == (10 if traces else 0)


def test_the_same_calls_as_spans(run) -> None:
    spans = {span.name: span for span in run(PROGRAM, native=False, traces=True).spans}
    found = {
        name: (span.scope.removeprefix("ascend_opentelemetry"), span.attributes, span.parent_id)
        for name, span in spans.items()
    }
    requests = '[{"rid": "req-1", "iter": 0, "type": 0, "num_scheduled_tokens": 7}]'
    assert found == {
        "httpReq": (".Engine", {"rid": "req-1"}, ""),
        "batchFrameworkProcessing": (".Schedule", {"rid": requests, "batch_type": "Prefill"}, ""),
        "KVCacheStatus": (
            ".Schedule.KVCache",
            {"rid": ["req-1"], "TotalBlocks": 100, "FreeBlocks": 93, "UsagePercent": 0.07},
            "",
        ),
        "Enqueue": (
            ".Schedule",
            {"rid": "req-1", "WAITING.increment": 1, "scope.QueueName": "WAITING", "scope": "req"},
            "",
        ),
        "Link": (".Request", {"from": "req-1", "to": "42"}, ""),
        "Launch": (".npu", {"usage": 12}, ""),
        "no_domain": ("", {"中文": 'é"quote'}, ""),
        "no_attr": ("", {}, ""),
        "forward": (".Execute", {}, ""),
        "level30": ("", {}, ""),
    }
    assert {name for name, span in spans.items() if span.end > span.start} == {"batchFrameworkProcessing", "forward"}
    assert spans["batchFrameworkProcessing"].ms >= 10


def test_spans_of_the_sdk_and_of_the_profiler_are_one_tree(run) -> None:
    left = run(NESTED, native=True, traces=True)
    spans = {span.name: span for span in left.spans}
    parents = {
        name: next((s.name for s in left.spans if s.span_id == span.parent_id), "") for name, span in spans.items()
    }
    assert parents == {"parent": "", "block": "parent", "child": "block", "decorated": "child"}
    assert len({span.trace_id for span in left.spans}) == 1
    block = spans["block"]
    assert (block.attributes, block.status_code, block.status_message) == (
        {"rid": ["a", "b"]}, 2, "LookupError: gone",
    )  # fmt: skip
    assert [event.name for event in block.events] == ["exception"]
    assert [(event.name, event.attributes) for event in spans["decorated"].events] == [("inside", {"rid": "r"})]
    assert [(row["name"], row["cat"], row["args"]) for row in slices(left.prof)] == [
        ("inside", "Engine", '{"rid": "r", "type": 0}'),
        ("decorated", "Execute", '{"type": 2}'),
        ("block", "Schedule", '{"type": 2, "rid": ["a", "b"]}'),
    ]
