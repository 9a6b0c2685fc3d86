"""The Prometheus exporter in the processes of a service, each of which has metrics of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.distro import _prometheus
from ascend_opentelemetry.distro._prometheus import choose_port
from devtools.server import free_port

PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"

PROGRAM = """
import multiprocessing, os, urllib.request

def serve(ready, go):
    from ascend_opentelemetry import VLLMInstrumentor
    from ascend_opentelemetry.distro import AscendConfigurator, AscendDistro, _prometheus
    from ascend_opentelemetry.recorder import recorder
    from ascend_opentelemetry.vllm._metrics import request_ended
    AscendDistro().configure()
    AscendConfigurator().configure()
    VLLMInstrumentor().instrument()
    request_ended(0, 1, None, {"gen_ai.operation.name": multiprocessing.current_process().name})
    assert recorder.flush(5)
    (port,) = [name.getsockname().decode().rpartition("-")[2] for name in _prometheus._taken]
    ready.put(port)
    go.wait()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ready, go, wait = context.Queue(), context.Event(), context.Event()
    wait.set()
    serve(ready, wait)
    children = [context.Process(target=serve, args=(ready, go), name=f"child-{number}") for number in (1, 2)]
    for child in children:
        child.start()
    for port in [ready.get(timeout=60) for _ in range(3)]:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        (line,) = [line for line in text.splitlines() if line.startswith("gen_ai_server_request_duration_seconds_count")]
        print(port, line.partition('operation_name="')[2].partition('"')[0], line.rpartition(" ")[2], flush=True)
    go.set()
    for child in children:
        child.join()
"""


FILE = """
file_format: "1.0"
meter_provider:
  readers:
    - pull:
        exporter:
          prometheus/development: {host: 127.0.0.1, port: PORT}
"""


@pytest.mark.parametrize("by_file", [False, True])
def test_each_process_of_a_service_is_scraped_at_a_port_of_its_own(tmp_path: Path, by_file: bool) -> None:
    pytest.importorskip("opentelemetry.exporter.prometheus")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    first = free_port()
    if by_file:
        pytest.importorskip("opentelemetry.configuration")
        file = tmp_path / "otel.yaml"
        file.write_text(FILE.replace("PORT", str(first)))
        env["OTEL_CONFIG_FILE"] = str(file)
    else:
        env |= {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
                PORT: str(first)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split() for line in done.stdout.splitlines()]
    assert {name: count for _, name, count in found} == {"MainProcess": "1.0", "child-1": "1.0", "child-2": "1.0"}
    assert found[0][:2] == [str(first), "MainProcess"]
    assert len({port for port, _, _ in found}) == 3


def test_a_port_that_somebody_serves_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_prometheus, "_taken", [])
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console, prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setenv(PORT, str(taken))
        choose_port()
        assert int(os.environ[PORT]) > taken


@pytest.mark.parametrize(("exporter", "port"), [("otlp", "9464"), ("prometheus", "no port")])
def test_without_the_exporter_or_a_number_the_variable_stays(
    exporter: str, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prometheus, "_taken", [])
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", exporter)
    monkeypatch.setenv(PORT, port)
    choose_port()
    assert (os.environ[PORT], _prometheus._taken) == (port, [])


@pytest.mark.parametrize("error", [socket.gaierror(-3, "no name server answers"), UnicodeError("label too long")])
def test_a_host_that_is_unknown_is_looked_up_once_and_left_to_the_exporter(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    def look_up(host: str, *_: object, **__: object) -> None:
        looked_up.append(host)
        raise error

    monkeypatch.setattr(_prometheus, "_taken", [])
    monkeypatch.setattr(_prometheus.socket, "getaddrinfo", look_up)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "metrics-host")
    monkeypatch.setenv(PORT, "9470")
    choose_port()
    assert (os.environ[PORT], looked_up, _prometheus._taken) == ("9470", ["metrics-host"], [])


def test_ports_that_somebody_serves_cost_no_further_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    really = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **named: Any) -> Any:
        looked_up.append(host)
        return really(host, *arguments, **named)

    monkeypatch.setattr(_prometheus, "_taken", [])
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(_prometheus.socket, "getaddrinfo", look_up)
        assert _prometheus._first_free("127.0.0.1", taken) > taken
    assert looked_up == ["127.0.0.1"]
