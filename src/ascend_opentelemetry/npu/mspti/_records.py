"""Buffers of MSPTI as arrays; source of the layouts: the header ``mspti.h`` of Ascend/mspti a3891605, little endian."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ascend_opentelemetry.npu.mspti._library import Kind, Library

_logger = logging.getLogger(__name__)

Records: TypeAlias = npt.NDArray[np.void]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.int64]
Halves: TypeAlias = npt.NDArray[np.uint32]

#: Field -> type and offset.
FIELDS: Mapping[Kind, Mapping[str, tuple[str, int]]] = {
    Kind.MARKER: {
        "flag": ("<u4", 4), "source": ("<u4", 8), "time": ("<u8", 12), "id": ("<u8", 20), "process": ("<u4", 28),
        "thread": ("<u4", 32), "name": ("<u8", 36), "domain": ("<u8", 44),
    },
    Kind.KERNEL: {
        "start": ("<u8", 4), "end": ("<u8", 12), "device": ("<u4", 20), "stream": ("<u4", 24),
        "correlation": ("<u8", 28), "type": ("<u8", 36), "name": ("<u8", 44),
    },
    Kind.API: {
        "start": ("<u8", 4), "end": ("<u8", 12), "process": ("<u4", 20), "thread": ("<u4", 24),
        "correlation": ("<u8", 28), "name": ("<u8", 36),
    },
    Kind.MEMORY: {
        "operation": ("<u4", 4), "start": ("<u8", 20), "end": ("<u8", 28), "bytes": ("<u8", 44), "device": ("<u4", 56),
    },
    Kind.MEMCPY: {
        "copy": ("<u4", 4), "bytes": ("<u8", 8), "start": ("<u8", 16), "end": ("<u8", 24), "device": ("<u4", 32),
    },
    Kind.EXTERNAL_CORRELATION: {"external_kind": ("<u4", 4), "external": ("<u8", 8), "correlation": ("<u8", 16)},
    Kind.COMMUNICATION: {
        "data_type": ("<u4", 4), "count": ("<u8", 8), "device": ("<u4", 16), "stream": ("<u4", 20),
        "start": ("<u8", 24), "end": ("<u8", 32), "name": ("<u8", 48), "group": ("<u8", 56),
        "correlation": ("<u8", 64),
    },
}  # fmt: skip
_WORD = 8
_LONGEST = 4096
#: More than the number of any kind.
_KINDS = 64
#: Of records in one buffer, in 2**32 ns.
_MINUTES = 256
#: Where the upper half of the time is in a record of each kind, in halves of a word; 0: it has no time.
_TIMES = np.zeros(_KINDS, dtype=np.int64)
for _kind, _fields in FIELDS.items():
    for _name in {"start", "time"} & _fields.keys():
        _TIMES[_kind] = (_fields[_name][1] + 4) // 4


class Reader:
    """Turns buffers into arrays of records, on the thread of its caller.

    The length of the records of a kind is the library's to say, and is asked once a kind. With that the buffer is gone
    through here: a call a record, each of which gives up the GIL, would disturb those who need it.

    Args:
        library: that has filled the buffers.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._strides: dict[int, int] = {}
        #: Bytes that no whole record could be made of.
        self.unreadable = 0

    def read(self, buffer: Bytes, valid: int) -> dict[Kind, Records]:
        """Copies of the records in the first ``valid`` bytes, a kind each; fields that a short record lacks are 0."""
        offsets = self._walk(buffer, min(valid, len(buffer)))
        words = buffer[: len(buffer) // _WORD * _WORD].view(np.uint64)
        return {Kind(kind): self._take(words, kind, found) for kind, found in offsets.items() if kind in FIELDS}

    def _walk(self, buffer: Bytes, valid: int) -> dict[int, Words]:
        """Offsets in words, by kind; what is behind the last whole record is left out and counted."""
        halves = buffer[: valid // _WORD * _WORD].view(np.uint32)
        kinds = halves[::2]
        end = len(kinds)
        found = self._guess(halves, kinds)
        if found is None:
            found, end = self._follow(kinds)
        if end * _WORD < valid:
            self._leave_out(valid - end * _WORD)
        kind_of = kinds[found]
        return {kind: found[kind_of == kind] for kind in np.flatnonzero(np.bincount(kind_of)).tolist()}

    def _guess(self, halves: Halves, kinds: Halves) -> Words | None:
        """Offsets of all words that look like the first one of a record, if each of these ends where the next begins.

        So they are the records, as there is one way to go from the first word to the end. Looks: the number of a kind
        and, as numbers of streams and the like are as small, a time some minutes from that of the first.
        """
        strides = np.zeros(_KINDS, dtype=np.int64)
        for kind in self._strides.keys() & set(range(_KINDS)):
            strides[kind] = self._strides[kind] // _WORD
        maybe = np.flatnonzero(kinds - 1 < _KINDS - 1)
        maybe = maybe[strides[kinds[maybe]] > 0]
        if not len(maybe):
            return None
        places = _TIMES[kinds[maybe]]
        timed = places > 0
        times = halves[np.minimum(2 * maybe + places, len(halves) - 1)].astype(np.int64)
        found = maybe[~timed | (np.abs(times - times[timed.argmax()]) <= _MINUTES)]
        ends = found + strides[kinds[found]]
        begins = np.append(found, len(kinds))
        return found if begins[0] == 0 and (begins[1:] == ends).all() else None

    def _follow(self, kinds: Halves) -> tuple[Words, int]:
        """Offsets of the whole records, one after the other, and where the last one ends."""
        view = memoryview(kinds.data)
        found: list[int] = []
        word, end = 0, len(kinds)
        while word < end:
            kind = view[word]
            stride = self._strides.get(kind) or self._ask_length(kind)
            if not stride or word + stride // _WORD > end:
                break
            found.append(word)
            word += stride // _WORD
        return np.asarray(found, dtype=np.int64), word

    def _ask_length(self, kind: int) -> int:
        """The length of the records of a kind, which is remembered; 0 where the library knows none.

        Asked of words that all look like the first one of such a record, so that there is a next one to tell it, and
        on a thread of its own: the library remembers for each thread where its walk has come to.
        """
        if not 0 < kind < _KINDS:
            return 0
        words = np.full(2 * _LONGEST // _WORD, kind, dtype=np.uint64)
        found: list[int] = []
        records = self._library.records(words.ctypes.data, words.nbytes)
        thread = threading.Thread(target=lambda: found.extend(islice(records, 2)), name="ascend-otel-mspti-length")
        thread.start()
        thread.join()
        length = found[1] - found[0] if len(found) > 1 else 0
        if length % _WORD or not 0 < length <= _LONGEST:
            return 0
        self._strides[kind] = length
        return length

    def _leave_out(self, number: int) -> None:
        """So many bytes."""
        if not self.unreadable:
            _logger.warning(
                "%s: %d bytes of a buffer hold no whole record; they are left out, and so are later ones",
                self._library.path, number,
            )  # fmt: skip
        self.unreadable += number

    def _take(self, words: npt.NDArray[np.uint64], kind: int, offsets: Words) -> Records:
        type_ = _record_type(Kind(kind), self._strides[kind])
        present = self._strides[kind] // _WORD
        rows = sliding_window_view(words, present)[offsets]
        missing = type_.itemsize // _WORD - present
        if missing:
            rows = np.pad(rows, ((0, 0), (0, missing)))
        return rows.view(type_)[:, 0]


@lru_cache
def _record_type(kind: Kind, stride: int) -> np.dtype[np.void]:
    """The fields of a kind, in at least as many bytes as they need."""
    fields = FIELDS[kind]
    needed = max(offset + np.dtype(format_).itemsize for format_, offset in fields.values())
    return np.dtype(
        {
            "names": list(fields),
            "formats": [format_ for format_, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": max(stride, -(-needed // _WORD) * _WORD),
        }
    )


def begin_before(records: Mapping[Kind, Records], time_ns: int) -> bool:
    """Whether a record is older than this; ns since 1970."""
    for rows in records.values():
        for name in {"start", "time"} & set(rows.dtype.names or ()):
            if (rows[name] < time_ns).any():
                return True
    return False


class Numbers:
    """Small numbers, from 0, for large ones; the same each time."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)
        self._numbers = np.empty(0, dtype=np.int64)
        #: The large number of each small one.
        self.values: list[int] = []

    def of(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The small number of each."""
        if len(self._sorted):
            places = np.searchsorted(self._sorted, values)
            places[places == len(self._sorted)] = 0
            new = values[self._sorted[places] != values]
            if not len(new):
                return self._numbers[places]
        else:
            new = values
        self.values += np.unique(new).tolist()
        every = np.asarray(self.values, dtype=np.uint64)
        self._numbers = np.argsort(every)
        self._sorted = every[self._numbers]
        return self._numbers[np.searchsorted(self._sorted, values)]


class Names:
    """Texts that records point to; the library keeps each for the life of the process."""

    def __init__(self) -> None:
        self._numbers = Numbers()
        #: The text of each number.
        self.texts: list[str] = []

    def of(self, pointers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The number of the text of each pointer."""
        numbers = self._numbers.of(pointers)
        for pointer in self._numbers.values[len(self.texts) :]:
            self.texts.append(ctypes.string_at(pointer).decode(errors="replace") if pointer else "")
        return numbers
