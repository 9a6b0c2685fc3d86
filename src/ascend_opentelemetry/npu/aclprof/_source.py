"""Operators by CANN's own profiler: ``acl_task_time`` 1."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ascend_opentelemetry.npu import _asked_by
from ascend_opentelemetry.npu._profiling_session import ProfilingSession, tell
from ascend_opentelemetry.npu.aclprof._library import (
    AICORE_METRICS,
    NAMES,
    Aclprof,
    AclprofError,
    conflict,
    data_types,
    find,
)
from ascend_opentelemetry.npu.torch import _allocator
from ascend_opentelemetry.recorder import SourceWindow

_logger = logging.getLogger(__name__)

_ACL_TASK_TIME = 1
#: Seconds from one look for a device to the next.
_LOOK_SECONDS = 0.2


def used_device() -> int | None:
    """The NPU that this process uses, by its number here; None in one that uses none, or not yet."""
    return min(_allocator.statistics(), default=None)


class AclprofSource:
    """Records in each process that uses a device, on a thread of its own, which alone talks to the library.

    Args:
        device: gives the number of the device, or None.
    """

    name = "aclprof"

    def __init__(self, device: Callable[[], int | None] = used_device) -> None:
        self._device = device
        self._leader = False
        self._run: _Run | None = None
        self._refused = ""

    def start(self, *, leader: bool) -> None:
        """Take note of whether this process speaks for the service."""
        self._leader = leader

    def open(self, window: SourceWindow) -> None:
        """Record where the window asks for it, as soon as a device is used."""
        if window.config.acl_task_time != _ACL_TASK_TIME:
            return
        library = find()
        missing = "" if library is not None else f"no {' or '.join(NAMES)}: source the set_env.sh of CANN"
        reason = conflict() or missing
        if reason and self._leader and reason != self._refused:
            _logger.warning("%s records nothing: %s", _asked_by.config(_ACL_TASK_TIME), reason)
        self._refused = reason
        if not reason and library is not None:
            self._run = _Run(library, window, self._device, self._leader, self._run)
            self._run.start()

    def close(self) -> None:
        """Record no more; the thread sees to it."""
        if self._run is not None:
            self._run.ended.set()

    def shutdown(self, timeout: float) -> None:
        """Record no more; a library that does not return is left alone."""
        if self._run is not None:
            self._run.ended.set()
            self._run.join(timeout)

    def after_fork(self) -> None:
        """In the child: thread and recording are the parent's."""
        self._run = None

    def describe(self) -> Mapping[str, object]:
        """What the last window was given."""
        if self._refused:
            return {"reason": self._refused}
        return self._run.describe() if self._run is not None else {}


class _Run(threading.Thread):
    """The recording of one window.

    Args:
        library: path of it.
        window: says what is recorded, and where.
        device: gives the number of the device, or None.
        leader: whether this process samples the host, too.
        before: the run of the window before: the library records one at a time.
    """

    def __init__(
        self, library: Path, window: SourceWindow, device: Callable[[], int | None], leader: bool, before: _Run | None
    ) -> None:
        super().__init__(name="ascend-otel-aclprof", daemon=True)
        self.ended = threading.Event()
        self._library = library
        self._window = window
        self._device = device
        self._leader = leader
        self._before = before
        self._problem = ""
        self._folder: Path | None = None

    def run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
                self._before = None
            device = self._wait_for_device()
            if device is not None:
                self._record(device)
        except Exception as error:
            self._problem = str(error) if isinstance(error, AclprofError) else f"{type(error).__name__}: {error}"
            trace = None if isinstance(error, AclprofError) else error
            _logger.warning("%s: %s", _asked_by.config(_ACL_TASK_TIME), self._problem, exc_info=trace)

    def _wait_for_device(self) -> int | None:
        """None when the window closed before there was one; without a device, ``aclprofStart`` does not return."""
        device = self._device()
        while device is None and not self.ended.wait(_LOOK_SECONDS):
            device = self._device()
        return device

    def _record(self, device: int) -> None:
        config, below = self._window.config, self._window.folder
        level, seconds = config.acl_prof_task_time_level
        below.mkdir(0o750, parents=True, exist_ok=True)
        before = set(below.glob("PROF_*"))
        profiler = Aclprof(self._library)
        types = data_types(level, config.acl_data_type_config)
        hertz = config.host_system_usage_freq if self._leader else 0
        profiler.start(below, device, types, AICORE_METRICS[config.aclprof_aicore_metrics], hertz)
        started_ns = time.time_ns()
        self.ended.wait(seconds)
        ended_ns = time.time_ns()
        profiler.stop()
        made = [folder for folder in below.glob("PROF_*") if folder not in before and _is_of(folder, device)]
        # other workers may have made theirs meanwhile: then the one around them is named
        self._folder = made[0] if len(made) == 1 else below
        tell(ProfilingSession("aclprof", self._folder, started_ns, ended_ns, level))

    def describe(self) -> Mapping[str, object]:
        """For ``doctor``."""
        if self._problem:
            return {"reason": self._problem}
        state: dict[str, object] = {"usable": True, "running": self.is_alive()}
        return {**state, "folder": str(self._folder)} if self._folder is not None else state


def _is_of(folder: Path, device: int) -> bool:
    """Whether a raw recording is of this device."""
    return (folder / f"device_{device}").is_dir()
