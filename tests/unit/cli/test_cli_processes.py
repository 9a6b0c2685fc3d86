from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from ascend_opentelemetry.cli._processes import check, first_processes, read_environment, relevant

TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def status(pid: int = 2, ppid: int = 1, role: str = "EngineCore", **fields: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "start_ticks": 1,
        "ppid": ppid,
        "role": role,
        "versions": {},
        "service": "a",
        "mode": "own",
        "exporters": [],
        "hooks": None,
        "records": {"taken": 0, "dropped": 0, "lost": {}},
        "native": None,
    } | fields


def exporter(**fields: Any) -> dict[str, Any]:
    return {
        "endpoint": "localhost:4317",
        "protocol": "grpc",
        "exported": 0,
        "dropped": {},
        "last_success": None,
        "last_error": None,
    } | fields


def findings(*statuses: dict[str, Any], **environments: dict[str, str]) -> list[tuple[str, str]]:
    by_pid = {int(name.removeprefix("pid")): env for name, env in environments.items()}
    return [(severity, cause) for severity, cause, _ in check(statuses, by_pid)]


def test_a_sound_process() -> None:
    native = {"config": "/c", "enabled": True, "file": "/f", "written": 3, "dropped": {"disk": 0}}
    hooks = {"installed": ["a:b"], "left_out": [], "switched_off": []}
    assert findings(status(exporters=[exporter(exported=5)], native=native, hooks=hooks)) == []


@pytest.mark.parametrize("variable", [BASE, TRACES])
def test_an_endpoint_that_vllm_has_rewritten(variable) -> None:
    api_server = status(1, 0, "APIServer")
    ((severity, cause),) = findings(
        api_server,
        status(2, 1),
        pid1={variable: "http://me:secret@collector:4317"},
        pid2={variable: "http://me:secret@collector:4317", TRACES: "http://jaeger:4317"},
    )
    assert severity == "error"
    assert cause == (
        "the endpoint was rewritten by vLLM: EngineCore (2) was started with http://jaeger:4317, its parent "
        "APIServer (1) with http://collector:4317"
    )


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ({BASE: "http://collector:4317"}, {BASE: "http://collector:4317"}),
        # another spelling
        ({BASE: "http://Collector:4318/"}, {BASE: "x", TRACES: "http://collector:4318/v1/traces"}),
        # no variable names one: vLLM's option alone does, and the distro passes it on
        ({}, {TRACES: "http://jaeger:4317"}),
        # not to be read
        ({TRACES: "http://collector:4317"}, {}),
    ],
)
def test_an_endpoint_that_is_as_it_was(parent, child) -> None:
    assert findings(status(1, 0, "APIServer"), status(2, 1), pid1=parent, pid2=child) == []


def test_processes_of_other_parents_are_not_compared() -> None:
    environments = {"pid1": {BASE: "http://a:1"}, "pid2": {TRACES: "http://b:1"}}
    assert findings(status(1, 0), status(2, 9), **environments) == []


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("own", []),
        ("native", []),
        (
            "bridge",
            [
                (
                    "note",
                    "EngineCore (2) hands its spans to an SDK that OTEL_CONFIG_FILE, another distribution or the program set up",
                )
            ],
        ),
        (
            "none",
            [
                (
                    "warning",
                    "EngineCore (2) records nothing: no exporter takes spans, and no native files are asked for",
                )
            ],
        ),
    ],
)
def test_the_mode(mode, found) -> None:
    assert findings(status(mode=mode)) == found


def test_dropped_records() -> None:
    assert findings(status(records={"taken": 1, "dropped": 7, "lost": {"NativeSink": 3}})) == [
        ("warning", "EngineCore (2) has dropped 7 records: they came faster than they could be worked on"),
        ("warning", "EngineCore (2): NativeSink has failed and lost 3 records"),
    ]


def test_exports_that_fail() -> None:
    failing = exporter(last_error="UNAVAILABLE", dropped={"export_failed": 4, "queue_full": 5, "rejected": 0})
    assert findings(status(exporters=[exporter(), failing])) == [
        ("warning", "EngineCore (2): the last export to localhost:4317 failed: UNAVAILABLE"),
        ("warning", "EngineCore (2) has lost spans for localhost:4317: export_failed 4, queue_full 5"),
    ]


def test_lost_native_rows() -> None:
    native = {"config": "/c", "enabled": True, "file": "/f", "written": 3, "dropped": {"disk": 2, "unfit": 1}}
    assert findings(status(native=native)) == [("warning", "EngineCore (2) has lost native rows: disk 2, unfit 1")]


def test_hooks_that_are_not_there() -> None:
    hooks = {"installed": [], "left_out": ["a:gone"], "switched_off": ["a:b", "a:c"]}
    assert findings(status(hooks=hooks)) == [
        ("warning", "EngineCore (2): handlers were switched off after failures: a:b, a:c"),
        (
            "note",
            "EngineCore (2): symbols that do not exist in this version, or lie in compiled code, are left out: a:gone",
        ),
    ]


def test_the_variables_of_a_process_are_those_of_its_start() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import os; os.environ['OTEL_X'] = 'changed'; print(1, flush=True); input()"],
        env={"OTEL_X": "a=b", "OTHER": "c"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    env = read_environment(process.pid)
    process.communicate(b"\n", timeout=30)
    assert (env["OTEL_X"], env["OTHER"]) == ("a=b", "c")
    assert read_environment(process.pid) == {}


def test_which_variables_count() -> None:
    names = ["OTEL_A", "VLLM_PLUGINS", "SERVICE_PROF_CONFIG_PATH", "PROFILING_SYMBOLS_PATH", "REQUESTS_CA_BUNDLE"]
    assert list(relevant(dict.fromkeys([*names, "PATH", "VLLM_API_KEY"], "x"))) == names


def test_the_first_process_of_each_service() -> None:
    statuses = [status(5, service="a"), status(6, service="b"), status(7, service="a")]
    assert first_processes(statuses) == [5, 6]
    assert first_processes([]) == []
    assert os.getpid() not in first_processes(statuses)
