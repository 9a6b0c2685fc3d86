"""NPUs as the driver counts them, as a process sees them, and as telemetry names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Logical numbers, separated by commas, of the devices that a process uses; it counts them from 0.
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
_NUMBER = re.compile("[0-9]{1,9}")


class Device(NamedTuple):
    """A device of this host.

    Attributes:
        position: in the driver's list of all devices; the number in native rows.
        address: what the driver is asked with: card and chip, or the one number of dcmiv2.
        logical_id: the number that ``ASCEND_RT_VISIBLE_DEVICES`` names it by.
        physical_id: the number of the chip on the host, that of ``/dev/davinci<n>``.
        model: as ``Ascend 910B4``; empty where the driver does not say.
    """

    position: int
    address: tuple[int, ...]
    logical_id: int
    physical_id: int
    model: str

    @property
    def hardware_id(self) -> str:
        """``hw.id``."""
        return hardware_id(self.physical_id)


def hardware_id(physical_id: int | str) -> str:
    """The ``hw.id`` of the NPU with this number."""
    return f"npu-{physical_id}"


def visible(env: Mapping[str, str]) -> tuple[int, ...] | None:
    """Logical numbers of the devices that a process with these variables uses, in its order.

    As CANN does it: what follows the first entry that is no number, or there already, does not count.

    Returns:
        None where all are used: the variable is not set, or empty.
    """
    text = env.get(VISIBLE, "").strip()
    if not text:
        return None
    found: list[int] = []
    for entry in text.split(","):
        word = entry.strip()
        if not _NUMBER.fullmatch(word) or int(word) in found:
            break
        found.append(int(word))
    return tuple(found)
