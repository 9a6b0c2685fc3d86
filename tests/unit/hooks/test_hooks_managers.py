"""Handlers that are context managers or generator functions, and functions that return a context manager."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Custom, wrap
from ascend_opentelemetry.hooks._managers import gives_manager


class Log(list[str]):
    """What happened, in order."""


@pytest.fixture
def log() -> Log:
    return Log()


def hooked(function: Callable[..., Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    return wrap(function, Custom(handler, "tests:f", "symbols.yaml:3"), "tests:f", "symbols.yaml:3")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("ascend_opentelemetry")]


def around(log: Log, form: str, fails: str = "") -> Callable[..., Any]:
    """A handler that stands around the call and does not call the original itself."""

    def body(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        if fails == "before":
            raise RuntimeError("handler")
        log.append(f"enter {this}")
        try:
            yield
        except LookupError:
            log.append("error")
            if fails == "swallow":
                return
            raise
        finally:
            log.append("leave")
        if fails == "after":
            raise RuntimeError("handler")

    class Manager:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._manager = contextmanager(body)(*args, **kwargs)

        def __enter__(self) -> None:
            self._manager.__enter__()

        def __exit__(self, *error: Any) -> Any:
            return self._manager.__exit__(*error)

    async def async_body(*args: Any, **kwargs: Any) -> Any:
        with contextmanager(body)(*args, **kwargs):
            yield

    forms: dict[str, Callable[..., Any]] = {
        "generator": body,
        "contextmanager": contextmanager(body),
        "class": Manager,
        "async generator": async_body,
        "asynccontextmanager": asynccontextmanager(async_body),
    }
    return forms[form]


FORMS = ["generator", "contextmanager", "class"]
CASES = [(form, kind) for kind in ("sync", "coroutine") for form in FORMS]
CASES += [(form, "coroutine") for form in ("async generator", "asynccontextmanager")]
CASES += [(form, "generator") for form in FORMS[1:]]
CASES += [(form, "async generator") for form in (*FORMS, "asynccontextmanager")]


def functions(log: Log) -> dict[str, Callable[..., Any]]:
    def sync(this: str, x: int) -> int:
        log.append("run")
        if x < 0:
            raise LookupError(x)
        return x

    async def coroutine(this: str, x: int) -> int:
        await asyncio.sleep(0)
        return sync(this, x)

    def generator(this: str, x: int) -> Iterator[int]:
        yield sync(this, x)

    async def async_generator(this: str, x: int) -> AsyncIterator[int]:
        yield await coroutine(this, x)

    return {"sync": sync, "coroutine": coroutine, "generator": generator, "async generator": async_generator}


def call(kind: str, made: Callable[..., Any], x: int) -> Any:
    async def only(values: AsyncIterator[int]) -> int:
        (value,) = [value async for value in values]
        return value

    if kind == "generator":
        (value,) = made("me", x)
        return value
    if kind == "async generator":
        return asyncio.run(only(made("me", x)))
    return asyncio.run(made("me", x)) if kind == "coroutine" else made("me", x)


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_a_manager_stands_around_the_call(form, kind, log, caplog) -> None:
    made = hooked(functions(log)[kind], around(log, form))
    assert call(kind, made, 5) == 5
    assert log == ["enter me", "run", "leave"]
    assert messages(caplog) == []


@pytest.mark.parametrize(("form", "kind"), CASES)
@pytest.mark.parametrize("fails", ["", "swallow"])
def test_the_exception_of_the_call_goes_through_the_manager_to_the_caller(form, kind, fails, log, caplog) -> None:
    made = hooked(functions(log)[kind], around(log, form, fails))
    with pytest.raises(LookupError, match="-1"):
        call(kind, made, -1)
    assert log == ["enter me", "run", "error", "leave"]
    assert messages(caplog) == []


@pytest.mark.parametrize(("form", "kind"), CASES)
@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_manager_that_fails_is_as_if_it_were_not_there(form, kind, fails, log, caplog) -> None:
    made = hooked(functions(log)[kind], around(log, form, fails))
    assert [call(kind, made, 5) for _ in range(6)] == [5] * 6
    assert log.count("run") == 6
    assert log.count("enter me") == (0 if fails == "before" else 5)
    assert messages(caplog) == [
        "symbols.yaml:3: the handler of tests:f raised RuntimeError: handler",
        "symbols.yaml:3: the handler of tests:f failed 5 times: it is off now",
    ]


def test_a_manager_around_a_generator_stands_until_it_ends(log) -> None:
    def function(this: str) -> Iterator[int]:
        yield from (1, 2)

    made = hooked(function, around(log, "class"))
    values = made("me")
    assert (next(values), log) == (1, ["enter me"])
    assert list(values) == [2]
    assert log == ["enter me", "leave"]


def test_a_manager_around_an_async_generator_is_left_when_the_caller_closes_it(log, caplog) -> None:
    async def function(this: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    async def take_one() -> int:
        values = hooked(function, around(log, "contextmanager"))("me")
        value = await anext(values)
        await values.aclose()
        return value

    assert asyncio.run(take_one()) == 1
    assert log == ["enter me", "closed", "leave"]
    assert messages(caplog) == []


def test_a_generator_handler_that_stands_around_a_generator_function_is_told_how_to(log, caplog) -> None:
    made = hooked(functions(log)["generator"], around(log, "generator"))
    assert call("generator", made, 5) == 5
    assert log.count("run") == 1
    (message,) = messages(caplog)
    assert message == (
        "symbols.yaml:3: the handler of tests:f raised RuntimeError: it yields before it has called the original:"
        " around a generator it is a @contextmanager"
    )


def manager_function(log: Log, *, fails: str = "", suppresses: bool = False) -> Callable[..., Any]:
    @contextmanager
    def function(tag: str) -> Iterator[str]:
        log.append(f"open {tag}")
        if fails == "open":
            raise LookupError("open")
        try:
            yield tag
        except ValueError:
            log.append("error")
            if not suppresses:
                raise
        finally:
            log.append("close")
        if fails == "close":
            raise LookupError("close")

    return function


def inside(log: Log, fails: str = "", form: Callable[..., Any] = contextmanager) -> Callable[..., Any]:
    """A handler that enters the original's manager itself, as the ones of ms_service_profiler do."""

    def handler(original: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if fails == "before":
            raise RuntimeError("handler")
        with original(*args, **kwargs) as value:
            if fails == "opened":
                raise RuntimeError("handler")
            log.append("enter")
            yield value
        log.append("leave")
        if fails == "after":
            raise RuntimeError("handler")

    return form(handler)


def beside(log: Log) -> Callable[..., Any]:
    @contextmanager
    def handler(original: Any, *args: Any) -> Iterator[None]:
        log.append("enter")
        yield
        log.append("leave")

    return handler


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (inside, ["open t", "enter", "block", "close", "leave"]),
        (lambda log: inside(log, form=lambda generator: generator), ["open t", "enter", "block", "close", "leave"]),
        (beside, ["enter", "open t", "block", "close", "leave"]),
        (lambda log: lambda original, *args: original(*args), ["open t", "block", "close"]),
    ],
    ids=["inside", "generator function", "beside", "plain"],
)
def test_a_handler_of_a_manager_function_sees_the_block(make, order, log, caplog) -> None:
    made = hooked(manager_function(log), make(log))
    with made("t") as value:
        log.append("block")
    assert value == "t"
    assert log == order
    assert messages(caplog) == []


