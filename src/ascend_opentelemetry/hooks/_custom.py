"""Handlers of the user's own: ``handler: pkg.mod:func`` in the symbols file."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from types import FunctionType, MethodType
from typing import Any

from ascend_opentelemetry.hooks._control import Concerns
from ascend_opentelemetry.hooks._managers import Around, InPlace, gives_manager
from ascend_opentelemetry.hooks._run import Run
from ascend_opentelemetry.hooks._this import may_lack_this, with_this
from ascend_opentelemetry.hooks._wrap import MAX_FAILURES, switched_off

_logger = logging.getLogger(__name__)


class Custom:
    """Calls ``handler(original_func, this, *args, **kwargs)`` in place of the function.

    The handler calls the original and returns its result. The original runs once in each call, whatever the handler
    does: one that raises, or does not call it, is as if it were not there and is left out after five such failures; to
    one that calls it again the first outcome is given. A handler that returns None leaves the outcome as it is, also an
    exception that it has caught. Of a generator function the handler gets and returns a generator; one that fails
    midway is left out from there on. What is sent or thrown into such a generator does not reach the original.

    A handler that is a generator function, or returns a context manager, is entered around the call; for a function
    that returns a context manager, around the ``with`` block.

    Args:
        function: the imported handler.
        target: ``module:qualname`` of the hooked function, for messages.
        where: file and line of the symbol, for messages.
        is_wanted: asked in each call; False: the handler is left out.
    """

    def __init__(
        self, function: Callable[..., Any], target: str, where: str, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._function: Any = function
        self._target = target
        self._where = where
        self._is_wanted = is_wanted
        self._failures = 0
        self._concerns: Concerns | None = None

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Build the hook around ``original``.

        Raises:
            TypeError: the handler is async and the function is not.
        """
        self._refuse_what_cannot_fit(original)
        handler = _code_of(self._function)
        if inspect.isgeneratorfunction(original):
            build = self._wrap_generator
        else:
            if inspect.isgeneratorfunction(handler):
                self._function = contextmanager(self._function)
            if inspect.isasyncgenfunction(original):
                build = self._wrap_async_generator
            else:
                if inspect.isasyncgenfunction(handler):
                    self._function = asynccontextmanager(self._function)
                if inspect.iscoroutinefunction(original):
                    build = self._wrap_async
                else:
                    build = self._wrap_manager if gives_manager(original) else self._wrap_sync
        if may_lack_this(self._function, original):
            self._function = with_this(self._function)
        return build(original)

    def _refuse_what_cannot_fit(self, original: Callable[..., Any]) -> None:
        handler = _code_of(self._function)
        is_async = inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(inspect.unwrap(handler))
        if is_async and not (inspect.iscoroutinefunction(original) or inspect.isasyncgenfunction(original)):
            raise TypeError("it is async and the function is not")

    def _wrap_sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if not self._takes(args):
                return original(*args, **kwargs)
            run = Run(args, kwargs)
            function = run.sync(original)
            try:
                result = self._function(function, *args, **kwargs)
                if run.started:
                    if result is not None:
                        return _unless_coroutine(result, run)
                elif isinstance(result, AbstractContextManager):
                    with Around(run, result, self._check):
                        return function(*args, **kwargs)
                else:
                    _unless_coroutine(result, run)
                    self._failed("did not call the original")
            except BaseException as error:  # noqa: BLE001 - raised again by _check where it is not the handler's
                self._check(run, error)
            return function(*args, **kwargs)

        return hook

    def _wrap_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> Any:
            if not self._takes(args):
                return await original(*args, **kwargs)
            run = Run(args, kwargs)
            function = run.asynchronous(original)
            try:
                result = self._function(function, *args, **kwargs)
                if inspect.isawaitable(result):
                    result = await result
                elif isinstance(result, (AbstractContextManager, AbstractAsyncContextManager)):
                    async with Around(run, result, self._check):
                        return await function(*args, **kwargs)
                if not run.started:
                    self._failed("did not call the original")
                elif result is not None:
                    return result
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            return await function(*args, **kwargs)

        return hook

    def _wrap_manager(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if not self._takes(args):
                return original(*args, **kwargs)
            run = Run(args, kwargs)
            function = run.manager(original)
            try:
                result = self._function(function, *args, **kwargs)
                if result is not None and result is not run.result:
                    if isinstance(result, AbstractContextManager):
                        return InPlace(run, result, lambda: function(*args, **kwargs), self._check)
                    if run.started:
                        return result
                if not run.started:
                    self._failed("did not call the original")
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            return function(*args, **kwargs).manager

        return hook

    def _wrap_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            if not self._takes(args):
                return (yield from original(*args, **kwargs))
            run = Run(args, kwargs)
            function = run.generator(original)
            try:
                given = self._function(function, *args, **kwargs)
                if isinstance(given, AbstractContextManager):
                    with Around(run, given, self._check):
                        return (yield from function(*args, **kwargs))
                result = yield from run.passing(given)
                if run.started:
                    return run.returned() if result is None else result
                self._failed("did not call the original")
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            yield from run.undelivered
            yield from function(*args, **kwargs)
            return run.returned()

        return hook

    def _wrap_async_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            run = Run(args, kwargs)
            function = run.async_generator(original)
            try:
                if self._takes(args):
                    given = self._function(function, *args, **kwargs)
                    if isinstance(given, (AbstractContextManager, AbstractAsyncContextManager)):
                        async with Around(run, given, self._check), aclosing(function(*args, **kwargs)) as values:
                            async for value in values:
                                yield value
                        return
                    given = await given if inspect.isawaitable(given) else given
                    async with aclosing(run.async_passing(given)) as values:
                        async for value in values:
                            yield value
                    if run.started:
                        run.returned()
                        return
                    self._failed("did not call the original")
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            for value in run.undelivered:
                yield value
            async with aclosing(function(*args, **kwargs)) as values:
                async for value in values:
                    yield value
            run.returned()

        return hook

    def restrict(self, concerns: Concerns) -> None:
        """From now on the handler gets only the calls that concern it."""
        self._concerns = concerns

    def _takes(self, args: tuple[Any, ...]) -> bool:
        return self._failures < MAX_FAILURES and self._is_wanted() and (self._concerns is None or self._concerns(args))

    def _check(self, run: Run, error: BaseException) -> None:
        """Count a failure of the handler; what the original raised, and what ends the call, is raised again."""
        if error is run.error or run.was_cancelled or not isinstance(error, Exception):
            raise error
        self._failed(f"raised {type(error).__name__}: {error}", error)

    def _failed(self, how: str, error: Exception | None = None) -> None:
        self._failures += 1
        if self._failures == 1:
            _logger.warning("%s: the handler of %s %s", self._where, self._target, how, exc_info=error)
        elif self._failures == MAX_FAILURES:
            switched_off.append(self._target)
            _logger.warning(
                "%s: the handler of %s failed %d times: it is off now", self._where, self._target, MAX_FAILURES
            )


def _code_of(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a call of ``handler`` runs, which says of what kind it is."""
    if isinstance(handler, (FunctionType, MethodType, type)):
        return handler
    call = type(handler).__call__
    return call if isinstance(call, FunctionType) else handler


def _unless_coroutine(result: Any, run: Run) -> Any:
    """What a handler returned in place of something that nobody would await.

    Raises:
        TypeError: it is a coroutine, and the original gave nothing to await.
    """
    if inspect.iscoroutine(result) and not inspect.isawaitable(run.result):
        result.close()
        raise TypeError("it is async and the function is not")
    return result
