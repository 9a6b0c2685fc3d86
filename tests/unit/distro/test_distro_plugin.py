"""The plugin that vLLM loads in each of its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, logging, sys
from opentelemetry import trace
from ascend_opentelemetry.distro import vllm_plugin
logging.basicConfig(level=logging.WARNING)
for _ in range(2):
    vllm_plugin()
loaded = [name for name in ("ascend_opentelemetry._instrumentor", "opentelemetry.sdk") if name in sys.modules]
on = "ascend_opentelemetry._runtime" in sys.modules
if on:
    from ascend_opentelemetry._runtime import runtime
    from ascend_opentelemetry.recorder import recorder
    from ascend_opentelemetry import VLLMInstrumentor
    import threading
    on = {
        "instrumented": VLLMInstrumentor().is_instrumented_by_opentelemetry,
        "traces": runtime.has_traces,
        "native": recorder.native is not None,
        "drains": [thread.name for thread in threading.enumerate()].count("ascend-otel-drain"),
    }
print(json.dumps({"loaded": loaded, "on": on, "provider": type(trace.get_tracer_provider()).__name__}))
"""


def run(program: str = PROGRAM, *arguments: str, **environment: str) -> tuple[dict, str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, *(arguments or ("-c", program))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "", "SERVICE_PROF_CONFIG_PATH": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "x", "PROFILING_SYMBOLS_PATH": "x.yaml"},
    ],
)
def test_it_is_inactive_where_nothing_is_asked_for(environment) -> None:
    found, errors = run(**environment)
    assert found == {"loaded": [], "on": False, "provider": "ProxyTracerProvider"}
    assert errors == ""


def test_native_files_alone_need_no_sdk(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(tmp_path)}))
    found, _ = run(SERVICE_PROF_CONFIG_PATH=str(config))
    assert found == {
        "loaded": ["ascend_opentelemetry._instrumentor"],
        "on": {"instrumented": True, "traces": False, "native": True, "drains": 1},
        "provider": "ProxyTracerProvider",
    }


def test_an_exporter_configures_the_sdk_once() -> None:
    found, errors = run(OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")
    assert found["on"] == {"instrumented": True, "traces": True, "native": False, "drains": 1}
    assert found["provider"] == "TracerProvider"
    assert errors == ""


def test_a_helper_of_vllm_stays_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "vllm" / "model_executor" / "models"
    folder.mkdir(parents=True)
    (folder / "registry.py").write_text(PROGRAM)
    found, _ = run(
        "",
        "-m",
        "vllm.model_executor.models.registry",
        OTEL_TRACES_EXPORTER="console",
        PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))),
    )
    assert found == {"loaded": [], "on": False, "provider": "ProxyTracerProvider"}


def test_what_goes_wrong_is_logged_and_nothing_else(tmp_path: Path) -> None:
    found, errors = run(OTEL_TRACES_EXPORTER="no_such_exporter")
    assert found["provider"] in ("ProxyTracerProvider", "TracerProvider")
    assert "vLLM is not instrumented" in errors
    assert "no_such_exporter" in errors
