"""Who wants to be on the model runner's thread between two of its steps."""

from __future__ import annotations

from typing import Protocol


class StepWatcher(Protocol):
    """Is called by the model runner's thread, whose next step waits meanwhile; must not raise."""

    def step(self, scheduled: bool) -> None:
        """A step begins.

        Args:
            scheduled: whether it computes tokens; else it is a warm-up, or tells of the end of requests.
        """
        ...

    def end(self) -> None:
        """No step will come any more."""
        ...
