"""The sources of a process, behind one sink: what one of them raises ends that one alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ascend_opentelemetry.recorder import HoldingSource, MeasuringSource, Source, SourceWindow

_logger = logging.getLogger(__name__)


class Sources:
    """Tells sources when a native window opens and closes; a ``recorder`` sink that takes no records.

    A window that opens before ``start`` is told then: what sources emit must find the recorder running.

    Args:
        sources: told in this order, and ended in the reverse one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._ended: list[Source] = []
        self._started = False
        self._window: SourceWindow | None = None
        #: Why a source was ended, by its name.
        self._failed: dict[str, str] = {}
        # windows are the drain's to tell, start and end the main thread's
        self._lock = threading.Lock()

    def start(self, *, leader: bool) -> None:
        """Begin what the environment asks for; see ``Source.start``."""
        with self._lock:
            self._started = True
            self._each(lambda source: source.start(leader=leader))
            self._open()

    def set_window(self, window: SourceWindow | None) -> None:
        """A native window opened, or closed (None)."""
        with self._lock:
            before, self._window = self._window, window
            if self._started:
                if before is not None:
                    self._each(lambda source: source.close())
                self._open()

    def _open(self) -> None:
        window = self._window
        if window is not None:
            self._each(lambda source: source.open(window))

    def describe(self) -> dict[str, Mapping[str, object]]:
        """What each source that was started says of itself, by its name."""
        with self._lock:
            found: dict[str, Mapping[str, object]] = {name: {"reason": why} for name, why in self._failed.items()}
            if self._started:
                self._each(lambda source: found.__setitem__(source.name, source.describe()))
        return found

    def _each(self, call: Callable[[Source], Any]) -> None:
        for source in list(self._sources):
            self._guarded(source, call)

    def _guarded(self, source: Source, call: Callable[[Source], Any]) -> None:
        try:
            call(source)
        except Exception as error:
            self._failed[source.name] = f"{type(error).__name__}: {error}"
            _logger.warning("%s is not collected any more: %r", source.name, error, exc_info=error)
            if source in self._sources:
                self._sources.remove(source)
                with suppress(Exception):  # it may be half begun, and has said what is wrong
                    source.shutdown(0.0)

    def write(self, records: Sequence[Any]) -> None:
        """Do nothing: sources give records and take none."""

    def commit(self) -> None:
        """Do nothing."""

    def request_flush(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002
        """True: ``hand_on`` was called before."""
        return True

    def hand_on(self, timeout: float) -> bool:
        """Have the sources hand on what they hold back; whether they did within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        done: list[bool] = []

        def flush(source: Source) -> None:
            if isinstance(source, HoldingSource):
                done.append(source.flush(max(deadline - time.monotonic(), 0.0)))

        with self._locked(timeout):
            self._each(flush)
        return all(done)

    def shutdown(self, timeout: float) -> None:
        """End all sources, in at most ``timeout`` seconds together."""
        deadline = time.monotonic() + timeout
        with self._locked(timeout):
            if self._started and self._window is not None:
                self._each(lambda source: source.close())
            ending, self._sources = self._sources[::-1], []
        self._ended += ending
        for source in ending:
            self._guarded(source, lambda source: source.shutdown(max(0.0, deadline - time.monotonic())))

    def silence(self) -> None:
        """Those that have ended give no more values of metrics."""
        for source in self._ended:
            if isinstance(source, MeasuringSource):
                silence = source.silence
                self._guarded(source, lambda _: silence())  # noqa: B023 - called at once

    @contextmanager
    def _locked(self, timeout: float) -> Generator[None, None, None]:
        """Do not wait longer for a source that hangs."""
        locked = self._lock.acquire(timeout=timeout)
        try:
            yield
        finally:
            if locked:
                self._lock.release()

    def after_fork(self) -> None:
        """In the child: begin again, as a process that is not the first of its service."""
        self._lock = threading.Lock()
        self._each(lambda source: source.after_fork())
        self.start(leader=False)


class HeldBack:
    """A ``recorder`` sink whose flush is that of the sources.

    They change metrics, so they are flushed before the sink of those; told of a fork they are after it.

    Args:
        sources: that hand on what they hold back.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def write(self, records: Sequence[Any]) -> None:
        """Do nothing."""

    def commit(self) -> None:
        """Do nothing."""

    def request_flush(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float) -> bool:
        """Have the sources hand on what they hold back."""
        return self._sources.hand_on(timeout)

    def shutdown(self, timeout: float) -> None:
        """Do nothing."""

    def after_fork(self) -> None:
        """Do nothing."""
