"""Handlers that are context managers: around a call, or in place of the context manager that a function returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

from ascend_opentelemetry.hooks._run import OriginalManager, Run

#: Counts a failure of the handler; raises what is the original's or ends the call.
Check = Callable[[Run, BaseException], None]


def gives_manager(function: Callable[..., Any]) -> bool:
    """Whether a function is decorated with ``contextmanager``, or says that it returns a context manager."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return False
    if inspect.isgeneratorfunction(inspect.unwrap(function)):
        return True
    returned = getattr(function, "__annotations__", {}).get("return")
    if isinstance(returned, type):
        return hasattr(returned, "__enter__")
    return "ContextManager" in str(returned) and "AsyncContextManager" not in str(returned)


class Around:
    """Enters the handler's manager for a call of the original, whose outcome stays as it is.

    Args:
        run: of the call.
        manager: what the handler returned.
        check: for what the manager raises.
    """

    def __init__(
        self, run: Run, manager: AbstractContextManager[Any] | AbstractAsyncContextManager[Any], check: Check
    ) -> None:
        self._run = run
        self._manager: Any = manager
        self._check = check
        self._is_async = not isinstance(manager, AbstractContextManager)
        #: The handler's manager is entered.
        self.entered = False

    def __enter__(self) -> Any:
        try:
            value = self._manager.__enter__()
            self.entered = True
            return value
        except BaseException as failure:  # noqa: BLE001 - raised again by the check where it is not the handler's
            self._check(self._run, failure)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.entered:
            try:
                self._manager.__exit__(kind, error, traceback)
            except BaseException as failure:  # noqa: BLE001
                self._left(error, failure)

    async def __aenter__(self) -> None:
        if not self._is_async:
            self.__enter__()
            return
        try:
            await self._manager.__aenter__()
            self.entered = True
        except BaseException as failure:  # noqa: BLE001
            self._check(self._run, failure)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_async:
            self.__exit__(kind, error, traceback)
        elif self.entered:
            try:
                await self._manager.__aexit__(kind, error, traceback)
            except BaseException as failure:  # noqa: BLE001
                self._left(error, failure)

    def _left(self, error: BaseException | None, failure: BaseException) -> None:
        if failure is not error:
            self._check(self._run, failure)


class InPlace(AbstractContextManager[Any]):
    """The handler's manager in place of the original's, which is entered once in any case.

    A handler's manager that does not enter the original's stands around it.

    Args:
        run: of the call.
        manager: what the handler returned.
        original: gives the original's manager; makes it at the first call.
        check: for what the handler's manager raises.
    """

    def __init__(
        self, run: Run, manager: AbstractContextManager[Any], original: Callable[[], OriginalManager], check: Check
    ) -> None:
        self._run = run
        self._manager = manager
        self._original = original
        self._check = check
        self._guard = Around(run, manager, check)
        self._stack: ExitStack | None = None

    def __enter__(self) -> Any:
        value = self._guard.__enter__()
        own = self._original()
        if not own.entered:
            with ExitStack() as stack:
                stack.push(self._guard)
                value = stack.enter_context(own)
                self._stack = stack.pop_all()
        elif not self._guard.entered:
            value = own.value
        own.in_block = True
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._stack is not None:
            return self._stack.__exit__(kind, error, traceback)
        own = self._original()
        answer = own.suppresses
        if self._guard.entered:
            try:
                answer = self._manager.__exit__(kind, error, traceback)
            except BaseException as failure:
                if failure is self._run.error:
                    raise
                if failure is not error:
                    self._check(self._run, failure)
                answer = own.suppresses
        return answer if own.exited else own.__exit__(kind, error, traceback)
