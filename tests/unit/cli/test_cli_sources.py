"""A line for each source, in the words of the source."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.cli._sources import render


def lines(**sources: dict[str, Any]) -> list[str]:
    statuses = [
        {"role": role, "sources": {name: said.get(role, {}) for name, said in sources.items()}}
        for role in ("APIServer", "EngineCore", "Worker_TP0")
    ]
    return list(render(statuses))


def test_what_a_source_gave_is_one_line() -> None:
    said = {
        "found": "/usr/local/Ascend/driver/lib64/driver/libdcmi.so", "version": "24.1.rc3", "interface": "dcmi",
        "usable": True, "devices": ["npu-2", "npu-6"], "passes": 3,
        "refused": {"get_device_memory_info_v3: not supported (-8255)": 2, "get_device_health: timeout (-8006)": 1},
        "metrics": True, "samples": 0,
    }  # fmt: skip
    assert lines(dcmi={"APIServer": said}) == [
        "",
        "source  processes  state",
        (
            "dcmi    APIServer  usable, version 24.1.rc3, /usr/local/Ascend/driver/lib64/driver/libdcmi.so, interface dcmi,"
            " devices npu-2 npu-6, passes 3, refused get_device_memory_info_v3: not supported (-8255): 2;"
            " get_device_health: timeout (-8006): 1, metrics on, samples 0"
        ),
    ]


def test_a_missing_driver_is_one_line_with_the_reason() -> None:
    said = {"found": False, "reason": "no libdcmi.so of the Ascend driver", "metrics": False}
    assert lines(dcmi={"APIServer": said})[2:] == ["dcmi    APIServer  no libdcmi.so of the Ascend driver, metrics off"]


def test_processes_that_say_the_same_share_a_line_and_silent_ones_have_none() -> None:
    usable = {"usable": True}
    assert lines(
        host={"APIServer": usable, "EngineCore": usable, "Worker_TP0": usable},
        allocator={"Worker_TP0": {"found": True, "version": "2.10.0", "usable": True, "devices": ["npu-2"]}},
        dcmi={"APIServer": {"found": "/lib/libdcmi.so", "reason": "not asked yet", "metrics": True}},
        silent={},
    ) == [
        "",
        "source     processes                          state",
        "allocator  Worker_TP0                         usable, version 2.10.0, devices npu-2",
        "dcmi       APIServer                          not asked yet, /lib/libdcmi.so, metrics on",
        "host       APIServer, EngineCore, Worker_TP0  usable",
    ]


def test_processes_of_one_role_are_counted() -> None:
    statuses = [{"role": role, "sources": {"host": {"usable": True}}} for role in ("Worker", "APIServer", "Worker")]
    assert list(render(statuses))[2:] == ["host    2 Worker, APIServer  usable"]


def test_without_a_source_there_is_no_table() -> None:
    assert lines(silent={}) == []
    assert list(render([{"role": "APIServer"}])) == []
