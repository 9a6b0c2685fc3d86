"""Time of operators that call each other, each without those that it calls: then the sum is the time of the thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K")


class _Open(Generic[K]):
    """An operator whose callees may still come."""

    __slots__ = ("end", "key", "own", "start")

    def __init__(self, key: K, start: int, duration: int) -> None:
        self.key = key
        self.start = start
        self.end = start + duration
        #: Its duration without those of its callees.
        self.own = duration


class SelfTimes(Generic[K]):
    """Takes the operators of each thread in the order of their starts, callers before callees.

    Args:
        give: called with key, start and self time once the callees of an operator are known; ns.
    """

    def __init__(self, give: Callable[[K, int, int], None]) -> None:
        self._give = give
        self._stacks: dict[Hashable, list[_Open[K]]] = {}

    def add(self, thread: Hashable, key: K, start: int, duration: int) -> None:
        """Add an operator; ns."""
        stack = self._stacks.setdefault(thread, [])
        while stack and stack[-1].end <= start:
            self._close(stack)
        if stack:
            stack[-1].own -= duration
        stack.append(_Open(key, start, duration))

    def end(self) -> None:
        """Give the operators that are still open; no more will come."""
        for stack in self._stacks.values():
            while stack:
                self._close(stack)

    def _close(self, stack: list[_Open[K]]) -> None:
        done = stack.pop()
        self._give(done.key, done.start, max(done.own, 0))
