"""The original of a handler: it runs once in each call, however often the handler calls it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, aclosing, closing
from types import TracebackType
from typing import Any

_NOT_ENDED: Any = object()


class Run:
    """What became of the original in one call; makes the function that the handler gets as such.

    Further calls of that function give what the first one gave.

    Args:
        args: the program's.
        kwargs: the program's.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._args = args
        self._kwargs = kwargs
        self.started = False
        self.result: Any = _NOT_ENDED
        self.error: BaseException | None = None
        #: The generator that the original returned, and its values since the handler's generator has given one.
        self.body: Any = None
        self.undelivered: list[Any] = []
        self._ended: asyncio.Event | None = None

    @property
    def was_cancelled(self) -> bool:
        """Whether the original's coroutine was cancelled, by the caller or by the handler."""
        return isinstance(self.error, asyncio.CancelledError)

    def outcome(self) -> Any:
        """What the original returned; raises what it raised.

        Raises:
            RuntimeError: it has not ended.
        """
        if self.error is not None:
            raise self.error
        if self.result is _NOT_ENDED:
            raise RuntimeError("the original runs already and has not ended")
        return self.result

    def returned(self) -> Any:
        """What the original's generator returned, None if it was left early; raises what it raised."""
        if self.error is not None:
            raise self.error
        return None if self.result is _NOT_ENDED else self.result

    def sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        running = threading.RLock()  # the handler may have called it in another thread, which is waited for

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            with running:
                if not self.started:
                    try:
                        with self:
                            self.result = original(*args, **kwargs)
                    except TypeError as error:
                        self._unless_refused(error, original, args, kwargs)
                        raise
                return self.outcome()

        return function

    def asynchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def function(*args: Any, **kwargs: Any) -> Any:
            if not self.started:
                self._ended = asyncio.Event()
                try:
                    with self:
                        self.result = await original(*args, **kwargs)
                except TypeError as error:
                    self._unless_refused(error, original, args, kwargs)
                    raise
            elif self._ended is not None:  # the handler may have made a task of it
                await self._ended.wait()
            return self.outcome()

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
                    self.undelivered.append(value)
                    yield value

        return self._keeping(original, body)

    def async_generator(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def body(values: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
            with self:
                async with aclosing(values):
                    async for value in values:
                        self.undelivered.append(value)
                        yield value
                self.result = None

        return self._keeping(original, body)

    def manager(self, original: Callable[..., Any]) -> Callable[..., OriginalManager]:
        """For an original that returns a context manager."""

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> OriginalManager:
            if not self.started:
                try:
                    with self:
                        self.result = OriginalManager(self, original(*args, **kwargs))
                except TypeError as error:
                    self._unless_refused(error, original, args, kwargs)
                    raise
            return self.outcome()

        return function

    def _keeping(self, original: Callable[..., Any], body: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if self.body is None:
                self.body = body(original(*args, **kwargs))
            return self.body

        return function

    def passing(self, given: Any) -> Generator[Any, Any, Any]:
        """The values of what the handler returned; what its generator returns.

        Raises:
            TypeError: it is nothing that can be iterated.
        """
        if not isinstance(given, Iterable):
            raise TypeError(f"it returned {type(given).__name__}, not a generator")
        values = iter(given)
        try:
            while True:
                try:
                    value = next(values)
                except StopIteration as stop:
                    return stop.value
                self._deliver()
                yield value
        finally:
            if hasattr(values, "close"):
                values.close()  # pyright: ignore[reportAttributeAccessIssue] - only generators have it

    async def async_passing(self, given: Any) -> AsyncGenerator[Any, Any]:
        """The same for an async generator."""
        if not isinstance(given, AsyncIterable):
            raise TypeError(f"it returned {type(given).__name__}, not an async generator")
        values = aiter(given)
        try:
            async for value in values:
                self._deliver()
                yield value
        finally:
            if hasattr(values, "aclose"):
                await values.aclose()  # pyright: ignore[reportAttributeAccessIssue]

    def _deliver(self) -> None:
        """The handler's generator gives a value.

        Raises:
            RuntimeError: it has not called the original: it only stands around the call, or replaces it.
        """
        if self.body is None:
            raise RuntimeError(
                "it yields before it has called the original: around a generator it is a @contextmanager"
            )
        self.undelivered.clear()

    def _unless_refused(
        self, error: TypeError, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Take an error back that is the handler's: the original does not take what it was called with."""
        if error is self.error and not self._is_programs(args, kwargs) and not _takes(original, args, kwargs):
            self.started, self.error = False, None

    def _is_programs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the handler hands on what it got."""
        return (
            len(args) == len(self._args)
            and kwargs.keys() == self._kwargs.keys()
            and all(one is other for one, other in zip(args, self._args, strict=True))
            and all(value is self._kwargs[name] for name, value in kwargs.items())
        )

    def __enter__(self) -> None:
        self.started = True

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, GeneratorExit):  # closed by the handler: no word of the original's
            self.error = error
        if self._ended is not None:
            self._ended.set()


def _takes(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without one
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


class OriginalManager(AbstractContextManager[Any]):
    """The original's context manager, as the handler gets it.

    Args:
        run: gets what the manager raises.
        manager: what the original returned.
    """

    def __init__(self, run: Run, manager: Any) -> None:
        self._run = run
        self.manager = manager
        self.entered = self.exited = False
        self.value: Any = None
        self.suppresses: bool | None = None
        #: The program has been inside its ``with`` block; before, an exception is the handler's own.
        self.in_block = False

    def __enter__(self) -> Any:
        with self._run:
            self.value = self.manager.__enter__()
        self.entered = True
        return self.value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if error is not None and not self.in_block:
            return None  # stays open for the program
        self.exited = True
        with self._run:
            self.suppresses = self.manager.__exit__(kind, error, traceback)
        return self.suppresses
