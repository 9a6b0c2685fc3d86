"""The C interface of ``libmspti.so`` by ctypes; source: the header ``mspti.h`` of Ascend/mspti a3891605.

All functions are called without the GIL (``ctypes.CDLL``): some wait for threads of the library that call us back.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

NAME = "libmspti.so"
_HOMES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
_FOLDERS = ("lib64", "tools/mspti/lib64")


class Kind(IntEnum):
    """Kinds of records that are asked for."""

    MARKER = 1
    KERNEL = 2
    API = 3
    MEMORY = 5
    MEMCPY = 7
    EXTERNAL_CORRELATION = 8
    COMMUNICATION = 9


class Result(IntEnum):
    """What functions return; other numbers exist."""

    SUCCESS = 0
    INVALID_PARAMETER = 1
    MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 2
    MAX_LIMIT_REACHED = 3
    DEVICE_OFFLINE = 4
    QUEUE_EMPTY = 5
    WITHOUT_LD_PRELOAD = 6
    INNER = 999


#: ``void (uint8_t **buffer, size_t *size, size_t *most_records)``.
RequestBuffer = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)
)
#: ``void (uint8_t *buffer, size_t size, size_t valid)``.
BufferComplete = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)

_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "Subscribe": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p),
    "Unsubscribe": (ctypes.c_void_p,),
    "ActivityRegisterCallbacks": (RequestBuffer, BufferComplete),
    "ActivityEnable": (ctypes.c_int,),
    "ActivityDisable": (ctypes.c_int,),
    "ActivityGetNextRecord": (ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)),
    "ActivityFlushAll": (ctypes.c_uint32,),
    "ActivityPushExternalCorrelationId": (ctypes.c_int, ctypes.c_uint64),
    "ActivityPopExternalCorrelationId": (ctypes.c_int, ctypes.POINTER(ctypes.c_uint64)),
}
#: Of the kinds 1 to 4 of external ids, the last one of those that programs may use for themselves.
EXTERNAL_KIND = 4


class LibraryError(Exception):
    """The library is not there or not usable; the text says why and what to do."""


def result_name(code: int) -> str:
    """``WITHOUT_LD_PRELOAD`` of 6; the number where it has no name."""
    return Result(code).name if code in set(Result) else str(code)


class Library:
    """The functions; those without a result raise nothing and their failure is of no consequence.

    Args:
        path: of the file, or its name alone for the loader to find.

    Raises:
        LibraryError: it cannot be loaded, or lacks a function.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:
            raise LibraryError(f"{path} cannot be loaded: {error}") from error
        self._functions: dict[str, Any] = {}
        for name, arguments in _FUNCTIONS.items():
            try:
                function = getattr(loaded, f"mspti{name}")
            except AttributeError:
                raise LibraryError(f"{path} has no function mspti{name}: a newer CANN is needed") from None
            function.argtypes, function.restype = arguments, ctypes.c_int
            self._functions[name] = function
        self._push = self._functions["ActivityPushExternalCorrelationId"]
        self._pop = self._functions["ActivityPopExternalCorrelationId"]
        self._popped = ctypes.c_uint64()

    def subscribe(self) -> tuple[int, ctypes.c_void_p]:
        """Become the one subscriber of this process: result, handle."""
        handle = ctypes.c_void_p()
        return self._functions["Subscribe"](ctypes.byref(handle), None, None), handle

    def unsubscribe(self, handle: ctypes.c_void_p) -> int:
        """Be no subscriber any more."""
        return self._functions["Unsubscribe"](handle)

    def register(self, request: Any, complete: Any) -> int:
        """Say where buffers come from and go to (``RequestBuffer``, ``BufferComplete``, kept alive by the caller)."""
        return self._functions["ActivityRegisterCallbacks"](request, complete)

    def enable(self, kind: Kind) -> int:
        """Ask for records of a kind."""
        return self._functions["ActivityEnable"](kind)

    def disable(self, kind: Kind) -> int:
        """Ask for records of a kind no more."""
        return self._functions["ActivityDisable"](kind)

    def flush_all(self) -> int:
        """Have all buffers handed over; waits for threads of the library."""
        return self._functions["ActivityFlushAll"](1)

    def records(self, address: int, valid: int) -> Iterator[int]:
        """Addresses of the records of a buffer, on a thread that has gone through no other one but to its end.

        The library remembers for each thread where it has come to, also where an unknown kind ends the walk.

        Args:
            address: of the buffer.
            valid: its bytes that hold records.
        """
        record = ctypes.c_void_p()
        next_record = self._functions["ActivityGetNextRecord"]
        while next_record(address, valid, ctypes.byref(record)) == Result.SUCCESS and record.value is not None:
            yield record.value

    def begin(self, span_id: int) -> None:
        """From here on, what the calling thread launches belongs to this span."""
        self._push(EXTERNAL_KIND, span_id)

    def end(self) -> None:
        """What ``begin`` said last holds no more."""
        self._pop(EXTERNAL_KIND, ctypes.byref(self._popped))


def candidates(env: Mapping[str, str]) -> Iterator[str]:
    """Where the library may be: as preloaded, in CANN, where the loader looks."""
    yield from _preloaded(env)
    for home in dict.fromkeys(env[name] for name in _HOMES if env.get(name)):
        yield from (str(path) for folder in _FOLDERS if (path := Path(home, folder, NAME)).exists())
    yield NAME


def is_preloaded(env: Mapping[str, str] = os.environ) -> bool:
    """Whether the library is in ``LD_PRELOAD``."""
    return next(_preloaded(env), None) is not None


def _preloaded(env: Mapping[str, str]) -> Iterator[str]:
    return (word for word in env.get("LD_PRELOAD", "").replace(":", " ").split() if Path(word).name == NAME)


def is_found(env: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a file of the library where ``load`` looks; none is loaded."""
    if next(candidates(env)) != NAME:
        return True
    return any(Path(folder, NAME).exists() for folder in env.get("LD_LIBRARY_PATH", "").split(":") if folder)


def load(env: Mapping[str, str] = os.environ) -> Library:
    """The library.

    Raises:
        LibraryError: there is none, or the first that is found is not usable.
    """
    return Library(next(candidates(env)))


def preload_line(library: str, env: Mapping[str, str] = os.environ) -> str:
    """The line of a shell that preloads it.

    Args:
        library: its path.
        env: the variables, which may name libraries to preload already.
    """
    path = library if "/" in library else f"$ASCEND_TOOLKIT_HOME/lib64/{NAME}"
    before = env.get("LD_PRELOAD", "").strip()
    return f"export LD_PRELOAD={f'{path}:{before}' if before else path}"
