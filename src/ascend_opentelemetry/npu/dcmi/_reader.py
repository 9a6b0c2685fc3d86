"""What the driver says of each device, asking for nothing twice that it will never know."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Mapping
from ctypes import byref
from typing import Any, NamedTuple

from ascend_opentelemetry.npu._devices import Device
from ascend_opentelemetry.npu.dcmi import _abi as abi
from ascend_opentelemetry.npu.dcmi._library import Dcmi, DcmiError

_MEGABYTE = 1 << 20
#: Units that a driver without ``get_device_multi_utilization_rate`` is asked for one by one.
_UNITS = {"general": abi.NPU, "aicore": abi.AICORE, "vector": abi.VECTOR, "cube": abi.CUBE}
_ECC = {"hbm": abi.HBM_ECC, "ddr": abi.DDR_ECC}
_STATES = {0: "ok", 1: "degraded", 2: "degraded", 3: "failed"}


class Memory(NamedTuple):
    """One kind of memory of a device.

    Attributes:
        kind: ``hbm`` or ``ddr``.
        used: bytes.
        limit: bytes.
        percent: what is used, as the driver counts it.
    """

    kind: str
    used: int
    limit: int
    percent: int


class Reading(NamedTuple):
    """A device at one moment; what the driver does not tell is empty or None.

    Attributes:
        device: the device.
        memory: by kind, HBM first.
        utilization: share of the time, 0 to 1, by unit: ``general``, ``cube``, ``vector``, ``aicore``, ``aicpu``.
        bandwidth: share of the bandwidth of the HBM, 0 to 1.
        power: W.
        temperature: degrees Celsius by sensor: ``chip``, ``hbm``.
        state: ``ok``, ``degraded``, ``failed``.
        errors: ECC errors over the life of the device, by kind of memory and ``corrected`` or ``uncorrected``.
        processes: bytes by process id.
    """

    device: Device
    memory: tuple[Memory, ...]
    utilization: Mapping[str, float]
    bandwidth: float | None
    power: float | None
    temperature: Mapping[str, int]
    state: str | None
    errors: Mapping[tuple[str, str], int]
    processes: Mapping[int, int]


class DcmiReader:
    """Asks for devices; one thread at a time.

    Args:
        dcmi: the library.
    """

    def __init__(self, dcmi: Dcmi) -> None:
        self._dcmi = dcmi
        self._never: set[tuple[Any, ...]] = set()
        #: What was refused, and how often.
        self.refused: Counter[str] = Counter()

    def read(self, device: Device) -> Reading:
        """Everything of a device."""
        hbm = self._hbm(device)
        temperature = self._integer(device, "get_device_temperature")
        sensors = {"chip": temperature} if temperature is not None else {}
        power = self._integer(device, "get_device_power_info")
        memory = (_of_hbm(hbm) if hbm is not None else None, self._ddr(device))
        return Reading(
            device=device,
            memory=tuple(one for one in memory if one is not None),
            utilization=self._utilization(device),
            bandwidth=_share(hbm.bandwith_util_rate) if hbm is not None else None,
            power=power / 10 if power is not None else None,
            temperature=sensors if hbm is None else {**sensors, "hbm": hbm.temp},
            state=self._state(device),
            errors=self._errors(device),
            processes=self._processes(device),
        )

    def memory(self, device: Device) -> Memory | None:
        """The memory that models are in: HBM, or what a card without it has."""
        hbm = self._hbm(device)
        return _of_hbm(hbm) if hbm is not None else self._ddr(device)

    def _ddr(self, device: Device) -> Memory | None:
        info = abi.MemoryInfo()
        if not (self._call(device, "get_device_memory_info_v3", byref(info)) and info.memory_size):
            return None
        used = info.memory_size - info.memory_available
        return Memory("ddr", used * _MEGABYTE, info.memory_size * _MEGABYTE, info.utiliza)

    def _hbm(self, device: Device) -> abi.HbmInfo | None:
        info = abi.HbmInfo()
        return info if self._call(device, "get_device_hbm_info", byref(info)) and info.memory_size else None

    def _utilization(self, device: Device) -> dict[str, float]:
        multi = abi.MultiUtilization()
        percent: dict[str, int | None] = {}
        if self._call(device, "get_device_multi_utilization_rate", byref(multi)):
            percent = {"general": multi.npu_util, "aicore": multi.aicore_util}
            percent |= {"vector": multi.aiv_util, "cube": multi.aic_util}
        else:
            percent = {unit: self._rate(device, selector) for unit, selector in _UNITS.items()}
        percent["aicpu"] = self._rate(device, abi.AICPU)
        shares = {unit: _share(value) for unit, value in percent.items() if value is not None}
        return {unit: share for unit, share in shares.items() if share is not None}

    def _rate(self, device: Device, selector: int) -> int | None:
        value = ctypes.c_uint()
        return value.value if self._call(device, "get_device_utilization_rate", selector, byref(value)) else None

    def _integer(self, device: Device, name: str) -> int | None:
        value = ctypes.c_int()
        return value.value if self._call(device, name, byref(value)) else None

    def _state(self, device: Device) -> str | None:
        health = ctypes.c_uint(abi.NO_HEALTH)
        return _STATES.get(health.value) if self._call(device, "get_device_health", byref(health)) else None

    def _errors(self, device: Device) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for kind, selector in _ECC.items():
            info = abi.EccInfo()
            if self._call(device, "get_device_ecc_info", selector, byref(info)) and info.enable_flag:
                found[kind, "corrected"] = info.total_single_bit_error_cnt
                found[kind, "uncorrected"] = info.total_double_bit_error_cnt
        return found

    def _processes(self, device: Device) -> dict[int, int]:
        entries, count = (abi.ProcessMemory * abi.MAX_PROCESSES)(), ctypes.c_int(abi.MAX_PROCESSES)
        if not self._call(device, "get_device_resource_info", entries, byref(count)):
            return {}
        found: Counter[int] = Counter()
        for entry in entries[: min(count.value, abi.MAX_PROCESSES)]:
            found[entry.proc_id] += entry.proc_mem_usage
        return dict(found)

    def _call(self, device: Device, name: str, *arguments: Any) -> bool:
        """Whether the driver answered; the last argument takes what it said."""
        key = (device.position, name, *(one for one in arguments if isinstance(one, int)))
        if key in self._never:
            return False
        try:
            self._dcmi.call(name, *device.address, *arguments)
        except DcmiError as error:
            self.refused[str(error)] += 1
            if error.permanent:
                self._never.add(key)
            return False
        return True


def _share(percent: int) -> float | None:
    return percent / 100 if percent <= 100 else None


def _of_hbm(info: abi.HbmInfo) -> Memory:
    size, used = info.memory_size, info.memory_usage
    return Memory("hbm", used * _MEGABYTE, size * _MEGABYTE, used * 100 // size)
