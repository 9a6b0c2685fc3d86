"""Forwards of the model runner whose spans are recorded, for those who know what the device did in them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from ascend_opentelemetry.recorder._record import SpanIds

#: Forwards that are remembered: more than a worker does until somebody asks.
FORWARDS_KEPT = 4096


class Forward(NamedTuple):
    """When the host was in a forward, ns since 1970, and its span."""

    start_ns: int
    end_ns: int
    ids: SpanIds


class ForwardWatcher(Protocol):
    """Is told of traced forwards as they happen, in the thread of the model runner; must be quick and not raise."""

    def begin(self, span_id: int) -> None:
        """A forward begins, whose span this is."""
        ...

    def end(self) -> None:
        """The forward has ended."""
        ...


class Forwards:
    """The traced forwards of this process."""

    def __init__(self) -> None:
        self.watcher: ForwardWatcher | None = None
        #: Who was told of the forward that runs, and is told of its end, too.
        self._told: ForwardWatcher | None = None
        self._recent: deque[Forward] = deque(maxlen=FORWARDS_KEPT)

    def begin(self, span_id: int) -> None:
        """A forward begins."""
        watcher = self._told = self.watcher
        if watcher is not None:
            watcher.begin(span_id)

    def end(self, forward: Forward) -> None:
        """The forward has ended."""
        told, self._told = self._told, None
        if told is not None:
            told.end()
        self._recent.append(forward)

    def ended_after(self, time_ns: int) -> list[Forward]:
        """Those that ended later than this, in the order of their ends; from any thread."""
        return [forward for forward in self._recent.copy() if forward.end_ns > time_ns]

    def after_fork(self) -> None:
        """In the child: forwards and watcher are the parent's."""
        self.watcher = self._told = None
        self._recent.clear()


forwards = Forwards()
