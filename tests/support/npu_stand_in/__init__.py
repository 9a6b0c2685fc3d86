"""Stand-ins for the Ascend driver's libraries, compiled when a test needs them.

They show that the layouts, names, units and error codes that are published are read as they are published. They show
nothing of what a driver and a card do beyond that.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Literal

from ._compiler import build

#: For ``PYTHONPATH``: ``torch_npu``.
PYTHON = Path(__file__).parent / "python"

Driver = Literal["v1", "old", "v2"]


def build_dcmi(driver: Driver, folder: Path) -> Path:
    """A ``libdcmi.so`` of its own state; skips the test where the machine has no C compiler."""
    return build(folder / "libdcmi.so", "dcmi_cards.c", f"dcmi_{driver}.c")


def variables(folder: Path) -> dict[str, str]:
    """For a service with the v1 driver and the stand-in of torch_npu that sends what it measures to its receiver."""
    return {
        "OTEL_PYTHON_VLLM_DCMI_LIBRARY": str(build_dcmi("v1", folder)),
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_LOGS_EXPORTER": "otlp",
    }


class StandIn:
    """The test's hands in a library that this process has loaded, or will load.

    Args:
        path: of the library.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))

    def calls(self, function: str = "") -> int:
        """How often a function was called; all of them together."""
        return self.library.stand_in_calls(function.encode())

    def refuse(self, function: str, code: int, device: int = -1) -> None:
        """Let a function return this code, for one device or for all."""
        self.library.stand_in_refuse(function.encode(), device, code)

    def allow_all(self) -> None:
        """Take back all refusals."""
        self.library.stand_in_allow_all()

    def set(self, name: str, value: int) -> None:
        """Set ``delay_us``, ``devices`` or ``chips``."""
        ctypes.c_int.in_dll(self.library, f"stand_in_{name}").value = value

    def set_physical_ids(self, *ids: int) -> None:
        """Let chips say that they are those with these numbers."""
        (ctypes.c_uint * len(ids)).in_dll(self.library, "physical_ids")[:] = ids

    def set_pids(self, *pids: int) -> None:
        """Who uses the devices; 0: the process that asks."""
        (ctypes.c_int * len(pids)).in_dll(self.library, "stand_in_pids")[:] = pids
