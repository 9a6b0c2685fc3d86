"""Operators by the profilers of torch: ``acl_task_time`` 3, or ``OTEL_PYTHON_VLLM_NPU_OPERATORS=torch``."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial

from ascend_opentelemetry.npu import _asked_by, _settings
from ascend_opentelemetry.npu._profiling_session import tell
from ascend_opentelemetry.npu.torch import _other_profilers, _profiler
from ascend_opentelemetry.npu.torch._host_operators import HostOperators
from ascend_opentelemetry.npu.torch._profiler import Options, Profiler
from ascend_opentelemetry.npu.torch._recording import Recording
from ascend_opentelemetry.recorder import SourceWindow, recorder

_logger = logging.getLogger(__name__)

_ACL_TASK_TIME = 3
#: A recording that is to end waits so long for a step; then the worker is idle.
IDLE_SECONDS = 0.5
#: Without a window: steps of a sample, seconds at most that it waits for the last of them, seconds from one to the next.
SAMPLE_STEPS = 10
SAMPLE_SECONDS = 5.0
SAMPLE_PERIOD = 60.0
#: A worker that ends waits so long for what the last recording has given.
END_SECONDS = 2.0


class TorchSource:
    """Records in the process whose model runner calls; a ``recorder.StepWatcher``.

    Args:
        make: makes the profiler of a recording.
    """

    name = "torch_profiler"

    def __init__(self, make: Callable[[Options, int], Profiler] = _profiler.make) -> None:
        self._make = make
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._operators = HostOperators()
        #: Not over yet, the oldest first.
        self._recordings: list[Recording] = []
        self._of_window: Recording | None = None
        self._threads: list[threading.Thread] = []
        self._sampling: threading.Event | None = None
        self._problem = ""
        self._written = 0
        self._longest = {"start": 0.0, "stop": 0.0}

    def start(self, *, leader: bool) -> None:
        """Begin to sample where the environment says so; a window may ask for a recording at any time."""
        _other_profilers.warm_up.watch()
        if _settings.operators(os.environ, warn=leader) == "torch":
            self._sampling = threading.Event()
            threading.Thread(target=self._sample, args=(self._sampling,), name="ascend-otel-torch", daemon=True).start()

    def open(self, window: SourceWindow) -> None:
        """Record from the next step on where the window asks for it."""
        config = window.config
        if config.acl_task_time == _ACL_TASK_TIME:
            options = Options(
                window.folder, config.torch_prof_stack, config.torch_prof_modules,
                config.acl_prof_task_time_level.level, config.aclprof_aicore_metrics,
            )  # fmt: skip
            with self._lock:
                for sample in self._recordings:  # torch's profiler makes one recording at a time
                    sample.end()
                self._of_window = self._begin(options, config.torch_prof_step_num, None)

    def close(self) -> None:
        """Record no more from the next step on."""
        recording, self._of_window = self._of_window, None
        if recording is not None:
            recording.end()
            if recording.over.is_set():
                self._forget(recording)

    def _sample(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLE_PERIOD):
            with self._lock:
                if not self._recordings:
                    self._begin(Options(), SAMPLE_STEPS, SAMPLE_SECONDS)

    def _begin(self, options: Options, steps: int, seconds: float | None) -> Recording:
        trace_id = recorder.new_trace_id()
        recording = Recording(partial(self._make, options, trace_id), trace_id, steps, seconds)
        self._recordings = [*self._recordings, recording]
        recorder.watch_steps(self)
        return recording

    def step(self, scheduled: bool) -> None:
        """A step of the model runner begins."""
        try:
            for recording in self._recordings:
                was_running = recording.running
                recording.step(scheduled)
                if recording.running and not was_running:
                    self._follow(recording)
                elif recording.over.is_set():
                    self._forget(recording)
        except Exception as error:  # noqa: BLE001 - the step must go on
            self._warn(f"{type(error).__name__}: {error}", error)

    def end(self) -> None:
        """No step will come any more: what is recorded until now is the recording."""
        self._end_all(END_SECONDS)

    def _end_all(self, timeout: float) -> None:
        self._operators.hurried = True
        for recording in self._recordings:
            recording.end_now()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _forget(self, recording: Recording) -> None:
        if recording.problem:
            self._warn(recording.problem)
        with self._lock:
            self._recordings = [one for one in self._recordings if one is not recording]
            if not self._recordings and recorder.step_watcher is self:
                recorder.watch_steps(None)

    def _follow(self, recording: Recording) -> None:
        thread = threading.Thread(
            target=self._finish, args=(recording,), name="ascend-otel-torch-recording", daemon=True
        )
        thread.start()
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]

    def _finish(self, recording: Recording) -> None:
        """Wait for the end of a recording, and give what is in it."""
        try:
            recording.ending.wait(recording.seconds)
            recording.end()
            if not recording.over.wait(IDLE_SECONDS) and not recording.end_now():
                recording.over.wait()
            self._forget(recording)
            if not recording.problem:
                self._problem = ""
                self._give(recording)
        except Exception as error:  # noqa: BLE001 - the thread must say why it ends
            self._warn(f"{type(error).__name__}: {error}", error)

    def _give(self, recording: Recording) -> None:
        for what, seconds in (("start", recording.start_seconds), ("stop", recording.stop_seconds)):
            self._longest[what] = max(self._longest[what], seconds)
        number = self._operators.give(recording.operators())
        session = recording.session(number or None)
        if session is not None:
            self._written += 1
            tell(session)

    def _warn(self, problem: str, error: Exception | None = None) -> None:
        if problem != self._problem:
            self._problem = problem
            sampled = self._sampling is not None and self._of_window is None
            asker = _asked_by.variable("torch") if sampled else _asked_by.config(_ACL_TASK_TIME)
            _logger.warning("%s: operators are not recorded: %s", asker, problem, exc_info=error)

    def shutdown(self, timeout: float) -> None:
        """Record no more, and wait for what was recorded."""
        if self._sampling is not None:
            self._sampling.set()
        self._end_all(timeout)
        recorder.watch_steps(None)

    def after_fork(self) -> None:
        """In the child: recordings and threads are the parent's."""
        recorder.watch_steps(None)
        self._reset()

    def describe(self) -> Mapping[str, object]:
        """What was recorded; nothing in a process without a model runner."""
        seconds = {f"longest_{what}_seconds": round(value, 3) for what, value in self._longest.items()}
        given = {"recordings": self._written, "operators": self._operators.given, "windows": self._operators.events}
        if self._problem:
            return {"reason": self._problem, **given}
        return {"usable": True, **given, **seconds} if self._operators.given or self._written else {}
