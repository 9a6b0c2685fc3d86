"""Has the stand-in of MSPTI make records for Kineto of the real torch_npu, and the same ones for us; prints both readings."""

# ruff: noqa: E402 - torch_npu needs the stand-in first
from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.npu_stand_in.cann import Cann

Cann()

from torch.profiler import ProfilerActivity, profile, record_function
from torch_npu import npu

from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._library import Kind, Library, LibraryError
from ascend_opentelemetry.npu.mspti._records import Reader
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from tests.support.npu_stand_in.mspti import MsptiStandIn

LIBRARY = Path(os.environ["ASCEND_HOME_PATH"], "lib64", "libmspti.so")
Event = dict[str, Any]


def make() -> MsptiStandIn:
    """Makes a kernel that an operator launches, one that none does, and a collective."""
    stand_in = MsptiStandIn(LIBRARY, base=time.time_ns())
    with record_function("launch"):
        stand_in.api(0, 1, "aclnnMm", id_=41)
        stand_in.kernel(2000, 5250, "aclnnMm_MatMulV2AiCore_MatMulV2", "KERNEL_AICORE", device=1, id_=41)
    stand_in.kernel(9001, 750, "RmsNorm", "KERNEL_AIVEC", device=1)
    stand_in.communication(11000, 3500, "hcom_allReduce__210_0_1", 1024, 4, "group_name_0")
    return stand_in


def subscribe() -> MsptiSession:
    """Our own subscription."""
    library = Library(str(LIBRARY))
    return MsptiSession(library, Buffers(threading.Event()), Reader(library))


def of_kineto(trace: dict[str, Any], base: int) -> dict[str, list[Event]]:
    """Events by category, times in ns after ``base``."""
    found: dict[str, list[Event]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] in "Xsf":
            start = trace["baseTimeNanoseconds"] + int(event["ts"] * 1000) - base
            fields = {"name": event["name"], "start": start, "device": event["pid"], "stream": event["tid"]}
            fields |= {"duration": int(event["dur"] * 1000)} if event["ph"] == "X" else {"flow": event["id"]}
            found.setdefault(f"{event['cat']} {event['ph']}", []).append(fields | event.get("args", {}))
    return found


def of_ours(session: MsptiSession, base: int) -> dict[str, list[Event]]:
    """The same of our own arrays."""
    found: dict[str, list[Event]] = {}
    for records in session.end(5):
        for kind in (Kind.KERNEL, Kind.COMMUNICATION):
            for row in records.get(kind, ()):
                fields = {name: int(row[name]) for name in ("device", "stream")}
                fields |= {"start": int(row["start"]) - base, "duration": int(row["end"]) - int(row["start"])}
                texts = {name: row[name] for name in ("name", "type", "group") if name in row.dtype.names}
                fields |= {name: ctypes.string_at(int(pointer)).decode() for name, pointer in texts.items()}
                found.setdefault(kind.name, []).append(fields)
    return found


def main() -> dict[str, Any]:
    """Both readings, and how our subscription went while Kineto's was on."""
    npu.init()
    refusal = ""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.PrivateUse1]) as profiler:
        base = make().base
        try:
            subscribe()
        except LibraryError as error:
            refusal = str(error)
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(), parse_float=Decimal)  # a float of us would lose ns
    session = subscribe()
    return {
        "process": os.getpid(),
        "kineto": of_kineto(trace, base),
        "refusal": refusal,
        "ours": of_ours(session, make().base),
    }


if __name__ == "__main__":
    print(json.dumps(main(), default=int))
