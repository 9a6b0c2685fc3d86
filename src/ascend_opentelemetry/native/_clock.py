"""The wall clock beside the monotonic one."""

from __future__ import annotations

import time

#: A smaller change (ns) is drift, or a thread that had to wait between its two readings.
_STEP = 10_000_000


class WallClock:
    """Notices when the wall clock is set, by NTP, by hand or after a suspension."""

    def __init__(self) -> None:
        self._offset = _offset()

    def step(self) -> int:
        """By how many ns the clock was set since the last call; negative: back, 0: not at all."""
        offset = _offset()
        step = offset - self._offset
        if abs(step) < _STEP:
            return 0
        self._offset = offset
        return step


def _offset() -> int:
    monotonic = time.monotonic_ns()
    return time.time_ns() - monotonic
