"""What the resource says about a process."""

from __future__ import annotations

import json
import multiprocessing.process
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk import resources

from ascend_opentelemetry.distro import _resource

DETECTORS = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "/venv/bin/vllm", "serve", "model"], {"vllm.process_kind": "api_server"}),
        (["python", "-m", "vllm.entrypoints.openai.api_server"], {"vllm.process_kind": "api_server"}),
        (["python", "program.py"], {}),
        (["python", "-m", "pytest"], {}),
    ],
)
def test_the_first_process_is_known_by_its_arguments(argv: list[str], expected: dict[str, Any]) -> None:
    assert _resource.service(argv) == expected


def parallel(**fields: Any) -> Any:
    return SimpleNamespace(
        parallel_config=SimpleNamespace(**{"data_parallel_rank": 1, "tensor_parallel_size": 2, **fields})
    )


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("EngineCore", {"dp_rank": 0}, {"vllm.process_kind": "engine_core", "vllm.data_parallel.rank": 0}),
        ("EngineCore_DP3", {"dp_rank": 3}, {"vllm.process_kind": "engine_core", "vllm.data_parallel.rank": 3}),
        ("EngineCore", {}, {"vllm.process_kind": "engine_core"}),
        ("ApiServer_1", {}, {"vllm.process_kind": "api_server"}),
        ("VllmWorker-5", {}, {"vllm.process_kind": "worker"}),
        (
            "VllmWorker-5",
            {"rank": 5, "vllm_config": parallel()},
            {
                "vllm.process_kind": "worker", "vllm.worker.rank": 5, "vllm.data_parallel.rank": 1,
                "vllm.tensor_parallel.rank": 1, "vllm.pipeline_parallel.rank": 2,
            },
        ),
        (
            "VllmWorker-5",
            {"rank": 5, "vllm_config": parallel(data_parallel_index=7, prefill_context_parallel_size=2)},
            {
                "vllm.process_kind": "worker", "vllm.worker.rank": 5, "vllm.data_parallel.rank": 7,
                "vllm.tensor_parallel.rank": 1, "vllm.pipeline_parallel.rank": 1,
            },
        ),
        ("Process-1", {"rank": 5}, {}),
    ],
)  # fmt: skip
def test_a_child_is_known_by_what_vllm_starts_it_with(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    process = SimpleNamespace(name=name, _kwargs=options)
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: object())
    monkeypatch.setattr(multiprocessing.process, "current_process", lambda: process)
    assert _resource.service() == expected


def test_detectors_of_the_sdk_are_used_unless_the_user_says_which() -> None:
    _resource.choose_detectors()
    names = os.environ[DETECTORS].split(",")
    assert names[:2] == ["host", "os"]
    safe = "include_command_args" in str(resources.ProcessResourceDetector.__init__.__annotations__)
    assert ("process" in names) is safe
    os.environ[DETECTORS] = "otel"
    _resource.choose_detectors()
    assert os.environ[DETECTORS] == "otel"


def test_detectors_of_containers_are_used_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["otel", "host", "os", "process", "containerid", "kubernetes", "aws_eks"]
    monkeypatch.setattr(_resource, "entry_points", lambda group: [SimpleNamespace(name=name) for name in names])
    _resource.choose_detectors()
    assert os.environ[DETECTORS].split(",")[-2:] == ["containerid", "kubernetes"]


# one process for all signals, and a child of each kind; --api-key as vLLM takes it
PROGRAM = """
import json, multiprocessing, sys

def show(**options):
    from ascend_opentelemetry.distro import vllm_plugin
    vllm_plugin()
    from opentelemetry import _logs, metrics, trace
    tracer, logger = trace.get_tracer_provider().resource, _logs.get_logger_provider().resource
    meter = metrics.get_meter_provider()._sdk_config.resource
    if hasattr(trace.get_tracer_provider(), "_update_resource"):  # not in SDK 1.41
        assert tracer.attributes == meter.attributes == logger.attributes, (tracer, meter, logger)
    print(json.dumps(dict(meter.attributes)), flush=True)

if __name__ == "__main__":
    from ascend_opentelemetry.distro import AscendConfigurator, AscendDistro
    AscendDistro().configure()
    AscendConfigurator().configure()
    show()
    child = multiprocessing.get_context("fork").Process(target=show, name="EngineCore_DP2", kwargs={"dp_rank": 2})
    child.start()
    child.join()
"""


def test_all_signals_have_one_resource_without_the_command_line() -> None:
    env = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--api-key", "s3cret"],
        env={**env, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "s3cret" not in done.stdout
    parent, child = map(json.loads, done.stdout.splitlines())
    assert {key: parent[key] for key in ("service.name", "host.name", "os.type", "telemetry.distro.name")} == {
        "service.name": "vllm", "host.name": os.uname().nodename, "os.type": "linux",
        "telemetry.distro.name": "ascend-opentelemetry",
    }  # fmt: skip
    assert "vllm.process_kind" not in parent
    differing = {key for key in parent.keys() | child.keys() if parent.get(key) != child.get(key)}
    assert differing - {"process.parent_pid"} == {  # which the detector of SDK 1.41 would tell with the command line
        "service.instance.id", "process.pid", "vllm.process_kind", "vllm.data_parallel.rank",
    }  # fmt: skip
    assert (child["vllm.process_kind"], child["vllm.data_parallel.rank"]) == ("engine_core", 2)
