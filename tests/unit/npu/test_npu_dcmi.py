"""What is read of the stand-ins of three drivers: names, units, ids, and what becomes of refusals."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from pathlib import Path

import pytest

from ascend_opentelemetry.npu._devices import Device, visible
from ascend_opentelemetry.npu.dcmi import _abi as abi
from ascend_opentelemetry.npu.dcmi import _driver, _library
from ascend_opentelemetry.npu.dcmi._driver import Driver
from ascend_opentelemetry.npu.dcmi._reader import Memory
from tests.support import npu_stand_in
from tests.support.npu_stand_in import StandIn, build_dcmi

LIBRARY = "OTEL_PYTHON_VLLM_DCMI_LIBRARY"
MB = 1 << 20

STRUCTURES = {
    "dcmi_hbm": abi.HbmInfo, "dcmi_memory": abi.MemoryInfo, "dcmi_multi_utilization": abi.MultiUtilization,
    "dcmi_process": abi.ProcessMemory, "dcmi_ecc": abi.EccInfo, "dcmi_chip": abi.ChipInfo,
    "dcmi_chip_v2": abi.ChipInfoV2,
}  # fmt: skip
#: Names of the stand-in's fields that are not those of the headers.
FIELDS = {"total_single_bit": "total_single_bit_error_cnt", "total_double_bit": "total_double_bit_error_cnt"}


def open_driver(path: Path, **env: str) -> Driver:
    return Driver({LIBRARY: str(path), **env})


@pytest.fixture
def v1(tmp_path: Path) -> StandIn:
    return StandIn(build_dcmi("v1", tmp_path))


def test_layouts_are_those_that_the_compiler_has_asserted() -> None:
    header = (Path(npu_stand_in.__file__).parent / "dcmi.h").read_text()
    sizes = dict(re.findall(r"_Static_assert\(sizeof\(struct (\w+)\) == (\d+)", header))
    assert sizes.keys() == STRUCTURES.keys()
    room = {"dcmi_ecc": 36 - 28}  # for drivers that write more than the header says
    for name, structure in STRUCTURES.items():
        assert ctypes.sizeof(structure) == int(sizes[name]) + room.get(name, 0), name
    offsets = re.findall(r"_Static_assert\(offsetof\(struct (\w+), (\w+)\) == (\d+)", header)
    assert len(offsets) == 10
    for name, field, offset in offsets:
        assert getattr(STRUCTURES[name], FIELDS.get(field, field)).offset == int(offset), (name, field)


def test_a_v1_driver_is_read_in_bytes_watts_degrees_and_shares(v1) -> None:
    driver = open_driver(v1.path)
    v1.set_pids(4321, 1)
    first, second = driver.readings()
    assert first.device == Device(0, (0, 0), 0, 2, "Ascend 910B4")
    assert second.device == Device(1, (4, 0), 1, 6, "Ascend 910B4")
    assert first.memory == (Memory("hbm", 64208502784, 65536 * MB, 93),)
    assert second.memory == (Memory("hbm", 1024 * MB, 32768 * MB, 3),)
    assert first.utilization == {"general": 0.7, "aicore": 0.66, "vector": 0.12, "cube": 0.65, "aicpu": 0.03}
    # more than 100 % is no value, not 0
    assert second.utilization == {"vector": 0.3, "cube": 0.2, "aicpu": 0.04}
    assert (first.bandwidth, second.bandwidth) == (0.37, None)
    assert (first.power, second.power) == (297.3, 90.5)
    assert (first.temperature, second.temperature) == ({"chip": 51, "hbm": 48}, {"chip": 40, "hbm": 39})
    assert (first.state, second.state) == ("ok", "degraded")
    assert second.errors == {("hbm", "corrected"): 6, ("hbm", "uncorrected"): 1}
    assert first.processes == {4321: 1 << 30, 1: (1 << 30) + 1}
    assert driver.describe() == {
        "found": str(v1.path), "version": "24.1.rc3", "interface": "dcmi", "usable": True,
        "devices": ["npu-2", "npu-6"], "passes": 1,
        "refused": {
            "get_device_memory_info_v3: not supported (-8255)": 2, "get_device_ecc_info: not supported (-8255)": 2,
        },
    }  # fmt: skip


def test_a_v2_driver_is_asked_by_its_own_names_alone(tmp_path) -> None:
    v2 = StandIn(build_dcmi("v2", tmp_path))
    driver = open_driver(v2.path)
    first, second = driver.readings()
    assert first.device == Device(0, (0,), 0, 2, "Ascend950PR")
    assert second.device.hardware_id == "npu-6"
    assert first.memory == (Memory("hbm", 64208502784, 65536 * MB, 93),)
    assert first.utilization == {"general": 0.7, "aicore": 0.66, "vector": 0.12, "cube": 0.65, "aicpu": 0.03}
    assert (first.power, first.state) == (297.3, "ok")
    assert first.temperature == {"chip": 51, "hbm": 48}
    assert first.errors == {("hbm", "corrected"): 5, ("hbm", "uncorrected"): 0}
    assert len(first.processes) == 2
    assert (driver.describe()["interface"], driver.describe()["version"]) == ("dcmiv2", "26.0.0")
    assert (v2.calls("dcmi_init"), v2.calls("dcmiv2_init")) == (0, 1)


def test_an_old_driver_gives_what_it_has(tmp_path) -> None:
    old = StandIn(build_dcmi("old", tmp_path))
    first, second = open_driver(old.path).readings()
    # no function tells the number of the chip
    assert first.device == Device(0, (0, 0), 0, 0, "Ascend 910")
    assert second.device == Device(1, (4, 0), 1, 1, "Ascend 910")
    assert first.memory == (Memory("hbm", 64208502784, 65536 * MB, 93), Memory("ddr", 512 * MB, 16384 * MB, 3))
    assert first.utilization == {"general": 0.7, "aicore": 0.66, "vector": 0.12, "cube": 0.65, "aicpu": 0.03}
    assert (first.power, first.state, first.errors, first.processes) == (297.3, None, {}, {})
    assert first.temperature == {"hbm": 48}


def test_what_is_not_supported_is_asked_once_a_device_and_the_rest_again(v1) -> None:
    driver = open_driver(v1.path)
    v1.refuse("dcmi_get_device_power_info", -8255, 0)
    v1.refuse("dcmi_get_device_temperature", -8006, 1)
    for _ in range(3):
        driver.readings.reset()
        first, second = driver.readings()
    assert first.power is None
    assert second.power == 90.5
    assert first.temperature == {"chip": 51, "hbm": 48}
    assert second.temperature == {"hbm": 39}
    assert v1.calls("dcmi_get_device_power_info") == 1 + 3
    assert v1.calls("dcmi_get_device_temperature") == 3 + 3
    assert v1.calls("dcmi_get_device_memory_info_v3") == 2
    refused = driver.describe()["refused"]
    assert refused["get_device_power_info: not supported (-8255)"] == 1
    assert refused["get_device_temperature: timeout (-8006)"] == 3
    v1.allow_all()
    driver.readings.reset()
    first, second = driver.readings()
    assert first.power is None
    assert second.temperature == {"chip": 40, "hbm": 39}


def test_one_unit_that_is_not_supported_hides_no_other(v1) -> None:
    v1.refuse("dcmi_get_device_multi_utilization_rate", -8255)
    first, second = open_driver(v1.path).readings()
    assert first.utilization == {"general": 0.7, "aicore": 0.66, "vector": 0.12, "cube": 0.65, "aicpu": 0.03}
    assert second.utilization == {"vector": 0.3, "cube": 0.2, "aicpu": 0.04}


def test_a_card_that_does_not_answer_hides_no_other(v1) -> None:
    v1.refuse("dcmi_get_device_id_in_card", -8008, 0)
    v1.refuse("dcmi_get_device_num_in_card", -8008, 0)
    (reading,) = open_driver(v1.path).readings()
    assert reading.device.address == (4, 0)


def test_chips_that_say_the_same_number_are_told_apart_by_their_place(v1) -> None:
    v1.set_physical_ids(6, 6)
    assert [reading.device.hardware_id for reading in open_driver(v1.path).readings()] == ["npu-0", "npu-1"]


def test_a_number_of_chips_that_cannot_be_is_not_believed(v1) -> None:
    v1.set("chips", 10**9)
    driver = open_driver(v1.path)
    readings = driver.readings()
    assert len(readings) == 2 * abi.MAX_CARDS
    assert [reading.device.address for reading in readings if reading.memory] == [(0, 0), (4, 0)]


def test_a_device_that_disappears_and_comes_back_hides_no_other(v1) -> None:
    driver = open_driver(v1.path)
    assert len(driver.memory()) == 2
    for function in ("dcmi_get_device_hbm_info", "dcmi_get_device_memory_info_v3"):
        v1.refuse(function, -8008, 0)
    assert [device.hardware_id for device, _ in driver.memory()] == ["npu-6"]
    v1.allow_all()
    assert [device.hardware_id for device, _ in driver.memory()] == ["npu-2", "npu-6"]


def test_a_driver_that_does_not_answer_holds_readers_up_once_and_is_read_when_it_answers(
    v1, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(_driver, "_PATIENCE", 0.2)
    driver = open_driver(v1.path)
    assert len(driver.readings()) == 2
    v1.set("delay_us", 500_000)
    driver.readings.reset()
    assert driver.readings() == ()
    begin = time.perf_counter()
    for _ in range(100):
        driver.readings.reset()
        assert (driver.readings(), driver.memory()) == ((), [])
    assert time.perf_counter() - begin < 100 * 0.2
    assert driver.hardware_id(1) == "npu-6"
    assert (driver.describe()["reason"], driver.describe().get("usable")) == ("the driver does not answer", None)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{v1.path} has not answered for 0 s: NPUs are not measured until it does")
    v1.set("delay_us", 0)
    deadline = time.monotonic() + 20
    while not driver.readings():
        assert time.monotonic() < deadline
        time.sleep(0.05)
        driver.readings.reset()
    assert driver.describe()["usable"] is True
    assert len(caplog.messages) == 1


def test_a_driver_that_is_not_ready_is_asked_again_later(v1, monkeypatch) -> None:
    v1.refuse("dcmi_get_device_logic_id", -8012)
    driver = open_driver(v1.path)
    for _ in range(2):
        driver.readings.reset()
        assert driver.readings() == []
    assert driver.describe()["reason"] == "get_device_logic_id: the device is not ready (-8012)"
    assert v1.calls("dcmi_init") == v1.calls("dcmi_get_card_list") == 1
    v1.allow_all()
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert len(driver.readings()) == 2
    assert "reason" not in driver.describe()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("dcmi_init", "init: permission denied (-8002)"),
        ("dcmi_get_card_list", "get_card_list: permission denied (-8002)"),
    ],
)
def test_a_driver_that_refuses_says_why(v1, function, reason) -> None:
    v1.refuse(function, -8002)
    driver = open_driver(v1.path)
    assert (driver.readings(), driver.memory()) == ([], [])
    assert driver.describe()["reason"] == reason
    assert driver.hardware_id(1) == "npu-1"


def test_a_driver_without_devices_is_told_from_none(v1, tmp_path) -> None:
    v1.set("devices", 0)
    driver = open_driver(v1.path)
    assert driver.readings() == []
    assert driver.describe() == {
        "found": str(v1.path), "interface": "dcmi", "reason": "the driver has no device for this process",
    }  # fmt: skip
    driver = open_driver(tmp_path / "nothing")
    assert not driver.is_found()
    assert driver.readings() == []
    assert driver.describe() == {"found": False, "reason": "no libdcmi.so of the Ascend driver"}
    broken = tmp_path / "broken.so"
    broken.write_text("no library")
    driver = open_driver(broken)
    assert driver.readings() == []
    assert str(driver.describe()["reason"]).startswith(str(broken))


@pytest.mark.parametrize(
    "env", [{"ASCEND_DRIVER_HOME": "{}/driver"}, {"ASCEND_HOME_PATH": "{}"}, {"LD_LIBRARY_PATH": "/no:{}/driver/lib64"}]
)
def test_the_library_is_found_where_the_driver_puts_it(tmp_path, env) -> None:
    path = build_dcmi("v1", tmp_path / "driver" / "lib64")
    assert _library.find({name: value.format(tmp_path) for name, value in env.items()}) == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None), (" ", None), ("1", (1,)), ("4,1", (4, 1)), (" 2 , 3 ", (2, 3)), ("0,x,1", (0,)), ("1,1,2", (1,)),
        ("-1", ()), ("none", ()), (f"2,{'9' * 5000}", (2,)), ("0,\u0661", (0,)), ("1;0", ()), ("0,,1", (0,)),
    ],
)  # fmt: skip
def test_visible_devices_are_those_that_cann_takes(text, expected) -> None:
    assert visible({"ASCEND_RT_VISIBLE_DEVICES": text}) == expected
    assert visible({}) is None


def test_only_the_devices_of_the_service_are_read_and_keep_their_numbers(v1) -> None:
    driver = open_driver(v1.path, ASCEND_RT_VISIBLE_DEVICES="1")
    (reading,) = driver.readings()
    assert reading.device == Device(1, (4, 0), 1, 6, "Ascend 910B4")
    assert [device.position for device, _ in driver.memory()] == [1]
    # what a worker counts as 0 is the second chip
    assert driver.hardware_id(0) == "npu-6"
    assert open_driver(v1.path, ASCEND_RT_VISIBLE_DEVICES="1,0").hardware_id(1) == "npu-2"
    assert open_driver(v1.path).hardware_id(0) == "npu-2"


def test_memory_alone_is_one_call_a_device(v1) -> None:
    driver = open_driver(v1.path)
    driver.memory()
    before = v1.calls()
    found = driver.memory()
    assert [(device.hardware_id, memory.used) for device, memory in found] == [
        ("npu-2", 64208502784), ("npu-6", 1024 * MB),
    ]  # fmt: skip
    assert v1.calls() - before == 2


def test_other_threads_run_while_the_driver_takes_its_time(v1) -> None:
    driver = open_driver(v1.path)
    driver.memory()
    v1.set("delay_us", 300_000)
    reading = threading.Thread(target=driver.memory)
    begin = time.perf_counter()
    reading.start()
    turns = 0
    while reading.is_alive():
        time.sleep(0.001)
        turns += 1
    assert time.perf_counter() - begin > 0.5
    assert turns > 50
