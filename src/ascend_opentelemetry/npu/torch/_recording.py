"""One recording of a torch profiler: from the step of the model runner that begins it to the one that ends it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum

from ascend_opentelemetry.npu._profiling_session import ProfilingSession
from ascend_opentelemetry.npu.torch._profiler import HostOperator, Profiler, ProfilerError

_logger = logging.getLogger(__name__)


class _State(Enum):
    WAITING = "waits for a step"
    RUNNING = "records"
    OVER = "over"


class Recording:
    """Starts and stops the profiler between two steps, on their thread, which one step waits for at each.

    Args:
        make: makes the profiler of this recording, when it begins: torch is loaded then.
        trace_id: in its metadata.
        steps: after so many steps it ends by itself; 0: when it is told to.
        seconds: after so many seconds it is to be told to; None: never.
    """

    def __init__(self, make: Callable[[], Profiler], trace_id: int, steps: int, seconds: float | None = None) -> None:
        self.seconds = seconds
        #: Set when the recording need not go on: it was told so, or has all its steps.
        self.ending = threading.Event()
        #: Set when the profiler does not run any more, or never will.
        self.over = threading.Event()
        #: Why there is no recording.
        self.problem = ""
        #: Seconds that steps have waited for the start and for the end.
        self.start_seconds = self.stop_seconds = 0.0
        self._make = make
        self._profiler: Profiler | None = None
        self._trace_id = trace_id
        self._limit = steps
        self._steps = 0
        self._started_ns = self._ended_ns = 0
        self._state = _State.WAITING
        self._thread = 0
        self._any_thread = False
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the profiler records."""
        return self._state is _State.RUNNING

    def step(self, scheduled: bool) -> None:
        """A step begins, on the thread that calls: see ``StepWatcher``."""
        with self._lock:
            if self._state is _State.WAITING:
                if self.ending.is_set():
                    self._finish()
                elif scheduled:
                    self._start()
            elif self._state is _State.RUNNING and (self.ending.is_set() or 0 < self._limit <= self._steps):
                self._stop()
            if self._state is _State.RUNNING and scheduled:
                self._steps += 1

    def end(self) -> None:
        """Record no more from the next step on; a recording that has not begun never will. Waits for nobody."""
        self.ending.set()
        if self._lock.acquire(blocking=False):  # else a step is on its way, or the end
            try:
                if self._state is _State.WAITING:
                    self._finish()
            finally:
                self._lock.release()

    def end_now(self) -> bool:
        """Record no more, where the calling thread may end the profiler; a step that begins meanwhile waits.

        Returns:
            Whether it may.
        """
        with self._lock:
            self.ending.set()
            if self._state is _State.RUNNING:
                if threading.get_ident() != self._thread and not self._any_thread:
                    return False
                self._stop()
            self._finish()
            return True

    def _give_way(self) -> None:
        """End for another profiler, in the thread that starts it.

        Raises:
            RuntimeError: that thread may not end this one; torch refuses a second start with the same.
        """
        ends_anyway = self._ended_ns > 0
        if not self.end_now():
            raise RuntimeError("Profiler is already enabled by ascend-opentelemetry in another thread")
        if not ends_anyway:
            _logger.warning("a recording of operators ends early: another profiler of torch starts in this process")

    def operators(self) -> Iterable[HostOperator]:
        """The operators that were recorded, once it is over."""
        return self._profiler.operators() if self._profiler is not None else ()

    def session(self, operators: int | None) -> ProfilingSession | None:
        """What has been recorded; None where nothing was written."""
        profiler = self._profiler
        if profiler is None or profiler.folder is None:
            return None
        return ProfilingSession(
            profiler.name, profiler.folder, self._started_ns, self._ended_ns, profiler.level, self._trace_id, operators
        )

    def _start(self) -> None:
        begun = time.monotonic()
        try:
            self._profiler = self._make()
            self._profiler.start(self._give_way)
        except Exception as error:  # noqa: BLE001 - the step must go on
            self._fail(error)
            return
        self._started_ns = time.time_ns()
        self._thread = threading.get_ident()
        self._any_thread = self._profiler.any_thread
        self.start_seconds = time.monotonic() - begun
        self._state = _State.RUNNING

    def _stop(self) -> None:
        self._ended_ns = time.time_ns()
        begun = time.monotonic()
        try:
            if self._profiler is not None:
                self._profiler.stop()
        except Exception as error:  # noqa: BLE001 - the step must go on
            self._fail(error)
            return
        self.stop_seconds = time.monotonic() - begun
        self._finish()

    def _fail(self, error: Exception) -> None:
        self.problem = str(error) if isinstance(error, ProfilerError) else f"{type(error).__name__}: {error}"
        self._finish()

    def _finish(self) -> None:
        self._state = _State.OVER
        self.ending.set()
        self.over.set()
