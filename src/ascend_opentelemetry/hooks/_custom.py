"""Handlers of the user's own: ``handler: pkg.mod:func`` in the symbols file."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

from ascend_opentelemetry.hooks._wrap import MAX_FAILURES, switched_off

_logger = logging.getLogger(__name__)

_NOT_ENDED = object()


class Custom:
    """Calls ``handler(original_func, this, *args, **kwargs)`` in place of the function.

    The handler calls the original and returns its result. When it raises, the caller gets the original's result or
    exception all the same, and the original never runs twice; after five failures the handler is left out. Of a
    generator function the handler gets and returns a generator; one that fails midway is left out from there on. What
    is sent or thrown into such a generator does not reach the original.

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
        if inspect.isasyncgenfunction(original):
            return self._wrap_async_generator(original)
        if inspect.isgeneratorfunction(original):
            return self._wrap_generator(original)
        if inspect.iscoroutinefunction(original):
            return self._wrap_async(original)
        return self._wrap_sync(original)

    def _wrap_sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            run = _Run()
            try:
                if self._on:
                    return self._function(run.sync(original), *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again by _check where it is not the handler's
                self._check(run, error)
            return run.result if run.has_ended() else original(*args, **kwargs)

        return hook

    def _wrap_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> Any:
            run = _Run()
            try:
                if self._on:
                    result = self._function(run.asynchronous(original), *args, **kwargs)
                    return await result if inspect.isawaitable(result) else result
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            return run.result if run.has_ended() else await original(*args, **kwargs)

        return hook

    def _wrap_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            run = _Run()
            try:
                if self._on:
                    return (yield from run.passing(self._function(run.generator(original), *args, **kwargs)))
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            yield from run.undelivered
            return run.result if run.has_ended() else (yield from run.body or original(*args, **kwargs))

        return hook

    def _wrap_async_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            run = _Run()
            try:
                if self._on:
                    given = self._function(run.async_generator(original), *args, **kwargs)
                    async with aclosing(await given if inspect.isawaitable(given) else given) as values:
                        async for value in values:
                            run.undelivered = ()
                            yield value
                    return
            except BaseException as error:  # noqa: BLE001
                self._check(run, error)
            for value in run.undelivered:
                yield value
            if not run.has_ended():
                async with aclosing(run.body or original(*args, **kwargs)) as values:
                    async for value in values:
                        yield value

        return hook

    @property
    def _on(self) -> bool:
        return self._failures < MAX_FAILURES

    def _check(self, run: _Run, error: BaseException) -> None:
        """Count a failure of the handler; what the original raised, and what ends the call, is raised again."""
        if error is run.error or not isinstance(error, Exception):
            raise error
        self._failures += 1
        if self._failures == 1:
            _logger.warning(
                "%s: the handler of %s raised %s: %s",
                self._where, self._target, type(error).__name__, error, exc_info=error,
            )  # fmt: skip
        elif self._failures == MAX_FAILURES:
            switched_off.append(self._target)
            _logger.warning(
                "%s: the handler of %s failed %d times: it is off now", self._where, self._target, MAX_FAILURES
            )


class _Run:
    """What became of the original in one call of the handler; makes the function that the handler gets as such."""

    def __init__(self) -> None:
        self.result: Any = _NOT_ENDED
        self.error: BaseException | None = None
        #: The generator that the original returned, and its last value until the handler's generator gives one too.
        self.body: Any = None
        self.undelivered: tuple[Any, ...] = ()

    def has_ended(self) -> bool:
        """Whether the original has returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.result is not _NOT_ENDED

    def sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            with self:
                self.result = original(*args, **kwargs)
            return self.result

        return function

    def asynchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def function(*args: Any, **kwargs: Any) -> Any:
            with self:
                self.result = await original(*args, **kwargs)
            return self.result

        return function

    def generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def body(values: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            with self, closing(values):
                while True:
                    try:
                        value = next(values)
                    except StopIteration as stop:
                        self.result = stop.value
                        return self.result
                    self.undelivered = (value,)
                    yield value

        return self._keeping(original, body)

    def async_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def body(values: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
            with self:
                async with aclosing(values):
                    async for value in values:
                        self.undelivered = (value,)
                        yield value
                self.result = None

        return self._keeping(original, body)

    def _keeping(self, original: Callable[..., Any], body: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            self.body = body(original(*args, **kwargs))
            return self.body

        return function

    def passing(self, values: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The values of the handler's generator; what it returns."""
        with closing(values):
            while True:
                try:
                    value = next(values)
                except StopIteration as stop:
                    return stop.value
                self.undelivered = ()
                yield value

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, GeneratorExit):  # closed by the handler: no word of the original's
            self.error = error
