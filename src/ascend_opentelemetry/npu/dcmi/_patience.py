"""Calls of a library that may never come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class Patience:
    """Makes calls one at a time, each on a thread of its own, and waits for an answer only so long.

    While a call has not come back, the next ones are given up at once: whoever asks is held up once.

    Args:
        seconds: that a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        #: Whether the last call was given up.
        self.is_over = False

    def reset(self) -> None:
        """In a forked child: a thread of the parent may hold the lock."""
        self._lock = threading.Lock()
        self.is_over = False

    def call(self, work: Callable[[], _T], otherwise: _T) -> _T:
        """The answer, or ``otherwise`` where there is none in time.

        Raises:
            Exception: what ``work`` has raised.
        """
        lock = self._lock
        if not lock.acquire(timeout=0 if self.is_over else self._seconds):
            self.is_over = True
            return otherwise
        answers: list[_T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(work())
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                errors.append(error)
            finally:
                lock.release()

        thread = threading.Thread(target=run, name="ascend-otel-driver", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            lock.release()
            raise
        thread.join(self._seconds)
        self.is_over = thread.is_alive()
        if errors:
            raise errors[0]
        return answers[0] if answers else otherwise
