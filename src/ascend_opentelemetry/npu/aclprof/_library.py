"""The profiling interface of AscendCL by ctypes; source: the header ``acl_prof.h`` of CANN.

All functions are called without the GIL (``ctypes.CDLL``): starting and stopping takes the driver up to seconds.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

#: The libraries that have it, the first one that is found.
NAMES = ("libmsprofiler.so", "libascendcl.so")
_HOMES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")

#: ``aclprofCreateConfig``'s ``dataTypeConfig``.
DATA_TYPES: Mapping[str, int] = {
    "ACL_PROF_ACL_API": 0x1,
    "ACL_PROF_TASK_TIME": 0x2,
    "ACL_PROF_AICORE_METRICS": 0x4,
    "ACL_PROF_AICPU": 0x8,
    "ACL_PROF_L2CACHE": 0x10,
    "ACL_PROF_HCCL_TRACE": 0x20,
    "ACL_PROF_TRAINING_TRACE": 0x40,
    "ACL_PROF_MSPROFTX": 0x80,
    "ACL_PROF_RUNTIME_API": 0x100,
    "ACL_PROF_TASK_TIME_L0": 0x800,
    "ACL_PROF_TASK_MEMORY": 0x1000,
    "ACL_PROF_OP_ATTR": 0x4000,
}
_OF_LEVEL: Mapping[str, tuple[str, ...]] = {
    "L0": ("ACL_PROF_MSPROFTX", "ACL_PROF_TASK_TIME_L0"),
    "L1": ("ACL_PROF_MSPROFTX", "ACL_PROF_TASK_TIME", "ACL_PROF_ACL_API"),
}
#: ``aclprofAicoreMetrics``.
AICORE_METRICS: Mapping[str, int] = {
    "ACL_AICORE_PIPE_UTILIZATION": 1,
    "ACL_AICORE_MEMORY_BANDWIDTH": 2,
    "ACL_AICORE_L0B_AND_WIDTH": 3,
    "ACL_AICORE_RESOURCE_CONFLICT_RATIO": 4,
    "ACL_AICORE_MEMORY_UB": 5,
    "ACL_AICORE_L2_CACHE": 6,
    "ACL_AICORE_NONE": 0xFF,
}
#: ``aclprofConfigType``: what of the host is sampled, and how often.
HOST_SYS, HOST_SYS_USAGE, HOST_SYS_USAGE_FREQ = 8, 9, 10

#: Name -> result, arguments.
_FUNCTIONS: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "Init": (ctypes.c_int, (ctypes.c_char_p, ctypes.c_size_t)),
    "SetConfig": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)),
    "CreateConfig": (
        ctypes.c_void_p,
        (ctypes.POINTER(ctypes.c_uint32), ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64),
    ),
    "Start": (ctypes.c_int, (ctypes.c_void_p,)),
    "Stop": (ctypes.c_int, (ctypes.c_void_p,)),
    "DestroyConfig": (ctypes.c_int, (ctypes.c_void_p,)),
    "Finalize": (ctypes.c_int, ()),
}


class AclprofError(Exception):
    """The library is not there, or refuses; the text says why and what to do."""


def data_types(level: str, more: Collection[str]) -> int:
    """The mask of a level (``L0``, ``L1``) and of further names of ``DATA_TYPES``."""
    mask = 0
    for name in (*_OF_LEVEL[level], *more):
        mask |= DATA_TYPES[name]
    return mask


def conflict(env: Mapping[str, str] = os.environ) -> str:
    """Why this process must not be profiled; empty where nothing speaks against it."""
    if "PROFILER_SAMPLECONFIG" in env:
        return "msprof profiles this service already (PROFILER_SAMPLECONFIG is set): start it without msprof"
    if env.get("PROFILING_MODE") == "dynamic":
        return "msprof may attach to this service (PROFILING_MODE=dynamic): unset PROFILING_MODE before it starts"
    if "libmspti.so" in env.get("LD_PRELOAD", ""):
        return (
            'libmspti.so is preloaded: use "acl_task_time": 2, or take it out of LD_PRELOAD before the service starts'
        )
    return ""


def find(env: Mapping[str, str] = os.environ) -> Path | None:
    """The library of the CANN that the environment names; nothing is loaded."""
    return next((path for path in _candidates(env) if path.exists()), None)


def _candidates(env: Mapping[str, str]) -> Iterator[Path]:
    homes = [Path(env[name], "lib64") for name in _HOMES if env.get(name)]
    folders = [Path(folder) for folder in env.get("LD_LIBRARY_PATH", "").split(":") if folder]
    for name in NAMES:
        for folder in dict.fromkeys((*homes, *folders)):
            yield folder / name


class Aclprof:
    """The functions, one recording after the other.

    Args:
        path: of the library.

    Raises:
        AclprofError: it cannot be loaded, or lacks a function.
    """

    def __init__(self, path: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(path))
            self._functions = {name: getattr(loaded, f"aclprof{name}") for name in _FUNCTIONS}
        except (OSError, AttributeError) as error:
            raise AclprofError(f"{path} cannot be used: {error}; source the set_env.sh of CANN") from error
        for name, (result, arguments) in _FUNCTIONS.items():
            self._functions[name].restype, self._functions[name].argtypes = result, arguments
        self._config: int | None = None

    def start(self, folder: Path, device: int, types: int, metrics: int, host_hertz: int) -> None:
        """Begin to record.

        Args:
            folder: absolute path, in which a folder ``PROF_...`` is made.
            device: number of the NPU in this process.
            types: mask of ``data_types``.
            metrics: of ``AICORE_METRICS``.
            host_hertz: how often CPU and memory of the host are sampled; below 1: not.

        Raises:
            AclprofError: it does not.
        """
        path = os.fsencode(folder)
        self._call("Init", path, len(path))
        try:
            for kind, value in _host_settings(host_hertz):
                self._call("SetConfig", kind, value, len(value))
            devices = (ctypes.c_uint32 * 1)(device)
            self._config = self._functions["CreateConfig"](devices, 1, metrics, None, types)
            if self._config is None:
                raise AclprofError(f"aclprofCreateConfig refuses device {device} with data types {types:#x}")
            self._call("Start", self._config)
        except AclprofError:
            self._release()
            raise

    def stop(self) -> None:
        """Record no more, and let the library write what it has.

        Raises:
            AclprofError: it says that something failed; nothing runs all the same.
        """
        try:
            self._call("Stop", self._config)
        finally:
            self._release()

    def _release(self) -> None:
        config, self._config = self._config, None
        if config is not None:
            self._functions["DestroyConfig"](config)
        self._functions["Finalize"]()

    def _call(self, name: str, *arguments: Any) -> None:
        code = self._functions[name](*arguments)
        if code:
            raise AclprofError(
                f"aclprof{name} returned {code}: another profiler may run in this process; see CANN's log"
            )


def _host_settings(hertz: int) -> Iterator[tuple[int, bytes]]:
    if hertz > 0:
        yield HOST_SYS, b"cpu,mem"
        yield HOST_SYS_USAGE, b"cpu,mem"
        yield HOST_SYS_USAGE_FREQ, str(hertz).encode()
