"""Handlers of the user's own, as the guide describes them in 2.5."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Custom, switched_off, wrap


class Original:
    """Functions of each kind that count how often they run."""

    def __init__(self) -> None:
        self.runs = 0

    def sync(self, x: int, *, key: str = "k") -> Any:
        self.runs += 1
        if x < 0:
            raise LookupError(x)
        return x, key

    async def coroutine(self, x: int, *, key: str = "k") -> Any:
        await asyncio.sleep(0)
        return self.sync(x, key=key)

    def generator(self, x: int, *, key: str = "k") -> Any:
        self.runs += 1
        yield 1
        yield 2
        if x < 0:
            raise LookupError(x)
        yield 3
        return x, key

    async def async_generator(self, x: int, *, key: str = "k") -> Any:
        self.runs += 1
        yield 1
        await asyncio.sleep(0)
        yield 2
        if x < 0:
            raise LookupError(x)
        yield 3


KINDS = pytest.mark.parametrize("kind", ["sync", "coroutine", "generator", "async_generator"])
CALLS = pytest.mark.parametrize("kind", ["sync", "coroutine"])
GENERATORS = pytest.mark.parametrize("kind", ["generator", "async_generator"])


def hook(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    custom = Custom(function, f"tests:Original.{kind}", "symbols.yaml:3")
    return wrap(vars(Original)[kind], custom, f"tests:Original.{kind}", "symbols.yaml:3")


def drive(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
    """The result and what was yielded."""
    yielded: list[Any] = []
    made = function(*args, **kwargs)
    if inspect.isgenerator(made):

        def relay() -> Any:
            returned.append((yield from made))

        returned: list[Any] = []
        yielded += relay()
        return returned[0], yielded
    if inspect.isasyncgen(made):

        async def exhaust() -> list[Any]:
            return [value async for value in made]

        return None, asyncio.run(exhaust())
    return asyncio.run(made) if inspect.iscoroutine(made) else made, yielded


def plain(kind: str, x: int) -> tuple[Any, list[Any]]:
    return drive(vars(Original)[kind], Original(), x)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("ascend_opentelemetry")]


@KINDS
def test_the_hook_is_of_the_kind_of_the_function(kind) -> None:
    function = vars(Original)[kind]
    made = hook(kind, lambda original, *args, **kwargs: original(*args, **kwargs))
    for predicate in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert predicate(made) is predicate(function)
    assert inspect.signature(made) == inspect.signature(function)


@KINDS
def test_a_handler_gets_the_original_this_and_the_arguments(kind) -> None:
    seen = []

    def handler(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((original_func.__name__, original_func.__qualname__, this, args, kwargs))
        assert inspect.iscoroutinefunction(original_func) is (kind == "coroutine")
        return original_func(this, *args, **kwargs)

    this = Original()
    assert drive(hook(kind, handler), this, 5, key="x") == drive(vars(Original)[kind], Original(), 5, key="x")
    assert seen == [(kind, f"Original.{kind}", this, (5,), {"key": "x"})]
    assert this.runs == 1


@CALLS
def test_a_handler_may_change_arguments_and_result(kind) -> None:
    def handler(original: Any, this: Any, x: int, key: str = "") -> Any:
        if kind == "coroutine":

            async def changed() -> Any:
                return "changed", await original(this, x + 1, key="y")

            return changed()
        return "changed", original(this, x + 1, key="y")

    assert drive(hook(kind, handler), Original(), 5)[0] == ("changed", (6, "y"))


@GENERATORS
def test_a_handler_may_change_what_is_yielded(kind) -> None:
    def sync_handler(original: Any, this: Any, x: int) -> Any:
        for value in original(this, x):
            yield value * 10

    async def async_handler(original: Any, this: Any, x: int) -> Any:
        async for value in original(this, x):
            yield value * 10

    handler = sync_handler if kind == "generator" else async_handler
    assert drive(hook(kind, handler), Original(), 5)[1] == [10, 20, 30]


def test_an_async_handler_of_a_coroutine_function() -> None:
    async def handler(original: Any, this: Any, x: int) -> Any:
        return "handled", await original(this, x)

    assert drive(hook("coroutine", handler), Original(), 5)[0] == ("handled", (5, "k"))


@KINDS
def test_exceptions_of_the_original_pass(kind, caplog) -> None:
    this = Original()
    made = hook(kind, lambda original, *args: original(*args))
    with pytest.raises(LookupError, match="-1") as caught:
        drive(made, this, -1)
    assert caught.value.__context__ is None
    assert this.runs == 1
    assert messages(caplog) == []


def handlers_that_fail(kind: str) -> dict[str, Callable[..., Any]]:
    """By when they fail; all of them raise a RuntimeError that is their own."""

    def before(original: Any, *args: Any) -> Any:
        raise RuntimeError("handler")

    def sync_after(original: Any, *args: Any) -> Any:
        original(*args)
        raise RuntimeError("handler")

    async def coroutine_after(original: Any, *args: Any) -> Any:
        await original(*args)
        raise RuntimeError("handler")

    def generator_after(original: Any, *args: Any) -> Any:
        yield from original(*args)
        raise RuntimeError("handler")

    async def async_generator_after(original: Any, *args: Any) -> Any:
        async for value in original(*args):
            yield value
        raise RuntimeError("handler")

    def sync_about(original: Any, *args: Any) -> Any:
        try:
            return original(*args)
        except LookupError as error:
            raise RuntimeError("handler") from error

    async def coroutine_about(original: Any, *args: Any) -> Any:
        try:
            return await original(*args)
        except LookupError as error:
            raise RuntimeError("handler") from error

    def generator_midway(original: Any, *args: Any) -> Any:
        for value in original(*args):
            if value == 2:
                raise RuntimeError("handler")
            yield value

    async def async_generator_midway(original: Any, *args: Any) -> Any:
        async for value in original(*args):
            if value == 2:
                raise RuntimeError("handler")
            yield value

    found = {name: function for name, function in locals().items() if name.startswith(f"{kind}_")}
    return {"before": before, **found}


@KINDS
def test_a_handler_that_fails_is_as_if_it_were_not_there(kind, caplog) -> None:
    for name, handler in handlers_that_fail(kind).items():
        caplog.clear()
        this = Original()
        assert drive(hook(kind, handler), this, 5) == plain(kind, 5), name
        assert this.runs == 1, name
        if not name.endswith("about"):
            assert messages(caplog) == [
                f"symbols.yaml:3: the handler of tests:Original.{kind} raised RuntimeError: handler"
            ]


@KINDS
def test_when_both_fail_the_caller_gets_the_exception_of_the_original(kind, caplog) -> None:
    for name, handler in handlers_that_fail(kind).items():
        this = Original()
        with pytest.raises(LookupError, match="-1"):
            drive(hook(kind, handler), this, -1)
        assert this.runs == 1, name


@KINDS
def test_after_five_failures_the_handler_is_left_out(kind, caplog) -> None:
    calls = []

    def handler(original: Any, *args: Any) -> Any:
        calls.append(args)
        raise RuntimeError("handler")

    made, this = hook(kind, handler), Original()
    for _ in range(7):
        assert drive(made, this, 5) == plain(kind, 5)
    assert (len(calls), this.runs) == (5, 7)
    assert messages(caplog) == [
        f"symbols.yaml:3: the handler of tests:Original.{kind} raised RuntimeError: handler",
        f"symbols.yaml:3: the handler of tests:Original.{kind} failed 5 times: it is off now",
    ]
    assert switched_off[-1] == f"tests:Original.{kind}"


@CALLS
def test_a_handler_that_handles_an_exception_decides(kind) -> None:
    def sync_handler(original: Any, *args: Any) -> Any:
        try:
            return original(*args)
        except LookupError:
            return "handled"

    async def async_handler(original: Any, *args: Any) -> Any:
        try:
            return await original(*args)
        except LookupError:
            return "handled"

    handler = sync_handler if kind == "sync" else async_handler
    assert drive(hook(kind, handler), Original(), -1)[0] == "handled"


@CALLS
@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_passes_a_handler(kind, signal) -> None:
    def handler(original: Any, *args: Any) -> Any:
        raise signal

    with pytest.raises(signal):
        drive(hook(kind, handler), Original(), 5)


@GENERATORS
def test_closing_early_reaches_the_original(kind, caplog) -> None:
    closed = []

    def sync_body() -> Any:
        try:
            yield 1
        finally:
            closed.append(True)

    async def async_body() -> Any:
        try:
            yield 1
        finally:
            closed.append(True)

    body = sync_body if kind == "generator" else async_body
    made = wrap(body, Custom(lambda original: original(), "tests:body", "symbols.yaml:3"), "tests:body", "x")()
    if kind == "generator":
        assert next(made) == 1
        made.close()
    else:

        async def close() -> None:
            assert await made.__anext__() == 1
            await made.aclose()
            assert closed == [True]

        asyncio.run(close())
    assert closed == [True]
    assert messages(caplog) == []


@GENERATORS
def test_a_handler_that_closes_the_original_and_fails_ends_the_iteration(kind, caplog) -> None:
    def sync_handler(original: Any, *args: Any) -> Any:
        made = original(*args)
        yield next(made)
        made.close()
        raise RuntimeError("handler")

    async def async_handler(original: Any, *args: Any) -> Any:
        made = original(*args)
        yield await made.__anext__()
        await made.aclose()
        raise RuntimeError("handler")

    this = Original()
    handler = sync_handler if kind == "generator" else async_handler
    assert drive(hook(kind, handler), this, 5)[1] == [1]
    assert this.runs == 1
    assert len(messages(caplog)) == 1


def test_a_handler_that_returns_no_generator_is_left_out(caplog) -> None:
    this = Original()
    assert drive(hook("generator", lambda *args: None), this, 5) == plain("generator", 5)
    assert drive(hook("async_generator", lambda *args: None), this, 5) == plain("async_generator", 5)
    assert this.runs == 2
    assert caplog.records[0].levelno == logging.WARNING
