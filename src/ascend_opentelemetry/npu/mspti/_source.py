"""Operators live by MSPTI: ``acl_task_time`` 2, or ``OTEL_PYTHON_VLLM_NPU_OPERATORS=mspti``."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.npu import _asked_by, _settings
from ascend_opentelemetry.npu.mspti import _library
from ascend_opentelemetry.recorder import SourceWindow, forwards

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.mspti._collector import MsptiCollector

_logger = logging.getLogger(__name__)

_ACL_TASK_TIME = 2
#: The other ways: MSPTI and another profiler of the NPU would lose records of each other.
_ACLPROF, _TORCH_PROFILER = 1, 3
#: A shutdown waits so long for the records that the device still has.
DRAIN_SECONDS = 1.0
#: A flush waits so long: others flush after it.
FLUSH_SECONDS = 0.2
#: After so long, a call of the library counts as one that does not return.
STALLED_SECONDS = 5.0


def device_is_used() -> bool:
    """Whether torch_npu works with a device in this process, which is a worker then; nothing is imported."""
    npu: Any = getattr(sys.modules.get("torch"), "npu", None)
    return "torch_npu" in sys.modules and npu is not None and bool(npu.is_initialized())


class MsptiSource:
    """Collects in the process that uses a device, on a thread of its own, which alone talks to the library.

    Args:
        ready: whether this process uses a device.
    """

    name = "mspti"

    def __init__(self, ready: Callable[[], bool] = device_is_used) -> None:
        self._ready = ready
        self._leader = self._always = self._said = self._paused = False
        self._window: SourceWindow | None = None
        self._thread: _Thread | None = None
        #: A subscription of the parent's: the library of this process waits for threads that it has not.
        self._inherited = False

    def start(self, *, leader: bool) -> None:
        """Begin where the environment says so."""
        self._leader = leader
        self._always = _settings.operators(os.environ, warn=leader) == "mspti"
        if self._always:
            self._look_for_library(_asked_by.variable("mspti"))
        self._tell()

    def open(self, window: SourceWindow) -> None:
        """Begin where the window asks for it; its records are written to a native file too."""
        way = window.config.acl_task_time
        self._window = window if way == _ACL_TASK_TIME else None
        # aclprof does not record where the library is preloaded
        self._paused = way == _TORCH_PROFILER or (way == _ACLPROF and not _library.is_preloaded())
        if self._window is not None:
            self._look_for_library(_asked_by.config(_ACL_TASK_TIME))
        self._tell()

    def _look_for_library(self, asker: str) -> None:
        """Say once a service what the workers, which may not even come to it, will not find."""
        if self._leader and not self._said and not _library.is_found():
            self._said = True
            _logger.warning(
                "%s: operators are not collected: there is no %s of CANN here; source CANN's set_env.sh and run, before "
                "the service starts: %s",
                asker, _library.NAME, _library.preload_line(_library.NAME),
            )  # fmt: skip

    def close(self) -> None:
        """End what the window asked for; the thread writes what was recorded until now."""
        self._window = None
        self._paused = False
        self._tell()

    def _tell(self) -> None:
        wanted = (self._always and not self._paused) or self._window is not None
        if self._thread is None and wanted and not self._inherited:
            self._thread = _Thread(self._ready)
            self._thread.start()
        if self._thread is not None:
            self._thread.wish(wanted, self._window)

    def flush(self, timeout: float) -> bool:
        """Hand on what the library and this source hold back; True where nothing is collected."""
        return self._thread is None or self._thread.flush(min(timeout, FLUSH_SECONDS))

    def shutdown(self, timeout: float) -> None:
        """End the subscription; a library that does not return is left alone."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end(timeout)

    def after_fork(self) -> None:
        """In the child: thread and subscription are the parent's."""
        self._inherited |= self._thread is not None and self._thread.has_library
        self._thread = self._window = None
        self._paused = False

    def describe(self) -> Mapping[str, object]:
        """Whether it collects, and what it gave."""
        if self._inherited:
            return {"reason": "MSPTI was in use when this process was forked: only a new process can use it"}
        thread = self._thread
        if thread is None:
            return {**_availability(), "asked": False}
        paused = {"paused": True} if self._always and self._paused else {}
        return {"asked": self._always or self._window is not None, **paused, **thread.describe()}


