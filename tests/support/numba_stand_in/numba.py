"""Stands in for numba, whose compiler the test environment does without: functions run as plain Python.

vLLM's n-gram proposer imports these names, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

prange = range


def njit(*functions: Callable[..., Any], **options: Any) -> Any:
    """``@njit`` and ``@njit(...)``."""
    return functions[0] if functions else lambda function: function


jit = njit


def get_num_threads() -> int:
    return 1


def set_num_threads(count: int) -> None: ...
