"""What psutil knows of CPU and memory, as shares.

psutil is imported by the first reading, which is done on a thread of ours: it takes some 20 ms.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Fields of ``psutil.cpu_times()`` by the value of ``cpu.mode``. ``guest`` is left out: Linux counts it in ``user`` too.
_MODES: Mapping[str, tuple[str, ...]] = {
    "user": ("user",),
    "nice": ("nice",),
    "system": ("system",),
    "idle": ("idle",),
    "iowait": ("iowait",),
    "interrupt": ("irq", "softirq"),
    "steal": ("steal",),
}
_IDLE = ("idle", "iowait")


class CpuUsage:
    """Shares of the time of all CPUs since the reading before."""

    def __init__(self) -> None:
        self._times: Mapping[str, float] | None = None

    def read(self) -> Mapping[str, float] | None:
        """The share, 0 to 1, by ``cpu.mode``.

        Returns:
            None the first time, and while the kernel's counters (10 ms fine as a rule) have not moved.
        """
        before, self._times = self._times, _times()
        if before is None:
            return None
        # a CPU that goes offline, and iowait by nature, may take time back
        spent = {mode: max(time - before[mode], 0.0) for mode, time in self._times.items()}
        total = sum(spent.values())
        return {mode: time / total for mode, time in spent.items()} if total > 0 else None


def busy(shares: Mapping[str, float]) -> float:
    """The share of the time, 0 to 1, in which CPUs did something."""
    return sum(share for mode, share in shares.items() if mode not in _IDLE)


def _times() -> Mapping[str, float]:
    import psutil

    found = psutil.cpu_times()
    return {mode: sum(getattr(found, name, 0.0) for name in names) for mode, names in _MODES.items()}


def memory() -> tuple[float, Mapping[str, int]]:
    """The share in use, 0 to 1, by what is available to programs; and bytes by ``system.memory.state``.

    The bytes add up to all memory; ``used`` holds what is neither free nor a cache.
    """
    import psutil

    found = psutil.virtual_memory()
    cached, buffers = getattr(found, "cached", 0), getattr(found, "buffers", 0)
    states = {
        "used": max(found.total - found.free - cached - buffers, 0),
        "free": found.free,
        "cached": cached,
        "buffers": buffers,
    }
    return 1.0 - found.available / found.total, states