def _availability() -> Mapping[str, object]:
    """Of the library, which nobody has loaded yet."""
    return {"usable": True} if _library.is_found() else {"reason": f"there is no {_library.NAME} of CANN here"}


class _Thread(threading.Thread):
    """Does as it is told last, turn by turn."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        super().__init__(name="ascend-otel-mspti", daemon=True)
        self._ready = ready
        self._wake = threading.Event()
        self._wanted = False
        self._window: SourceWindow | None = None
        self._closed_ns: int | None = None
        self._ending = False
        self._flushing: threading.Event | None = None
        self._collector: MsptiCollector | None = None
        self._problem = ""
        #: When the turn began that is not done yet; s of the monotonic clock.
        self._busy_since: float | None = None

    @property
    def has_library(self) -> bool:
        """Whether the library is loaded and was subscribed to."""
        return self._collector is not None

    def wish(self, wanted: bool, window: SourceWindow | None) -> None:
        """Collect or not, and write the records to the file of this window or to none."""
        if window is None and self._window is not None:
            self._closed_ns = time.time_ns()
        self._wanted, self._window = wanted, window
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Have a turn hand on everything, and wait at most ``timeout`` seconds for its end."""
        if self._collector is None or not self.is_alive():
            return True
        flushing = self._flushing = threading.Event()
        self._wake.set()
        return flushing.wait(timeout)

    def end(self, timeout: float) -> None:
        """Collect no more, and wait at most ``timeout`` seconds for the end."""
        self._ending = True
        self.wish(False, None)
        self.join(timeout)
        if self.is_alive():  # the model runner calls no library that hangs
            forwards.watcher = None

    def run(self) -> None:
        try:
            while not self._ending:
                self._busy_since = time.monotonic()
                seconds = self._turn()
                self._busy_since = None
                self._wake.wait(seconds)
                self._wake.clear()
            self._busy_since = time.monotonic()
            if self._collector is not None:
                self._collector.stop(self._closed_ns, DRAIN_SECONDS)
            self._busy_since = None
        except Exception as error:
            self._problem = f"{type(error).__name__}: {error}"
            _logger.warning("operators are not collected any more: %s", self._problem, exc_info=error)
            if self._collector is not None:
                self._collector.let_go()

    def _turn(self) -> float:
        """Do what is to be done now; seconds until the next turn."""
        if self._collector is None:
            if not self._wanted:
                return 3600.0
            if not self._ready():
                return 0.25
            self._collector = _collector(self._wake)
        flushing, self._flushing = self._flushing, None
        seconds = self._collector.turn(self._wanted, self._window, self._closed_ns, flush=flushing is not None)
        if flushing is not None:
            flushing.set()
        return seconds

    def describe(self) -> Mapping[str, object]:
        """State of the collector, or why there is none."""
        if self._problem:
            return {"reason": self._problem}
        if self._collector is None:
            waits = {"waits_for": "a device in use by torch_npu"} if self._wanted else {}
            return {**_availability(), **waits}
        state = dict(self._collector.describe())
        since = self._busy_since
        if since is not None and time.monotonic() - since > STALLED_SECONDS:
            state = {**state, "reason": f"{state.get('found', 'MSPTI')} has not returned for {STALLED_SECONDS:.0f} s"}
            state.pop("usable", None)
        return state


def _collector(wake: threading.Event) -> MsptiCollector:
    # numpy and the library: only in the process that needs them
    from ascend_opentelemetry.npu.mspti._collector import MsptiCollector

    return MsptiCollector(wake)