@pytest.mark.parametrize("fails", ["before", "opened", "after"])
def test_the_block_runs_inside_of_the_original_when_the_handler_fails(fails, log, caplog) -> None:
    made = hooked(manager_function(log), inside(log, fails))
    with made("t") as value:
        log.append("block")
    assert value == "t"
    assert [one for one in log if one not in ("enter", "leave")] == ["open t", "block", "close"]
    assert messages(caplog) == ["symbols.yaml:3: the handler of tests:f raised RuntimeError: handler"]


@pytest.mark.parametrize("make", [inside, beside])
def test_an_exception_of_the_block_passes_both(make, log, caplog) -> None:
    made = hooked(manager_function(log), make(log))
    with pytest.raises(ValueError, match="block"), made("t"):
        raise ValueError("block")
    assert log.count("error") == log.count("close") == 1
    assert messages(caplog) == []


@pytest.mark.parametrize("make", [inside, beside])
def test_an_original_that_suppresses_an_exception_does_so_still(make, log) -> None:
    with hooked(manager_function(log, suppresses=True), make(log))("t"):
        raise ValueError("block")
    assert log[-1] == "leave"


@pytest.mark.parametrize("make", [inside, beside])
@pytest.mark.parametrize("fails", ["open", "close"])
def test_what_the_original_raises_reaches_the_program(make, fails, log, caplog) -> None:
    made = hooked(manager_function(log, fails=fails), make(log))
    with pytest.raises(LookupError, match=fails), made("t"):
        pass
    assert log.count("open t") == 1
    assert messages(caplog) == []


def test_which_functions_give_a_manager() -> None:
    def said(name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def not_said(name: str) -> Any:
        return contextlib.nullcontext()

    def generator() -> Iterator[int]:
        yield 1

    assert gives_manager(contextmanager(generator))
    assert gives_manager(said)
    assert not gives_manager(not_said)
    assert not gives_manager(generator)
    assert not gives_manager(asynccontextmanager(handler_of_async))


async def handler_of_async() -> Any:
    yield 1
