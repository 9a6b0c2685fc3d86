"""Reading recordings of NPU profilers: peak memory and operators a second of ``ascend-otel npu``.

    python -m benchmarks recording [--quick]

Makes recordings of 1 GB (quick: 100 MB) in a temporary folder: a database as torch_npu writes it, operators only, and
``kernel_details.csv``. ``MSPROF_ANALYZE`` may name the program of the PyPI package msprof-analyze: it then makes the same
sums of the database.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

FULL, QUICK = 10**9, 10**8
#: The goal for a recording of 1 GB, MiB.
MAX_MEMORY = 300
BEGIN_NS = 1_736_410_576_000_000_000
BATCH = 100_000
#: Operators of a profiled step.
STEP = 5000
TYPES = [
    *((f"aclnnOp{number}_Op{number}AiCore_Op{number}", f"Op{number}", "AI_VECTOR_CORE") for number in range(60)),
    *((f"MatMulV{number}", f"MatMulV{number}", "AI_CORE") for number in range(20)),
    *((f"FlashAttentionScore{number}", f"FlashAttentionScore{number}", "MIX_AIC") for number in range(10)),
]
COLUMNS = (
    "Step Id", "Device_id", "Model ID", "Task ID", "Stream ID", "Name", "Type", "OP State", "Accelerator Core",
    "Start Time(us)", "Duration(us)", "Wait Time(us)", "Block Dim", "Mix Block Dim", "HF32 Eligible", "Input Shapes",
    "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats", "Context ID",
    *(f"aic_counter_{number}" for number in range(24)),
)  # fmt: skip
TABLES = """
CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, deviceId INTEGER, connectionId INTEGER, globalTaskId INTEGER,
    globalPid INTEGER, taskType INTEGER, contextId INTEGER, streamId INTEGER, taskId INTEGER, modelId INTEGER);
CREATE TABLE COMPUTE_TASK_INFO (name INTEGER, globalTaskId INTEGER PRIMARY KEY, blockDim INTEGER, mixBlockDim INTEGER,
    taskType INTEGER, opType INTEGER, inputFormats INTEGER, inputDataTypes INTEGER, inputShapes INTEGER,
    outputFormats INTEGER, outputDataTypes INTEGER, outputShapes INTEGER, attrInfo INTEGER);
CREATE TABLE STEP_TIME (id INTEGER, startNs INTEGER, endNs INTEGER);
CREATE TABLE RANK_DEVICE_MAP (rankId INTEGER, deviceId INTEGER);
"""


class Run(NamedTuple):
    seconds: float
    cpu: float
    mebibytes: float
    output: str


def operators(count: int, seed: int = 1):
    """Start, duration, index in TYPES of so many operators, one after the other."""
    numbers = random.Random(seed)
    now = BEGIN_NS
    for _ in range(count):
        duration = numbers.randrange(1_000, 400_000)
        yield now, duration, numbers.randrange(len(TYPES))
        now += duration + numbers.randrange(500)


def write_database(path: Path, size: int) -> int:
    """Write until the file is as large; the number of operators."""
    count = 0
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + TABLES)
        words = list(dict.fromkeys(word for kind in TYPES for word in kind))
        connection.executemany("INSERT INTO STRING_IDS VALUES (?, ?)", enumerate(words))
        ids = [tuple(map(words.index, kind)) for kind in TYPES]
        connection.execute("INSERT INTO RANK_DEVICE_MAP VALUES (0, 0)")
        source = operators(sys.maxsize)
        first = last = BEGIN_NS
        while path.stat().st_size < size:
            tasks, infos = [], []
            for start, duration, kind in (next(source) for _ in range(BATCH)):
                name, op_type, core = ids[kind]
                tasks.append(
                    (start, start + duration, 0, count, count, 1, core, 2**32 - 1, 2, count % 65_536, 2**32 - 1)
                )
                infos.append((name, count, 32, 0, core, op_type, 1, 2, 3, 1, 2, 3, 4))
                last = start + duration
                count += 1
                if not count % STEP:
                    connection.execute("INSERT INTO STEP_TIME VALUES (?, ?, ?)", (count // STEP, first, last))
                    first = last
            connection.executemany(f"INSERT INTO TASK VALUES ({', '.join('?' * 11)})", tasks)
            connection.executemany(f"INSERT INTO COMPUTE_TASK_INFO VALUES ({', '.join('?' * 13)})", infos)
            connection.commit()
        connection.execute("CREATE INDEX TaskIndex ON TASK (startNs, globalTaskId)")
    return count


def write_csv(path: Path, size: int) -> int:
    """The same as ``kernel_details.csv``."""
    count = 0
    shapes = ['"32,3,224,224;64,3,11,11"', "FLOAT;FLOAT", "NCHW;ND", '"32,1,224,224,8"', "FLOAT", "NC1HWC0", "N/A"]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        source = operators(sys.maxsize)
        while file.tell() < size:
            for start, duration, kind in (next(source) for _ in range(BATCH)):
                name, op_type, core = TYPES[kind]
                times = f"{start // 1000}.{start % 1000:03}\t", f"{duration / 1000:.3f}", "0.5"
                ids = [1 + count // STEP, 0, 2**32 - 1, count % 65_536, 2]
                counters = [f"{duration % (number + 7) / 7:.3f}" for number in range(24)]
                rows.writerow([*ids, name, op_type, "dynamic", core, *times, 32, 0, "NO", *shapes, *counters])
                count += 1
    return count


def measure(*command: str, **environment: str) -> Run:
    """Run a program; its peak memory is that of the largest of its processes."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, env=dict(os.environ, **environment))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        output.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        return Run(time.perf_counter() - begin, cpu, usage.ru_maxrss / 1024, output.read().decode())


def run(quick: bool) -> bool:
    size = QUICK if quick else FULL
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        recordings = Path(home) / "recordings"
        database = recordings / "host_1_1_ascend_pt" / "ASCEND_PROFILER_OUTPUT" / "ascend_pytorch_profiler_0.db"
        kernels = Path(home) / "kernel_details.csv"
        database.parent.mkdir(parents=True)
        (database.parents[1] / "profiler_info_0.json").write_text(json.dumps({"rank_id": 0}))
        made = {database: write_database(database, size), kernels: write_csv(kernels, size)}
        print(f"{'':48}{'s':>8}{'CPU s':>8}{'MiB':>8}{'operators/CPU s':>18}")
        for path, count in made.items():
            what = f"{path.name}, {path.stat().st_size / 1e6:.0f} MB, {count} operators"
            print(what)
            for action in (("top", "--limit=0", "--json"), ("import", "--json")):
                done = measure(sys.executable, "-m", "ascend_opentelemetry.cli", "npu", *action, str(path))
                peaks.append(done.mebibytes)
                show(f"  ascend-otel npu {' '.join(action)}", done, count)
                if action[0] == "top":
                    counted = sum(line["count"] for line in json.loads(done.output)["operators"])
                    assert counted == count
        if program := os.environ.get("MSPROF_ANALYZE"):
            arguments = ("cluster", "-m", "compute_op_sum", "-d", str(recordings), "-o", home)
            show("  msprof-analyze cluster -m compute_op_sum", measure(program, *arguments), made[database])
    print(f"peak memory {max(peaks):.0f} MiB, goal: below {MAX_MEMORY} MiB")
    return max(peaks) < MAX_MEMORY


def show(what: str, done: Run, count: int) -> None:
    print(f"{what:48}{done.seconds:8.1f}{done.cpu:8.1f}{done.mebibytes:8.0f}{count / done.cpu:18.0f}", flush=True)
