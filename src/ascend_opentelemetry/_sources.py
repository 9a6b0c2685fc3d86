"""The sources of a process, behind one sink: what one of them raises ends that one alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ascend_opentelemetry.recorder import Source, SourceWindow

_logger = logging.getLogger(__name__)


class Sources:
    """Tells sources when a native window opens and closes; a ``recorder`` sink that takes no records.

    Args:
        sources: told in this order, and ended in the reverse one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._window: SourceWindow | None = None
        #: Why a source was ended, by its name.
        self._failed: dict[str, str] = {}

    def start(self, *, leader: bool) -> None:
        """Begin what the environment asks for; see ``Source.start``."""
        self._each(lambda source: source.start(leader=leader))

    def set_window(self, window: SourceWindow | None) -> None:
        """A native window opened, or closed (None)."""
        if self._window is not None:
            self._each(lambda source: source.close())
        self._window = window
        if window is not None:
            self._each(lambda source: source.open(window))

    def describe(self) -> dict[str, Mapping[str, object]]:
        """What each source says of itself, by its name."""
        found: dict[str, Mapping[str, object]] = {name: {"reason": why} for name, why in self._failed.items()}
        self._each(lambda source: found.__setitem__(source.name, source.describe()))
        return found

    def _each(self, call: Callable[[Source], Any]) -> None:
        for source in list(self._sources):
            self._guarded(source, call)

    def _guarded(self, source: Source, call: Callable[[Source], Any]) -> None:
        try:
            call(source)
        except Exception as error:
            self._sources.remove(source)
            self._failed[source.name] = f"{type(error).__name__}: {error}"
            _logger.warning("%s is not collected any more: %r", source.name, error, exc_info=error)

    def write(self, records: Sequence[Any]) -> None:
        """Do nothing: sources give records and take none."""

    def commit(self) -> None:
        """Do nothing."""

    def request_flush(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002
        """True: nothing is held back here."""
        return True

    def shutdown(self, timeout: float) -> None:
        """End all sources."""
        self.set_window(None)
        self._sources.reverse()
        self._each(lambda source: source.shutdown(timeout))
        self._sources = []

    def after_fork(self) -> None:
        """In the child: begin again, as a process that is not the first of its service."""
        self._each(lambda source: source.after_fork())
        self._each(lambda source: source.start(leader=False))
        window = self._window
        if window is not None:
            self._each(lambda source: source.open(window))
