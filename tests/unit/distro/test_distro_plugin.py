"""The plugin that vLLM loads in each of its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.server import free_port

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
        "metrics": recorder.metrics_on,
        "drains": [thread.name for thread in threading.enumerate()].count("ascend-otel-drain"),
    }
print(json.dumps({"loaded": loaded, "on": on, "provider": type(trace.get_tracer_provider()).__name__}))
"""


#: A provider that is not ours.
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
trace.set_tracer_provider(provider)
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
        "on": {"instrumented": True, "traces": False, "native": True, "metrics": False, "drains": 1},
        "provider": "ProxyTracerProvider",
    }


def test_beside_native_files_the_programs_own_provider_gets_spans(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(tmp_path)}))
    found, _ = run(PROVIDER + PROGRAM, SERVICE_PROF_CONFIG_PATH=str(config))
    assert found["on"] == {"instrumented": True, "traces": True, "native": True, "metrics": False, "drains": 1}


def test_an_exporter_configures_the_sdk_once() -> None:
    found, errors = run(OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")
    assert found["on"] == {"instrumented": True, "traces": True, "native": False, "metrics": False, "drains": 1}
    assert found["provider"] == "TracerProvider"
    assert errors == ""


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_METRICS_EXPORTER": "otlp"}, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{free_port()}"}],
)
def test_who_names_metrics_alone_gets_metrics_alone(environment: dict[str, str]) -> None:
    found, _ = run(**environment)
    assert found["on"] == {"instrumented": True, "traces": False, "native": False, "metrics": True, "drains": 1}


def test_metrics_go_to_the_programs_own_provider_where_it_has_one() -> None:
    own = (
        "from opentelemetry import metrics; from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))\n"
    )
    found, errors = run(own + PROGRAM, OTEL_METRICS_EXPORTER="console")
    assert found["on"] == {"instrumented": True, "traces": False, "native": False, "metrics": True, "drains": 1}
    assert (found["provider"], errors) == ("ProxyTracerProvider", "")


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


#: What each of two spawned children finds, like EngineCore: before the plugin comes, vLLM may have set up its tracing.
CHILD = f"""
import json, multiprocessing, os
def set_provider():{PROVIDER.replace(chr(10), chr(10) + " " * 4)}
def child(vllm_traces):
    if vllm_traces:
        set_provider()
    from ascend_opentelemetry.distro import vllm_plugin
    from ascend_opentelemetry._runtime import runtime
    from ascend_opentelemetry import VLLMInstrumentor
    vllm_plugin()
    found = dict(
        instrumented=VLLMInstrumentor().is_instrumented_by_opentelemetry,
        traces=[type(sink).__name__ for sink in runtime._trace_sinks],
    )
    print(json.dumps(found), flush=True)
if __name__ == "__main__":
    if "plugin" in os.environ["PARENT"]:
        from ascend_opentelemetry.distro import vllm_plugin
        vllm_plugin()
    if "tracing" in os.environ["PARENT"]:
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:9"
    for vllm_traces in (False, True):
        process = multiprocessing.get_context("spawn").Process(target=child, args=(vllm_traces,))
        process.start()
        process.join()
        assert process.exitcode == 0
"""
OUT = {"instrumented": False, "traces": []}
NATIVE = {"instrumented": True, "traces": []}
EXPORTING = [
    {"instrumented": True, "traces": ["ForeignProcessors"]},
    {"instrumented": True, "traces": ["BridgeSink"]},
]


def children(tmp_path: Path, *arguments: str, script: str = "program.py", **environment: str) -> list[dict]:
    """What the two children of a program find."""
    program = tmp_path / script
    program.write_text(CHILD)
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    clean |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    command = [sys.executable, str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean | environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_child_takes_no_part_in_the_tracing_of_vllm_alone(tmp_path: Path) -> None:
    """vLLM leaves its endpoint in the environment of its children."""
    assert children(tmp_path, PARENT="plugin, tracing") == [OUT, OUT]


def test_native_files_of_a_child_leave_the_tracing_of_vllm_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"enable": 0, "prof_dir": str(tmp_path)}))
    assert children(tmp_path, PARENT="plugin, tracing", SERVICE_PROF_CONFIG_PATH=str(config)) == [NATIVE, NATIVE]


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_child_exports_spans_when_its_parent_does(name: str, tmp_path: Path) -> None:
    environment = {name: "http://127.0.0.1:9"}
    assert children(tmp_path, PARENT="plugin", **environment) == EXPORTING


def test_a_child_of_a_program_that_is_not_vllm_decides_itself(tmp_path: Path) -> None:
    assert children(tmp_path, PARENT="", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:9") == EXPORTING
    assert children(tmp_path, PARENT="") == [OUT, OUT]


def test_what_another_service_decided_counts_for_its_own_children_only() -> None:
    found, _ = run(_ASCEND_OTEL_TRACES="no", OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")
    assert found["on"]["traces"] is True
    found, _ = run(_ASCEND_OTEL_TRACES="yes")
    assert found["on"] is False


def test_the_option_of_vllm_is_a_wish_for_traces_in_all_its_processes(tmp_path: Path) -> None:
    option = "--otlp-traces-endpoint=http://127.0.0.1:9"
    assert children(tmp_path, "serve", option, script="vllm", PARENT="plugin") == EXPORTING
    assert children(tmp_path, "serve", option, script="other", PARENT="plugin") == [OUT, OUT]


def test_no_exporter_is_the_last_word(tmp_path: Path) -> None:
    option = "--otlp-traces-endpoint=http://127.0.0.1:9"
    environment = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert children(tmp_path, "serve", option, script="vllm", PARENT="plugin", **environment) == [OUT, OUT]


def test_what_goes_wrong_is_logged_and_nothing_else() -> None:
    found, errors = run(OTEL_TRACES_EXPORTER="no_such_exporter")
    assert found["on"] == {"instrumented": True, "traces": False, "native": False, "metrics": False, "drains": 1}
    assert errors == (
        "ERROR:ascend_opentelemetry.distro._configurator:the OpenTelemetry SDK cannot do as its variables say: "
        "Requested component 'no_such_exporter' not found in entry point 'opentelemetry_traces_exporter'\n"
    )
