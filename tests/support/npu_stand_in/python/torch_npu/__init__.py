"""Stands in for torch_npu, whose extension needs CANN: ``torch.npu`` with the statistics of its allocator.

The keys, and that they are empty until ``init``, are those of torch_npu 2.13; the numbers are made up. The worker of the
stand-in of vllm-ascend initialises it. Put the folder above on ``PYTHONPATH``.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import ModuleType

import torch

__version__ = "2.13.0"

SIZES = {"allocated": 1000, "reserved": 4096, "active": 1200, "inactive_split": 400, "requested": 900}


class _Npu(ModuleType):
    """One device; from the second look on, one allocation has failed."""

    def __init__(self) -> None:
        super().__init__("torch.npu")
        self._initialized = False
        self._looks = 0

    def init(self) -> None:
        self._initialized = True

    def is_initialized(self) -> bool:
        return self._initialized

    def is_available(self) -> bool:
        return False  # nothing may be put on it

    def device_count(self) -> int:
        return 1

    def memory_stats(self, device: int) -> OrderedDict[str, int]:
        self._looks += 1
        stats = OrderedDict(num_ooms=min(self._looks - 1, 1), num_alloc_retries=2)
        for state, size in SIZES.items():
            stats |= {f"{state}_bytes.all.current": size, f"{state}_bytes.all.peak": size + 1}
        return stats


npu = _Npu()
torch.npu = npu  # as torch_npu does it
sys.modules["torch.npu"] = npu
