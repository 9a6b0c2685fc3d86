"""The stand-in of ``libmspti.so``, and the test's hands in it."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from ._compiler import build

#: Of the test in this process: the library keeps pointers to them.
_texts: dict[str, ctypes.c_char_p] = {}


def build_mspti(home: Path) -> Path:
    """``lib64/libmspti.so`` of its own state in a home of CANN; skips the test where there is no C compiler."""
    return build(home / "lib64" / "libmspti.so", "mspti.c", flags=("-O2", "-pthread"))


class MsptiStandIn:
    """Makes records; times are ns since 1970, or ns after ``base`` where they are small.

    Args:
        library: path of the stand-in, which the code under test loads too.
        base: of small times; default: two seconds ago.
    """

    def __init__(self, library: Path, base: int | None = None) -> None:
        self.path = str(library)
        self.base = base or time.time_ns() - 2 * 10**9
        self._library = ctypes.CDLL(self.path)
        for name, types in {
            "kernel": "QQIQPP", "api": "QQIQP", "communication": "QQQIPP", "memcpy": "QQQI", "memory": "QQI",
            "marker": "IIQQP", "produce": "iQQ", "set_size": "iN",
        }.items():  # fmt: skip
            kinds = {"Q": ctypes.c_uint64, "I": ctypes.c_uint32, "i": ctypes.c_int, "N": ctypes.c_size_t}
            function = getattr(self._library, f"standin_{name}")
            function.argtypes = [kinds.get(letter, ctypes.c_char_p) for letter in types]
            function.restype = None

    def __getitem__(self, name: str) -> int:
        return ctypes.c_uint64.in_dll(self._library, f"standin_{name}").value

    def set(self, name: str, value: int) -> None:
        """Set a variable: ``truncate``, ``stall_flush``, ``stall_subscribe``."""
        ctypes.c_int.in_dll(self._library, f"standin_{name}").value = value

    @property
    def unsubscribed(self) -> int:
        return ctypes.c_int.in_dll(self._library, "standin_unsubscribed").value

    def subscribe(self) -> ctypes.c_void_p:
        """Be another subscriber."""
        handle = ctypes.c_void_p()
        assert self._library.msptiSubscribe(ctypes.byref(handle), None, None) == 0
        return handle

    def unsubscribe(self, handle: ctypes.c_void_p) -> None:
        assert self._library.msptiUnsubscribe(handle) == 0

    def _time(self, time_: int) -> int:
        return time_ if time_ > 10**15 else self.base + time_

    def kernel(
        self, start: int, duration: int, name: str | None, type_: str = "KERNEL_AIVEC", device: int = 0, id_: int = 0
    ) -> None:
        begin = self._time(start)
        self._library.standin_kernel(begin, begin + duration, device, id_, _text(type_), _text(name))

    def api(self, start: int, duration: int, name: str, id_: int = 0, thread: int = 11) -> None:
        begin = self._time(start)
        self._library.standin_api(begin, begin + duration, thread, id_, _text(name))

    def communication(self, start: int, duration: int, name: str, count: int, data_type: int, group: str) -> None:
        begin = self._time(start)
        self._library.standin_communication(begin, begin + duration, count, data_type, _text(name), _text(group))

    def memcpy(self, start: int, duration: int, size: int, kind: int) -> None:
        begin = self._time(start)
        self._library.standin_memcpy(begin, begin + duration, size, kind)

    def memory(self, start: int, size: int, operation: int) -> None:
        self._library.standin_memory(self._time(start), size, operation)

    def marker(self, flag: int, source: int, time_: int, id_: int, name: str | None) -> None:
        self._library.standin_marker(flag, source, self._time(time_), id_, _text(name))

    def set_size(self, kind: int, size: int) -> None:
        """Records of this kind have so many bytes."""
        self._library.standin_set_size(kind, size)

    def produce(self, threads: int, count: int) -> None:
        """``count`` kernels of 8 names from each thread, 1 us apart, 500 to 507 ns long."""
        self._library.standin_produce(threads, count, self.base)


def _text(text: str | None) -> ctypes.c_char_p | None:
    return None if text is None else _texts.setdefault(text, ctypes.c_char_p(text.encode()))
