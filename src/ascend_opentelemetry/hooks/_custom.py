"""Handlers of the user's own: ``handler: pkg.mod:func`` in the symbols file."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from ascend_opentelemetry.hooks._wrap import MAX_FAILURES

_logger = logging.getLogger(__name__)

_NOT_CALLED = object()


class Custom:
    """Calls ``handler(original_func, this, *args, **kwargs)`` in place of the function.

    The handler calls the original and returns its result. When it raises, the caller gets the original's result all
    the same, and the original never runs twice; after five failures the handler is left out.

    Args:
        function: the imported handler.
        target: ``module:qualname`` of the hooked function, for messages.
        where: file and line of the symbol, for messages.
    """

    def __init__(self, function: Callable[..., Any], target: str, where: str) -> None:
        self._function = function
        self._target = target
        self._where = where
        self._failures = 0

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):
            return self._wrap_async(original)

        def hook(*args: Any, **kwargs: Any) -> Any:
            if self._failures >= MAX_FAILURES:
                return original(*args, **kwargs)
            call = _Once(original)
            try:
                return self._function(call.sync, *args, **kwargs)
            except BaseException as error:
                if error is call.error or not isinstance(error, Exception):
                    raise
                self._failed(error)
            return original(*args, **kwargs) if call.result is _NOT_CALLED else call.result

        return hook

    def _wrap_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> Any:
            if self._failures >= MAX_FAILURES:
                return await original(*args, **kwargs)
            call = _Once(original)
            try:
                result = self._function(call.asynchronous, *args, **kwargs)
                return await result if inspect.isawaitable(result) else result
            except BaseException as error:
                if error is call.error or not isinstance(error, Exception):
                    raise
                self._failed(error)
            return await original(*args, **kwargs) if call.result is _NOT_CALLED else call.result

        return hook

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            _logger.warning(
                "%s: the handler of %s raised %s: %s",
                self._where, self._target, type(error).__name__, error, exc_info=error,
            )  # fmt: skip
        elif self._failures == MAX_FAILURES:
            _logger.warning("%s: the handler of %s failed %d times: it is off now", self._where, self._target, 5)


class _Once:
    """The original as a custom handler sees it: remembers its result or exception."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original
        self.result: Any = _NOT_CALLED
        self.error: BaseException | None = None
        functools.update_wrapper(self, original)

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self.result = self._original(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        return self.result

    async def asynchronous(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self.result = await self._original(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        return self.result
