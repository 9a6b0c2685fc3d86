"""From ``threading.get_ident()`` of a record to the Linux thread id of its row."""

from __future__ import annotations

import os
import threading


class ThreadIds:
    """Known threads of this process; an ident of no known thread gives the pid."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._survivor: dict[int, int] = {}

    def __call__(self, ident: int) -> int:
        tid = self._known.get(ident)
        if tid is None:
            self.refresh()
            tid = self._known.setdefault(ident, os.getpid())
        return tid

    def refresh(self) -> None:
        """Learn new threads; idents are used again after a thread ends."""
        for thread in threading.enumerate():
            if thread.ident is not None and thread.native_id is not None:
                self._known[thread.ident] = thread.native_id
        self._known.update(self._survivor)

    def after_fork(self) -> None:
        # Thread.native_id of the thread that forked is still the parent's
        self._known.clear()
        self._survivor = {threading.get_ident(): os.getpid()}
