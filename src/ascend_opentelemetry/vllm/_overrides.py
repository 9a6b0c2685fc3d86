"""EngineCore: methods of schedulers and executors that do not come with vLLM, which no list of names can have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ascend_opentelemetry.hooks import Handler

_logger = logging.getLogger(__name__)

#: Hooks a method: the class that defines it, its name, the handler.
HookMethod = Callable[[type, str, Handler], None]


class _Always:
    on = True


class EngineInit:
    """``EngineCore.__init__(...)``: what it has made of ``--scheduler-cls`` and ``--distributed-executor-backend``.

    A class of somebody else may override a method without a call of vLLM's. Where it does call it, that is one step.

    Args:
        scheduler: handlers for methods of the scheduler.
        executor: handlers for methods of the executor.

    Attributes:
        hook: puts a hook in place; None before hooks are installed.
    """

    switch = _Always()  # hooks are put in place once, whether anything is recorded by then or not

    def __init__(self, scheduler: Mapping[str, Handler], executor: Mapping[str, Handler]) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self.hook: HookMethod | None = None

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if error is not None or self.hook is None:
            return
        engine = args[0]
        self._hook(self.hook, type(engine.model_executor), self._executor)
        scheduler = engine.scheduler
        if hasattr(scheduler, "kv_cache_manager"):
            self._hook(self.hook, type(scheduler), self._scheduler)
        else:
            name = type(scheduler).__qualname__
            _logger.warning(
                "%s is no subclass of vLLM's Scheduler: steps and phases of requests are not recorded", name
            )

    @staticmethod
    def _hook(hook: HookMethod, kind: type, handlers: Mapping[str, Handler]) -> None:
        for name, handler in handlers.items():
            owner = next((each for each in kind.__mro__ if name in vars(each)), None)
            if owner is not None and not owner.__module__.startswith("vllm."):
                hook(owner, name, handler)
