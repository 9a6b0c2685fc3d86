"""Where the recordings of real NPUs lie, and parts of hand-made ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

RECORDINGS = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "npu"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings of others are not here")
EXPECTED: dict[str, Any] = json.loads((RECORDINGS / "expected.json").read_text()) if RECORDINGS.is_dir() else {}

START = 1_736_410_576_375_315_901
TASK = ("startNs", "endNs", "deviceId", "globalTaskId", "taskType")
INFO = ("name", "globalTaskId", "blockDim", "taskType", "opType")
STRINGS = ("MatMulV3_0f3a9c5d7e1b2a4c6d8e_1", "AI_CORE", "N/A", "MatMulV3", "hcom_allReduce__210_0_1", "group", "FP16")
HEAD = ["Name", "Type", "Accelerator Core", "Start Time(us)", "Duration(us)", "Block Num", "Input Shapes"]
ROW = ["aclnnAdd_AddAiCore_Add", "Add", "AI_VECTOR_CORE", "1736408883704643.212\t", "53.741", "32", '"32,3;4,4"']


def write_csv(path: Path, *rows, end="\r\n") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator=end).writerows(rows)
    return path


def tasks(*numbers):
    return [(START + 100 * number, START + 100 * number + 50, 3, number, 1) for number in numbers]
