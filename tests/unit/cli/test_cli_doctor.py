"""Whose variables ``ascend-otel doctor`` looks at, and what it says where it sends no test span."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ascend_opentelemetry import status
from ascend_opentelemetry.cli import main

Start = Callable[..., int]
#: The environment of the tests has the stock distro too.
OURS = {"OTEL_PYTHON_DISTRO": "ascend", "OTEL_PYTHON_CONFIGURATOR": "ascend"}


@pytest.fixture(autouse=True)
def _ours(monkeypatch) -> None:
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def start(monkeypatch) -> Iterator[Start]:
    """Starts a process with these variables; the status files then name it as one of this service."""
    running: list[subprocess.Popen[bytes]] = []
    statuses: list[dict[str, Any]] = []
    monkeypatch.setattr(status, "read_all", lambda: statuses)

    def begin(service: str, **env: str) -> int:
        code = "import sys; print(flush=True); sys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=OURS | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()  # its environment is that of the program, not of the fork
        statuses.append(
            {
                "pid": process.pid, "start_ticks": len(statuses), "ppid": os.getpid(), "role": "main",
                "service": service, "mode": "own", "exporters": [], "hooks": None, "native": None,
                "records": {"taken": 0, "dropped": 0, "lost": {}},
            }
        )  # fmt: skip
        return process.pid

    yield begin
    for process in running:
        process.communicate(timeout=30)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report, without the note on the oldest OpenTelemetry."""
    code = main(["doctor", "--json", *arguments])
    report = json.loads(capsys.readouterr().out)
    report["findings"] = [one for one in report["findings"] if "is too old to instrument" not in one["cause"]]
    return code, report


def test_the_variables_of_the_one_service_count(start, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    first = start("a", OTEL_TRACES_EXPORTER="none")
    start("a", OTEL_TRACES_EXPORTER="otlp")
    code, report = doctor(capsys)
    assert (code, report["variables"]) == (0, f"of the running service (pid {first})")
    assert [finding["cause"] for finding in report["findings"]] == [
        "spans are not exported by OTLP, so no test span was sent"
    ]


def test_of_several_services_the_pids_are_told(start, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    pids = start("a"), start("b", OTEL_TRACES_EXPORTER="none")
    code, report = doctor(capsys, "--no-send")
    said = f"of this command, since 2 services run (pids {pids[0]}, {pids[1]}): --pid chooses one"
    assert (code, report["variables"]) == (2, said)


def test_pid_chooses_the_service_of_a_process(start, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    start("a")
    first, child = start("b", OTEL_TRACES_SAMPLER="always_off"), start("b")
    code, report = doctor(capsys, "--no-send", "--pid", str(child))
    assert (code, report["variables"]) == (2, f"of the running service (pid {first})")
    assert [finding["cause"] for finding in report["findings"]] == [
        "the sampler is off: OTEL_TRACES_SAMPLER=always_off samples no request"
    ]


def test_pid_of_a_process_that_is_not_instrumented(start, capsys) -> None:
    start("a", OTEL_SDK_DISABLED="true")
    code, report = doctor(capsys, "--no-send", "--pid", str(os.getpid()))
    assert (code, report["variables"]) == (2, "of this command")
    assert report["findings"] == [
        {
            "severity": "error",
            "cause": f"--pid {os.getpid()} is no instrumented process of this user",
            "action": "Name one of the table below, or leave it out.",
        }
    ]


def test_with_a_config_file_no_test_span_goes_to_the_default_endpoint(capsys, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    monkeypatch.setattr("ascend_opentelemetry.cli._variables.find_spec", lambda name: name)
    monkeypatch.setattr(status, "read_all", list)
    code, report = doctor(capsys)
    assert (code, report["endpoint"]) == (0, None)
    assert report["findings"] == [
        {
            "severity": "note",
            "cause": "OTEL_CONFIG_FILE names the exporters, so no test span was sent",
            "action": "Name their endpoint by --endpoint.",
        }
    ]
