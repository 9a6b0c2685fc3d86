"""A thread that does something at a fixed rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Ticker:
    """Calls a function at once and then at a fixed rate, on a daemon thread, until it is stopped.

    The times are multiples of the period since the start, so they do not drift. A tick whose time has passed while the
    call before it, or the machine, was busy is left out and counted; ticks are never made up for.

    Args:
        name: of the thread.
        hertz: calls a second.
        call: what is called; it must not raise.
    """

    def __init__(self, name: str, hertz: float, call: Callable[[], object]) -> None:
        self._period = 1 / hertz
        self._call = call
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        #: Ticks left out.
        self.missed = 0

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Call no more, and wait at most ``timeout`` seconds for a call that runs now."""
        self._stopped.set()
        if timeout > 0 and self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        begin = time.monotonic()
        tick = 0
        while not self._stopped.wait(begin + tick * self._period - time.monotonic()):
            self._call()
            passed = int((time.monotonic() - begin) / self._period)
            self.missed += max(passed - tick, 0)
            tick = max(passed, tick) + 1
