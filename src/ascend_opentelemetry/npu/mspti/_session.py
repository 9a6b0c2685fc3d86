"""One subscription to MSPTI, from the first kind enabled to the last buffer; used by one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._library import Kind, Library, LibraryError, Result, result_name
from ascend_opentelemetry.npu.mspti._records import Reader, Records, begin_before

#: A drained library has handed over nothing for so many rounds.
_EMPTY_ROUNDS = 3
_ROUND_SECONDS = 0.025


class MsptiSession:
    """Subscribes when it is made.

    Args:
        library: that is subscribed to.
        buffers: that it fills.
        reader: of the buffers.

    Raises:
        LibraryError: another one holds the only subscription of this process, or the library refuses.
    """

    def __init__(self, library: Library, buffers: Buffers, reader: Reader) -> None:
        self._library = library
        self._buffers = buffers
        self._reader = reader
        code, self._handle = library.subscribe()
        if code == Result.MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED:
            raise LibraryError(
                "another one in this process subscribes to MSPTI, which takes one: torch_npu's profiler, msMonitor "
                "(MSMONITOR_USE_DAEMON), ms_service_profiler or a monitor of CANN's mspti package; end that one"
            )
        if code != Result.SUCCESS:
            raise LibraryError(f"msptiSubscribe returned {result_name(code)}")
        #: What enabling each kind returned.
        self.results: dict[Kind, int] = {}
        code = library.register(buffers.request, buffers.complete)
        if code != Result.SUCCESS:
            library.unsubscribe(self._handle)
            raise LibraryError(f"msptiActivityRegisterCallbacks returned {result_name(code)}")
        self.results = {kind: library.enable(kind) for kind in Kind}

    @property
    def refused(self) -> list[Kind]:
        """Kinds that the library only records when it is preloaded."""
        return [kind for kind, code in self.results.items() if code == Result.WITHOUT_LD_PRELOAD]

    def flush(self) -> None:
        """Have the library hand over what it has."""
        self._library.flush_all()

    def read(self) -> Iterator[dict[Kind, Records]]:
        """The records of the buffers that were handed over."""
        while (filled := self._buffers.take()) is not None:
            buffer, valid = filled
            records = self._reader.read(buffer, valid)
            self._buffers.give_back(buffer)
            yield records

    def end(self, seconds: float) -> Iterator[dict[Kind, Records]]:
        """The last records; then the subscription is another one's to take.

        What begins later is not waited for: under load there is always more.

        Args:
            seconds: to wait at most for records that the library still gets from the device.
        """
        deadline, until_ns = time.monotonic() + seconds, time.time_ns()
        empty = 0
        while empty < _EMPTY_ROUNDS and time.monotonic() < deadline:
            self._library.flush_all()
            empty += 1
            for records in self.read():
                if begin_before(records, until_ns):
                    empty = 0
                yield records
            time.sleep(_ROUND_SECONDS)
        self.let_go()
        self._library.flush_all()
        yield from self.read()

    def let_go(self) -> None:
        """End the subscription, whatever was not handed over yet."""
        for kind, code in self.results.items():
            if code == Result.SUCCESS:
                self._library.disable(kind)
        self._library.unsubscribe(self._handle)
