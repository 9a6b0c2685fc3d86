"""Moments at which a process is idle or about to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.vllm._scheduler import tracker as scheduler_tracker

#: Seconds at most that EngineCore and the workers get to flush before the API server signals them: vLLM leaves them
#: 4 to 14 ms after that. They usually need a few.
GRACE = 0.5
#: Seconds at most for the last flush of a process that is told to end.
LAST_FLUSH = 0.5


class Idle:
    """``EngineCoreProc._notify_idle_state_callbacks()``: before the engine waits for work."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        recorder.wake(export=True)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class EngineShutdown:
    """``EngineCore.shutdown()``: requests that still run have failed, and nobody calls again."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> None:  # noqa: ARG002
        scheduler = getattr(args[0], "scheduler", None)
        if scheduler is not None:
            scheduler_tracker.phases.fail_all(scheduler.requests, "the engine stopped")
        recorder.flush(LAST_FLUSH)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class WorkerShutdown:
    """``WorkerProc.shutdown()``."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        recorder.flush(LAST_FLUSH)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class StopProcesses:
    """``vllm.v1.utils.shutdown(procs, timeout)``: the signal to EngineCore, or to one of several API servers, follows.

    ``vllm.v1.engine.utils`` has it by name, hooked there or before: then one call is two for this handler.
    """

    switch = recorder
    _inside = False

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if self._inside:
            return False
        if args[0] if args else kwargs["procs"]:
            recorder.flush_others(GRACE)
        self._inside = True  # last: a hook that fails is not asked to leave
        return True

    def exit(self, state: bool, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state:
            self._inside = False
