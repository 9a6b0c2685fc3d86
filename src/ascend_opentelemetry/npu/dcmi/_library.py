"""``libdcmi.so`` by ctypes: the names of both of its interfaces, and the list of devices."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from ctypes import byref
from pathlib import Path
from typing import Any

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_DCMI_LIBRARY
from ascend_opentelemetry.npu._devices import Device
from ascend_opentelemetry.npu.dcmi._abi import (
    ERRORS,
    MAX_CARDS,
    MISSING_SYMBOL,
    PERMANENT,
    TRANSIENT,
    ChipInfo,
    ChipInfoV2,
)

_NAME = "libdcmi.so"
_ROOT = Path("/usr/local/Ascend")
#: Variables of Ascend's set_env.sh and installers, whose folder is or holds that of the driver.
_HOMES = ("ASCEND_DRIVER_HOME", "ASCEND_INSTALL_PATH", "ASCEND_HOME_PATH")
_FOLDERS = ("driver/lib64/driver", "driver/lib64", "lib64/driver", "lib64")

#: Functions of v1 that v2 spells otherwise; the ones of v2 have renamed siblings too.
_V2_NAMES: Mapping[str, tuple[str, ...]] = {
    "get_device_resource_info": ("get_device_proc_mem_info",),
    "get_device_chip_info_v2": ("get_device_chip_info",),
    "get_physical_id": ("get_chip_phy_id_by_dev_id", "get_chip_phyid_from_dev_id"),
}
_V1_NAMES: Mapping[str, tuple[str, ...]] = {
    "get_card_list": ("get_card_list", "get_card_num_list"),
    "get_physical_id": ("get_device_phyid_from_logicid",),
}


class DcmiError(Exception):
    """A call that the driver refused.

    Args:
        function: its name, without the prefix of the interface.
        code: what it returned.
    """

    def __init__(self, function: str, code: int) -> None:
        self.function = function
        self.code = code
        super().__init__(f"{function}: {ERRORS.get(code, 'error')} ({code})")

    @property
    def permanent(self) -> bool:
        """Whether another call would be answered alike."""
        return self.code in PERMANENT


def find(env: Mapping[str, str]) -> Path | None:
    """The library that ``OTEL_PYTHON_VLLM_DCMI_LIBRARY`` names, or that of the installed driver."""
    named = env.get(OTEL_PYTHON_VLLM_DCMI_LIBRARY)
    candidates = [Path(named)] if named else list(_candidates(env))
    return next((path for path in candidates if path.is_file()), None)


def _candidates(env: Mapping[str, str]) -> Iterator[Path]:
    for root in [*(Path(env[name]) for name in _HOMES if env.get(name)), _ROOT]:
        for folder in _FOLDERS:
            yield root / folder / _NAME
    for folder in env.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / _NAME


class Dcmi:
    """The library, initialised; each call gives up the GIL.

    Args:
        path: of the library.

    Raises:
        OSError: it cannot be loaded.
        DcmiError: the driver does not let itself be initialised.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        #: ``dcmiv2`` where the driver knows it, else ``dcmi``.
        self.interface = "dcmiv2"
        try:
            self.call("init")
        except DcmiError:
            self.interface = "dcmi"
            self.call("init")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the interface.

        Args:
            name: without the prefix, as v1 spells it.
            arguments: integers and pointers.

        Raises:
            DcmiError: it is not there, or did not return 0.
        """
        code = self._function(name)(*arguments)
        if code != 0:
            raise DcmiError(name, code)

    def _function(self, name: str) -> Any:
        names = _V2_NAMES if self.interface == "dcmiv2" else _V1_NAMES
        for spelling in names.get(name, (name,)):
            function = getattr(self._library, f"{self.interface}_{spelling}", None)
            if function is not None:
                return function
        raise DcmiError(name, MISSING_SYMBOL)

    def version(self) -> str:
        """Of the driver, or of DCMI; empty where neither is told."""
        text = ctypes.create_string_buffer(256)
        for name in ("get_driver_version", "get_dcmi_version"):
            if self._knows(name, text, ctypes.c_uint(len(text))):
                return text.value.decode(errors="replace").strip()
        return ""

    def devices(self) -> list[Device]:
        """All NPUs that the driver lets this process see; a card that does not answer has none.

        Raises:
            DcmiError: they cannot be listed, or their numbers are not known yet.
        """
        addresses = self._v2_addresses() if self.interface == "dcmiv2" else self._v1_addresses()
        found = [self._describe(position, address) for position, address in enumerate(dict.fromkeys(addresses))]
        if len({device.physical_id for device in found}) == len(found):
            return found
        return [device._replace(physical_id=device.position) for device in found]

    def _v2_addresses(self) -> list[tuple[int, ...]]:
        found, count = (ctypes.c_int * MAX_CARDS)(), ctypes.c_int()
        self.call("get_device_list", found, byref(count), MAX_CARDS)
        return [(found[index],) for index in range(min(count.value, MAX_CARDS))]

    def _v1_addresses(self) -> list[tuple[int, ...]]:
        count, found = ctypes.c_int(), (ctypes.c_int * MAX_CARDS)()
        self.call("get_card_list", byref(count), found, MAX_CARDS)
        cards = found[: min(count.value, MAX_CARDS)]
        return [(card, chip) for card in cards for chip in range(self._chips(card))]

    def _chips(self, card: int) -> int:
        chips, mcu, cpu = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        known = self._knows("get_device_id_in_card", card, byref(chips), byref(mcu), byref(cpu))
        known = known or self._knows("get_device_num_in_card", card, byref(chips))
        return min(chips.value, MAX_CARDS) if known else 0

    def _describe(self, position: int, address: tuple[int, ...]) -> Device:
        logical, physical = ctypes.c_int(), ctypes.c_uint()
        if len(address) == 1:
            logical.value = address[0]
        elif not self._knows("get_device_logic_id", byref(logical), *address):
            logical.value = position
        if not self._knows("get_physical_id", ctypes.c_uint(logical.value), byref(physical)):
            physical.value = logical.value
        return Device(position, address, logical.value, physical.value, self._model(address))

    def _knows(self, name: str, *arguments: Any) -> bool:
        """Whether the driver answers; one that may do so later is asked again from the start."""
        try:
            self.call(name, *arguments)
        except DcmiError as error:
            if error.code in TRANSIENT:
                raise
            return False
        return True

    def _model(self, address: tuple[int, ...]) -> str:
        for name, chip in (("get_device_chip_info_v2", ChipInfoV2()), ("get_device_chip_info", ChipInfo())):
            if self._knows(name, *address, byref(chip)):
                kind = chip.chip_type.decode(errors="replace").strip()
                model = (getattr(chip, "npu_name", b"") or chip.chip_name).decode(errors="replace").strip()
                return model if model.startswith(kind) else f"{kind} {model}"
        return ""
