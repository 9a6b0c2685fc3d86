"""Operators by MSPTI in whole processes: a worker in which torch_npu and the library are stand-ins."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.npu_stand_in.mspti import build_mspti
from tests.support.otlp_metrics import last_values

WORKER = """\
import os
import sys
import time
from types import ModuleType, SimpleNamespace

from npu_stand_in.mspti import MsptiStandIn

from ascend_opentelemetry.recorder import Forward, forwards

torch, torch_npu = ModuleType("torch"), ModuleType("torch_npu")
torch.npu = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 0)
sys.modules |= {"torch": torch, "torch_npu": torch_npu}
library, scenario = sys.argv[1:]
stand_in = MsptiStandIn(library, time.time_ns())
other = stand_in.subscribe() if scenario == "second" else None
deadline = time.monotonic() + 20
while scenario != "second" and forwards.watcher is None:
    assert time.monotonic() < deadline
    time.sleep(0.01)
if scenario == "second":
    time.sleep(1)
if scenario == "fork":
    child = os.fork()
    if not child:
        time.sleep(0.3)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
begin = time.time_ns()
forwards.begin(0xB)
stand_in.api(begin, 10, "aclnnMm", id_=1)
stand_in.kernel(begin + 1000, 2000, "aclnnMm_MatMulCommon_MatMulV2", "KERNEL_AICORE", id_=1)
forwards.end(Forward(begin, begin + 10_000, (0xA, 0xB, 0, 1)))
stand_in.kernel(begin - 20_000_000, 3000, "aclnnAdd_AddAiCore_Add", id_=2)
stand_in.memcpy(begin, 100, 4096, 2)
stand_in.set("stall_flush", scenario == "stall")
print("done", flush=True)
"""
VARIABLES = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}


def events(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        record
        for request in requests
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        if record.get("eventName") == "npu.operator.window"
    ]


def work(program: Any, receiver: Any, scenario: str, **variables: str) -> Any:
    library = build_mspti(program.folder / "cann")
    (program.folder / "worker.py").write_text(WORKER)
    home = {"ASCEND_HOME_PATH": str(program.folder / "cann"), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint}
    done = program.run("worker.py", str(library), scenario, **(VARIABLES | home | variables))
    assert (done.code, done.out) == (0, "done\n"), done.err
    return done


def test_a_worker_gives_metrics_events_of_its_forwards_and_a_file(program, receiver) -> None:
    program.native(acl_task_time=2, kernel_filter="MatMul\uff1bnothing")
    done = work(program, receiver, "plain", LD_PRELOAD=str(program.folder / "cann" / "lib64" / "libmspti.so"))
    assert done.warnings == []
    series = {
        (one.name, one.attributes.get("npu.operator.type", one.attributes.get("npu.memcpy.direction"))): one
        for one in last_values(receiver.requests("metrics"))
        if one.scope == "ascend_opentelemetry.npu"
    }
    duration = series["npu.operator.duration", "MatMulV2"]
    assert (duration.kind, duration.count, duration.value) == ("histogram", 1, pytest.approx(2e-6))
    assert duration.attributes == {"npu.operator.type": "MatMulV2", "npu.core.type": "AI_CORE", "hw.id": "npu-0"}
    assert series["npu.operator.count", "Add"].value == 1
    assert series["npu.operator.time", "Add"].value == pytest.approx(3e-6)
    assert series["npu.memcpy.io", "h2d"].value == 4096
    windows = events(receiver.requests("logs"))
    ids = [(one.get("traceId", ""), one.get("spanId", "")) for one in windows]
    assert ids == [("", ""), (f"{0xA:032x}", f"{0xB:016x}")]
    (path,) = program.folder.rglob("ascend_service_profiler_*.db")
    assert path.parent.name == "Trace_Service"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM Kernel").fetchall() == [("aclnnMm_MatMulCommon_MatMulV2",)]
    assert connection.execute("SELECT name FROM Api").fetchall() == [("aclnnMm",)]
    connection.close()


@pytest.mark.parametrize("scenario", ["stall", "fork", "second"])
def test_a_library_that_misbehaves_and_a_fork_leave_the_program_as_it_is(program, receiver, scenario) -> None:
    done = work(program, receiver, scenario, OTEL_PYTHON_VLLM_NPU_OPERATORS="mspti")
    said = {
        "stall": [],
        "fork": [],
        "second": [
            "OTEL_PYTHON_VLLM_NPU_OPERATORS=mspti: operators are not collected: another one in this process subscribes to MSPTI"
        ],
    }[scenario]
    preload = "MSPTI records no MEMORY, MEMCPY here; for those, run before the service starts: export LD_PRELOAD="
    expected = said or [f"OTEL_PYTHON_VLLM_NPU_OPERATORS=mspti: {preload}"]
    assert len(done.warnings) == len(expected), done.err
    assert all(line.startswith(start) for line, start in zip(done.warnings, expected, strict=True))
    found = {one.name for one in last_values(receiver.requests("metrics"))}
    assert ("npu.operator.count" in found) == (scenario == "fork")
    assert list(Path(program.folder).rglob("ascend_service_profiler_*.db")) == []
