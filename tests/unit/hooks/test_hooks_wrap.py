from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from ascend_opentelemetry.hooks import switched_off, wrap


def sync(first: int, *rest: int, key: str = "k") -> tuple[Any, ...]:
    """Sync."""
    if first < 0:
        raise ValueError(first)
    return first, rest, key


async def coroutine(first: int, *rest: int, key: str = "k") -> tuple[Any, ...]:
    """Coroutine."""
    await asyncio.sleep(0)
    return sync(first, *rest, key=key)


def generator(first: int, *rest: int, key: str = "k") -> Generator[Any, Any, Any]:
    """Generator."""
    yield 1
    return sync(first, *rest, key=key)


async def async_generator(first: int, *rest: int, key: str = "k") -> AsyncGenerator[Any, Any]:
    """Async generator."""
    await asyncio.sleep(0)
    yield sync(first, *rest, key=key)


def drive(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of any kind to its end; what it returns, or the last it yields."""
    made = function(*args, **kwargs)
    if inspect.isgenerator(made):
        try:
            while True:
                next(made)
        except StopIteration as stop:
            return stop.value
    if inspect.isasyncgen(made):

        async def exhaust() -> Any:
            return [value async for value in made][-1]

        return asyncio.run(exhaust())
    return asyncio.run(made) if inspect.iscoroutine(made) else made


KINDS = pytest.mark.parametrize("function", [sync, coroutine, generator, async_generator])
PREDICATES = (
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    asyncio.iscoroutinefunction,
)


def hooked(function: Callable[..., Any], handler: Any) -> Callable[..., Any]:
    return wrap(function, handler, f"tests:{function.__name__}", "symbols.yaml:3")


@KINDS
def test_a_hook_looks_like_its_function(function, handler) -> None:
    hook = hooked(function, handler)
    assert [predicate(hook) for predicate in PREDICATES] == [predicate(function) for predicate in PREDICATES]
    assert inspect.signature(hook) == inspect.signature(function)
    assert (hook.__name__, hook.__qualname__, hook.__module__, hook.__doc__) == (
        function.__name__,
        function.__qualname__,
        function.__module__,
        function.__doc__,
    )
    assert hook.__wrapped__ is function
    assert hook.__annotations__ == function.__annotations__


@KINDS
def test_a_call_passes_arguments_and_results(function, handler) -> None:
    hook = hooked(function, handler)
    expected = (5, (6, 7), "x")
    assert drive(hook, 5, 6, 7, key="x") == expected
    assert handler.entered == [((5, 6, 7), {"key": "x"})]
    result = None if function is async_generator else expected
    assert handler.ended == [(1, (5, 6, 7), {"key": "x"}, result, "NoneType")]


@KINDS
def test_exceptions_pass_and_are_told(function, handler) -> None:
    hook = hooked(function, handler)
    with pytest.raises(ValueError, match="-1") as caught:
        drive(hook, -1)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert handler.ended == [(1, (-1,), {}, None, "ValueError")]


@KINDS
def test_wrong_arguments_raise_as_without_the_hook(function, handler) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        drive(hooked(function, handler))


@KINDS
def test_a_switch_that_is_off_leaves_the_handler_out(function, handler) -> None:
    hook = hooked(function, handler)
    handler.switch.on = False
    assert drive(hook, 5) == (5, (), "k")
    assert (handler.entered, handler.ended) == ([], [])


@KINDS
@pytest.mark.parametrize("method", ["enter", "exit"])
@pytest.mark.parametrize("first", [1, -1])
def test_a_handler_that_fails_five_times_is_off(function, handler, method, first, caplog) -> None:
    handler.raises = {method}
    calls = []

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return function(*args, **kwargs)

    hook = hooked(function, handler)
    with caplog.at_level(logging.WARNING):
        for _ in range(7):
            if first < 0:
                with pytest.raises(ValueError, match="-1"):
                    drive(hook, first)
            else:
                assert drive(hook, first) == (first, (), "k")
    assert len(handler.entered) == 5
    assert len(handler.ended) == (5 if method == "exit" else 0)
    target = f"tests:{function.__name__} (symbols.yaml:3)"
    assert [record.getMessage() for record in caplog.records] == [
        f"the handler of {target} raised RuntimeError: {method} is broken; this call is not recorded",
        f"the handler of {target} failed 5 times: it is off now",
    ]
    assert switched_off[-1] == f"tests:{function.__name__}"


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_passes_too(handler, signal) -> None:
    def function() -> None:
        raise signal

    with pytest.raises(signal):
        hooked(function, handler)()
    assert handler.ended[0][4] == signal.__name__


def test_a_cancelled_task_is_told_and_stays_cancelled(handler) -> None:
    async def forever() -> None:
        await asyncio.sleep(60)

    async def main() -> bool:
        task = asyncio.create_task(hooked(forever, handler)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(main()) is True
    assert [end[4] for end in handler.ended] == ["CancelledError"]


def test_a_coroutine_that_never_runs_is_not_told(handler) -> None:
    hooked(coroutine, handler)(1).close()
    assert (handler.entered, handler.ended) == ([], [])


def test_recursion(handler) -> None:
    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + hook(depth - 1)

    hook = hooked(down, handler)
    assert hook(3) == 3
    assert [end[0] for end in handler.ended] == [4, 3, 2, 1]


def test_a_wrapper_makes_the_hook_itself() -> None:
    class Doubling:
        def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: original(*args, **kwargs) * 2

    hook = hooked(sync, Doubling())
    assert hook(1) == (1, (), "k", 1, (), "k")
    assert (hook.__name__, hook.__wrapped__) == ("sync", sync)
