"""Waits for somebody who takes spans, where nobody did when hooks were installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

#: Seconds between two looks.
INTERVAL = 1.0


class ProviderWatch:
    """A sink that takes nothing: the drain's tick has it look for a provider, or for the first processor of one.

    Args:
        bridge: looks, and brings records to whom it finds; returns whether it found one.
    """

    def __init__(self, bridge: Callable[[], bool]) -> None:
        self._bridge = bridge
        self._due = 0.0
        self._found = False

    def write(self, records: Sequence[Any]) -> None: ...

    def commit(self) -> None:
        now = time.monotonic()
        if self._found or now < self._due:
            return
        self._due = now + INTERVAL
        self._found = self._bridge()

    def request_flush(self) -> None: ...

    def flush(self, timeout: float) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, timeout: float) -> None:  # noqa: ARG002
        self._found = True

    def after_fork(self) -> None: ...
