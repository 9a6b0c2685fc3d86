"""The stand-in of the v1 driver, read by an independent program: PyPI's ``ascend-nputop``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_opentelemetry.npu.dcmi._driver import Driver
from tests.support.npu_stand_in import build_dcmi

PROGRAM = """
import json
from nputop.api import libdcmi


def plain(value):
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    return [plain(item) for item in value] if isinstance(value, tuple) else value

backend = libdcmi.create_backend()
calls = {
    "name": backend.name, "ids": backend.device_ids, "hbm": backend.hbm_info, "power": backend.power_usage,
    "temperature": backend.temperature, "utilization": backend.utilization_rates, "ecc": backend.ecc_info,
    "processes": backend.process_info,
}
print(json.dumps([
    {key: plain(call(index)) for key, call in calls.items()} for index in range(backend.count())
]))
"""


def test_nputop_reads_the_same(tmp_path: Path) -> None:
    pytest.importorskip("nputop", reason="ascend-nputop is not installed")
    path = build_dcmi("v1", tmp_path / "lib64")
    env = {**os.environ, "ASCEND_DRIVER_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = Driver({"OTEL_PYTHON_VLLM_DCMI_LIBRARY": str(path)}).readings()
    assert len(theirs) == len(ours) == 2
    for their, our in zip(theirs, ours, strict=True):
        (hbm,) = our.memory
        ids = their["ids"]
        assert (ids["logical_id"], ids["chip_physical_id"]) == (our.device.logical_id, our.device.physical_id)
        assert f"Ascend {their['name']}" == our.device.model
        assert (their["hbm"]["used"], their["hbm"]["total"]) == (hbm.used, hbm.limit)
        assert their["hbm"]["temperature"] == our.temperature["hbm"]
        assert their["hbm"]["bandwidth"] == ("N/A" if our.bandwidth is None else our.bandwidth * 100)
        assert their["power"] / 1000 == our.power
        assert their["temperature"] == our.temperature["chip"]
        shares = [our.utilization.get(unit) for unit in ("general", "aicpu")]
        percent = ["N/A" if share is None else round(share * 100) for share in shares]
        assert [their["utilization"]["npu"], their["utilization"]["aicpu"]] == percent
        errors = [their["ecc"]["total_single_bit"], their["ecc"]["total_double_bit"]]
        assert errors == [our.errors["hbm", "corrected"], our.errors["hbm", "uncorrected"]]
        # one of the two processes is the one that asks
        assert [entry["usedNpuMemory"] for entry in their["processes"]] == list(our.processes.values())
        assert their["processes"][1]["pid"] == list(our.processes)[1] == 1
