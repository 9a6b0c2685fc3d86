"""A timer of a function that makes a context manager: around the ``with`` block, not around its making."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, cast

from ascend_opentelemetry.hooks._handler import Handler
from ascend_opentelemetry.hooks._wrap import Guard

#: Code of what the two decorators make of any function.
_HELPERS = {_make(lambda: None).__code__ for _make in cast("tuple[Any, ...]", (contextmanager, asynccontextmanager))}


def makes_manager(function: Callable[..., Any]) -> bool:
    """Whether a function is decorated with ``contextmanager`` or ``asynccontextmanager``."""
    codes: list[object] = []
    inspect.unwrap(function, stop=lambda one: codes.append(getattr(one, "__code__", None)))
    return not _HELPERS.isdisjoint(codes)


class ManagerTimer:
    """Tells a handler of the ``with`` blocks of what the function makes; its result is what is entered.

    Args:
        handler: of the blocks.
        target: ``module:qualname`` for messages.
        where: file and line of the symbol, for messages.
    """

    def __init__(self, handler: Handler, target: str, where: str) -> None:
        self._handler = handler
        self._guard = Guard(handler, target, where)

    def wrap(self, original: Callable[..., Any], /) -> Callable[..., Any]:
        handler, guard = self._handler, self._guard

        def hook(*args: Any, **kwargs: Any) -> Any:
            manager = original(*args, **kwargs)
            if guard.switch.on and isinstance(manager, (AbstractContextManager, AbstractAsyncContextManager)):
                return _Timed(manager, _Block(handler, guard, args, kwargs))
            return manager

        return hook


class _Block:
    """One ``with`` block."""

    def __init__(self, handler: Handler, guard: Guard, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._handler, self._guard, self._args, self._kwargs = handler, guard, args, kwargs
        self._state: Any = None
        self._open = False

    def begin(self) -> None:
        try:
            self._state = self._handler.enter(self._args, self._kwargs)
            self._open = True
        except Exception as failure:  # noqa: BLE001 - telemetry never raises into the program
            self._guard.failed(failure)

    def end(self, result: Any, error: BaseException | None) -> None:
        if self._open:
            self._open = False
            try:
                self._handler.exit(self._state, self._args, self._kwargs, result, error)
            except Exception as failure:  # noqa: BLE001
                self._guard.failed(failure)


class _Timed(AbstractContextManager[Any], AbstractAsyncContextManager[Any]):
    """The function's manager, of which a block is told.

    Args:
        manager: what the function made.
        block: is told when it is entered and left.
    """

    def __init__(self, manager: Any, block: _Block) -> None:
        self._manager = manager
        self._block = block
        self._value: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._manager(function)  # as a decorator it makes managers of its own

    def __enter__(self) -> Any:
        self._block.begin()
        try:
            self._value = self._manager.__enter__()
        except BaseException as error:
            self._block.end(None, error)
            raise
        return self._value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            suppresses = self._manager.__exit__(kind, error, traceback)
        except BaseException as raised:
            self._block.end(self._value, raised)
            raise
        self._block.end(self._value, None if suppresses else error)
        return suppresses

    async def __aenter__(self) -> Any:
        self._block.begin()
        try:
            self._value = await self._manager.__aenter__()
        except BaseException as error:
            self._block.end(None, error)
            raise
        return self._value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            suppresses = await self._manager.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._block.end(self._value, raised)
            raise
        self._block.end(self._value, None if suppresses else error)
        return suppresses
