"""The buffers that MSPTI fills: made once, handed to the library and back."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from ascend_opentelemetry.npu.mspti._library import BufferComplete, RequestBuffer
from ascend_opentelemetry.npu.mspti._records import Bytes

#: The library warns of less than 2 MB.
SIZE = 8 * 2**20
#: Buffers in use at a time; the library drops records while it has none.
MOST = 16


class Buffers:
    """Gives the library buffers and takes them back, in its threads: nothing is done there but to pass them on.

    What was given to a library stays alive for the life of the process.

    Args:
        filled: set when there is a buffer to read.
    """

    _alive: list[Buffers] = []  # noqa: RUF012 - of all

    def __init__(self, filled: threading.Event) -> None:
        self._buffers: dict[int, Bytes] = {}
        self._free: deque[int] = deque()
        self._filled: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()
        self._event = filled
        #: How often there was no buffer to give: the library drops records then.
        self.refused = 0
        #: Of the types ``RequestBuffer`` and ``BufferComplete``.
        self.request = RequestBuffer(self._request)
        self.complete = BufferComplete(self._complete)
        self._alive.append(self)

    def _request(self, buffer: Any, size: Any, most_records: Any) -> None:
        most_records[0] = 0
        address = self._find()
        buffer[0], size[0] = address, SIZE if address else 0

    def _find(self) -> int:
        with self._lock:
            if self._free:
                return self._free.popleft()
            if len(self._buffers) == MOST:
                self.refused += 1
                return 0
            try:
                new = np.empty(SIZE, dtype=np.uint8)
            except MemoryError:
                self.refused += 1
                return 0
            self._buffers[new.ctypes.data] = new
            return new.ctypes.data

    def _complete(self, buffer: int | None, size: int, valid: int) -> None:  # noqa: ARG002
        if buffer:
            self._filled.append((buffer, valid))
            self._event.set()

    def take(self) -> tuple[Bytes, int] | None:
        """The buffer that was filled first, and its valid bytes; ``give_back`` it."""
        while self._filled:
            address, valid = self._filled.popleft()
            buffer = self._buffers.get(address)
            if buffer is not None:
                return buffer, valid
        return None

    def give_back(self, buffer: Bytes) -> None:
        """The buffer may be filled again."""
        self._free.append(buffer.ctypes.data)
