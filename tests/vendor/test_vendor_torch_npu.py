"""What we take from torch_npu and MSPTI, held against the real torch_npu: nothing of it is a stand-in, only what it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Seen = dict[str, Any]
MIB = 2**20
#: The allocator adds 32 bytes, rounds up to 512, and takes segments of 2 MiB for small blocks and of 20 MiB for larger.
SMALL = 4096
LARGE = 3 * MIB + 512
PEAKS = {
    "npu-1 allocated": SMALL + LARGE, "npu-1 reserved": 22 * MIB, "npu-1 active": SMALL + LARGE,
    "npu-1 inactive_split": 22 * MIB - SMALL - LARGE, "npu-1 requested": 4000 + 3 * MIB,
}  # fmt: skip
MATMUL = {
    "name": "aclnnMm_MatMulV2AiCore_MatMulV2", "start": 2000, "duration": 5250, "device": 1, "stream": 7,
    "type": "KERNEL_AICORE",
}  # fmt: skip
NORM = {"name": "RmsNorm", "start": 9001, "duration": 750, "device": 1, "stream": 7, "type": "KERNEL_AIVEC"}
REDUCE = {"name": "hcom_allReduce__210_0_1", "start": 11000, "duration": 3500, "device": 0, "stream": 9}


@pytest.fixture(scope="module")
def memory(run: Callable[[str], Seen]) -> Seen:
    return run("allocator")


@pytest.fixture(scope="module")
def trace(run: Callable[[str], Seen]) -> Seen:
    return run("kineto")


def test_an_imported_torch_npu_without_a_device_has_no_metrics(memory: Seen) -> None:
    assert memory["imported"] == {}


def test_what_is_allocated_is_measured_on_the_card_that_has_it(memory: Seen) -> None:
    assert memory["allocated"] == {
        "npu.allocator.memory": PEAKS,
        "npu.allocator.peak": PEAKS,
        "npu.allocator.retries": {"npu-1": 0},
        "npu.allocator.oom": {"npu-1": 0},
    }
    assert memory["keys"] == 123


def test_freed_memory_stays_reserved_and_in_the_peak(memory: Seen) -> None:
    assert memory["freed"]["npu.allocator.memory"] == {
        "npu-1 allocated": SMALL, "npu-1 reserved": 22 * MIB, "npu-1 active": SMALL,
        "npu-1 inactive_split": 2 * MIB - SMALL, "npu-1 requested": 4000,
    }  # fmt: skip
    assert memory["freed"]["npu.allocator.peak"] == PEAKS


def test_a_refused_allocation_is_counted_and_told_after_the_cache_was_given_back(memory: Seen) -> None:
    refused = memory["refused"]
    assert (refused["npu.allocator.oom"], refused["npu.allocator.retries"]) == ({"npu-1": 1}, {"npu-1": 1})
    assert refused["npu.allocator.memory"]["npu-1 reserved"] == 2 * MIB
    event = {
        "hw.id": "npu-1", "npu.allocator.oom": 1, "npu.allocator.allocated": SMALL, "npu.allocator.reserved": 2 * MIB,
    }  # fmt: skip
    assert memory["events"] == [["npu.memory.oom", event]]
    assert memory["torch"] == [SMALL, 2 * MIB]


def test_reading_gives_no_card_to_the_thread_that_reads(memory: Seen) -> None:
    assert memory["cards"] == {"allocating": 0, "reading": -1}


def test_the_source_names_the_version_and_the_card(memory: Seen) -> None:
    assert memory["described"] == {
        "found": True, "version": "2.13.0", "metrics": True, "usable": True, "devices": ["npu-1"],
    }  # fmt: skip


def test_kineto_reads_the_kernels_of_the_stand_in_as_we_do(trace: Seen) -> None:
    assert trace["kineto"]["kernel X"] == [{**MATMUL, "streamId": 7}, {**NORM, "streamId": 7}]
    assert trace["ours"]["KERNEL"] == [MATMUL, NORM]


def test_kineto_reads_the_collective_of_the_stand_in_as_we_do(trace: Seen) -> None:
    (event,) = trace["kineto"]["collective_comm X"]
    assert {key: event[key] for key in (*REDUCE, "commName")} == {**REDUCE, "commName": "group_name_0"}
    assert trace["ours"]["COMMUNICATION"] == [{**REDUCE, "group": "group_name_0"}]


def test_kineto_links_a_kernel_to_its_launch_by_the_external_correlation_record(trace: Seen) -> None:
    (begin,), (end,) = trace["kineto"]["ac2g s"], trace["kineto"]["ac2g f"]
    (launch,) = trace["kineto"]["user_annotation X"]
    assert begin["flow"] == end["flow"] == launch["External id"]
    assert begin["device"] == launch["device"] == trace["process"]
    assert (end["device"], end["stream"], end["start"]) == (MATMUL["device"], MATMUL["stream"], MATMUL["start"])


def test_while_kineto_subscribes_we_are_refused_with_the_reason(trace: Seen) -> None:
    assert trace["refusal"].startswith("another one in this process subscribes to MSPTI, which takes one: torch_npu's ")
