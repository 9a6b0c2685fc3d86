"""Sources: what collects beside the hooks, on threads of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable


class SourceWindow(NamedTuple):
    """What a source is told when a native window opens.

    Attributes:
        config: the content of the config file (``native.ProfileConfig``); a source reads the fields it knows.
        folder: absolute path of the date folder of the service; it may not exist yet.
        opened_ns: when the window opened, ns since 1970.
    """

    config: Any
    folder: Path
    opened_ns: int


class Source(Protocol):
    """Samples a machine, or reads the records of a library, and emits records or measures.

    One thread at a time calls these methods, as a rule the drain's: none may take longer than a few milliseconds, so
    real work is done on a thread of the source. What raises is told once and ends the source, not the others.
    """

    #: One word for ``doctor`` and messages.
    name: str

    def start(self, *, leader: bool) -> None:
        """The pipeline of this process runs: begin what the environment asks for.

        Args:
            leader: whether this is the first process of the service, the one that samples for all of them.
        """
        ...

    def open(self, window: SourceWindow) -> None:
        """A native window opened: begin what its configuration asks for. Never called twice without ``close``."""
        ...

    def close(self) -> None:
        """The native window closed: end what ``open`` began; records made until now are still written."""
        ...

    def shutdown(self, timeout: float) -> None:
        """End everything, in at most ``timeout`` seconds."""
        ...

    def after_fork(self) -> None:
        """In a forked child: threads, windows and libraries are the parent's; ``start`` and ``open`` come again."""
        ...

    def describe(self) -> Mapping[str, object]:
        """For ``doctor``: ``found``, ``version``, ``usable`` or ``reason``, and what it gave; JSON values only."""
        ...


@runtime_checkable
class MeasuringSource(Protocol):
    """A source with observable instruments: they outlive ``shutdown``, for readers collect once more after it."""

    def silence(self) -> None:
        """Give no more values; called after ``shutdown`` in a process that goes on."""
        ...


@runtime_checkable
class HoldingSource(Protocol):
    """A source that holds back for a while what it has read."""

    def flush(self, timeout: float) -> bool:
        """Hand on all that there is now, within ``timeout`` seconds; whether that was done."""
        ...
