"""Moments at which a process is idle or about to end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Token
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN

from ascend_opentelemetry.recorder import detach, make_current, recorder
from ascend_opentelemetry.vllm._requests import tracker
from ascend_opentelemetry.vllm._scheduler import tracker as scheduler_tracker
from ascend_opentelemetry.vllm._steps import fail_open_steps

_logger = logging.getLogger(__name__)

#: Seconds at most that EngineCore and the workers get to flush before the API server signals them: vLLM leaves them
#: 4 to 14 ms after that. They usually need a few.
GRACE = 0.5
#: Seconds that EngineCore gets between the signal and its death at least, when requests run: to end its step, to say to
#: the clients that it aborts, and to flush. vLLM kills it before that now and then, and then its HTTP server waits for
#: the clients for ever.
LAST_STEP = 0.25
#: Seconds at most for the last flush of a process that is told to end.
LAST_FLUSH = 0.5
#: Why steps and requests failed that were open when the engine went down.
_STOPPED = "the engine stopped"


class Idle:
    """``EngineCoreProc._notify_idle_state_callbacks()``: before the engine waits for work."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        recorder.wake(export=True)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class InputQueue:
    """``EngineCoreProc._process_input_queue()``: before vLLM 0.17, which has no call of ``Idle``."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> None:  # noqa: ARG002
        engine = args[0]
        if not hasattr(engine, "_notify_idle_state_callbacks") and not engine.scheduler.has_requests():
            recorder.wake(export=True)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class BusyLoop:
    """``EngineCoreProc.run_busy_loop()`` and ``WorkerProc.worker_busy_loop()``: what a process does once it is ready.

    A forked process inherits the span that was current at the fork, one of vLLM's own of the start. Without this every
    timer of the process would belong to that trace, whatever the sample ratio says.
    """

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> Token[Context]:  # noqa: ARG002
        return make_current(INVALID_SPAN)

    def exit(self, state: Token[Context], args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        detach(state)


class EngineShutdown:
    """``EngineCore.shutdown()``: requests that still run have failed, and nobody calls again."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> None:  # noqa: ARG002
        scheduler = getattr(args[0], "scheduler", None)
        if scheduler is not None:
            fail_open_steps(_STOPPED)
            scheduler_tracker.phases.fail_all(scheduler.requests, _STOPPED)
        recorder.flush(LAST_FLUSH)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class WorkerShutdown:
    """``WorkerProc.shutdown()``."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        watcher = recorder.step_watcher
        if watcher is not None:
            watcher.end()
        recorder.flush(LAST_FLUSH)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class StopProcesses:
    """``vllm.v1.utils.shutdown(procs, timeout)``: the signal to EngineCore, or to one of several API servers, follows.

    ``vllm.v1.engine.utils`` has it by name, hooked there or before: then one call is two for this handler.
    """

    def __init__(self) -> None:
        self._inside = False

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def shutdown(procs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or not procs or not recorder.on:
                return original(procs, *args, **kwargs)
            self._inside = True
            try:
                _flush_others()
                if tracker.children:
                    args, kwargs = _with_grace(args, kwargs)
                return original(procs, *args, **kwargs)
            finally:
                self._inside = False

        return shutdown


def _flush_others() -> None:
    try:
        recorder.wake(export=True)  # while the others flush, so that less is left for the exit
        recorder.flush_others(GRACE)
    except Exception:  # vLLM must stop all the same
        _logger.warning("the other processes were not asked for their last records", exc_info=True)


def _with_grace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments after ``procs`` with a timeout of ``LAST_STEP`` at least; None means 5 s to vLLM."""
    timeout = args[0] if args else kwargs.get("timeout")
    if timeout is None or timeout >= LAST_STEP:
        return args, kwargs
    return ((LAST_STEP, *args[1:]), kwargs) if args else (args, {**kwargs, "timeout": LAST_STEP})
