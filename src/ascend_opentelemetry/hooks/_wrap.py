"""The hook itself: a closure around the original, one for each kind of function."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from ascend_opentelemetry.hooks._control import Control, Put, Restrictable, keep_control
from ascend_opentelemetry.hooks._handler import Handler, Switch, Wrapper
from ascend_opentelemetry.recorder import RecordSpan, detach, make_current

_logger = logging.getLogger(__name__)

#: A handler that raised this often is switched off.
MAX_FAILURES = 5


#: Targets whose handlers were switched off, as ``module:qualname``.
switched_off: list[str] = []


class _Off:
    on = False


class Guard:
    """Keeps the failures of one handler from the program: warns once, switches it off after five."""

    def __init__(self, handler: Handler, target: str, where: str) -> None:
        self.switch: Switch = handler.switch
        self.failures = 0
        self._target = target
        self._where = where

    def failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            _logger.warning(
                "the handler of %s (%s) raised %s: %s; this call is not recorded",
                self._target, self._where, type(error).__name__, error, exc_info=error,
            )  # fmt: skip
        elif self.failures == MAX_FAILURES:
            self.switch = _Off()
            switched_off.append(self._target)
            _logger.warning("the handler of %s (%s) failed %d times: it is off now", self._target, self._where, 5)


def is_generator_kind(function: Callable[..., Any]) -> bool:
    """Whether a call of ``function`` gives a generator or an async generator."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def wrap(original: Callable[..., Any], handler: Handler | Wrapper, target: str, where: str) -> Callable[..., Any]:
    """Build the hook around ``original``.

    Args:
        original: the function as its owner holds it (unbound).
        handler: what to do before and after; a ``Wrapper`` builds the hook itself.
        target: ``module:qualname`` for messages.
        where: file and line of the symbol, for messages.

    Returns:
        A function of the same kind (sync, async, generator, async generator) and signature.
    """
    if isinstance(handler, Wrapper):
        hook = handler.wrap(original)
        if isinstance(handler, Restrictable):
            keep_control(hook, handler)
        return functools.wraps(original)(hook)
    guard = Guard(handler, target, where)
    if inspect.isasyncgenfunction(original):
        build = _async_generator
    elif inspect.isgeneratorfunction(original):
        build = _generator
    elif inspect.iscoroutinefunction(original):
        build = _async
    else:
        build = _sync
    hook, put = build(original, handler, guard)
    keep_control(hook, Control(original, handler, put))
    return functools.wraps(original)(hook)


def _sync(original: Callable[..., Any], handler: Handler, guard: Guard) -> tuple[Callable[..., Any], Put]:
    enter, leave = handler.enter, handler.exit

    def put(new_original: Callable[..., Any], new_handler: Handler) -> None:
        nonlocal original, enter, leave
        # a call may enter between the two: the new exit knows what the old enter gave, and not the other way round
        original, leave = new_original, new_handler.exit
        enter = new_handler.enter

    def hook(*args: Any, **kwargs: Any) -> Any:
        if not guard.switch.on:
            return original(*args, **kwargs)
        try:
            state = enter(args, kwargs)
        except Exception as failure:  # noqa: BLE001 - telemetry never raises into the program
            guard.failed(failure)
            return original(*args, **kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            try:
                leave(state, args, kwargs, None, error)
            except Exception as failure:  # noqa: BLE001
                guard.failed(failure)
            raise
        try:
            leave(state, args, kwargs, result, None)
        except Exception as failure:  # noqa: BLE001
            guard.failed(failure)
        return result

    return hook, put


def _async(original: Callable[..., Any], handler: Handler, guard: Guard) -> tuple[Callable[..., Any], Put]:
    enter, leave = handler.enter, handler.exit

    def put(new_original: Callable[..., Any], new_handler: Handler) -> None:
        nonlocal original, enter, leave
        original, leave = new_original, new_handler.exit
        enter = new_handler.enter

    async def hook(*args: Any, **kwargs: Any) -> Any:
        if not guard.switch.on:
            return await original(*args, **kwargs)
        try:
            state = enter(args, kwargs)
        except Exception as failure:  # noqa: BLE001
            guard.failed(failure)
            return await original(*args, **kwargs)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            try:
                leave(state, args, kwargs, None, error)
            except Exception as failure:  # noqa: BLE001
                guard.failed(failure)
            raise
        try:
            leave(state, args, kwargs, result, None)
        except Exception as failure:  # noqa: BLE001
            guard.failed(failure)
        return result

    return hook, put


class _Call:
    """Beginning and end of one generator call, and the span that is current while its body runs."""

    __slots__ = ("_args", "_guard", "_handler", "_kwargs", "_recorded", "_state")

    def __init__(self, handler: Handler, guard: Guard, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._handler, self._guard, self._args, self._kwargs = handler, guard, args, kwargs
        self._state: Any = None
        self._recorded = guard.switch.on
        if self._recorded:
            try:
                self._state = handler.enter(args, kwargs)
            except Exception as failure:  # noqa: BLE001
                guard.failed(failure)
                self._recorded = False

    def __enter__(self) -> None:
        if isinstance(self._state, RecordSpan):
            self._state.token = make_current(self._state)

    def __exit__(self, *exc: object) -> None:
        if isinstance(self._state, RecordSpan):
            try:
                detach(self._state.token)
            except ValueError:  # an abandoned task, closed from elsewhere: its context is gone with it
                pass

    def end(self, result: Any, error: BaseException | None) -> None:
        if self._recorded:
            try:
                self._handler.exit(self._state, self._args, self._kwargs, result, error)
            except Exception as failure:  # noqa: BLE001
                self._guard.failed(failure)


def _generator(original: Callable[..., Any], handler: Handler, guard: Guard) -> tuple[Callable[..., Any], Put]:
    def put(new_original: Callable[..., Any], new_handler: Handler) -> None:
        nonlocal original, handler
        original, handler = new_original, new_handler

    def hook(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        body = original(*args, **kwargs)
        call = _Call(handler, guard, args, kwargs)
        result = sent = thrown = error = None
        try:
            while True:
                try:
                    with call:
                        value = body.send(sent) if thrown is None else body.throw(thrown)
                except StopIteration as stop:
                    result = stop.value
                    return result
                sent = thrown = None
                try:
                    sent = yield value
                except BaseException as given:  # noqa: BLE001 - goes into the body, as without the hook
                    thrown = given
        except BaseException as raised:
            error = raised
            raise
        finally:
            call.end(result, error)
            thrown = error = None  # an exception and the frame that it left would keep each other alive

    return hook, put


def _async_generator(original: Callable[..., Any], handler: Handler, guard: Guard) -> tuple[Callable[..., Any], Put]:
    def put(new_original: Callable[..., Any], new_handler: Handler) -> None:
        nonlocal original, handler
        original, handler = new_original, new_handler

    async def hook(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body = original(*args, **kwargs)
        call = _Call(handler, guard, args, kwargs)
        sent = thrown = error = None
        try:
            while True:
                try:
                    with call:
                        value = await (body.asend(sent) if thrown is None else body.athrow(thrown))
                except StopAsyncIteration:
                    return
                sent = thrown = None
                try:
                    sent = yield value
                except BaseException as given:  # noqa: BLE001
                    thrown = given
        except BaseException as raised:
            error = raised
            raise
        finally:
            call.end(None, error)
            thrown = error = None

    return hook, put
