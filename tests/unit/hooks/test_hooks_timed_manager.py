"""Timers of functions made by ``contextmanager`` time the ``with`` block."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from opentelemetry.trace import get_current_span

from ascend_opentelemetry.hooks import ManagerTimer, Timer, makes_manager, wrap
from ascend_opentelemetry.recorder import RecordType

seen: list[Any] = []


@contextmanager
def swallowing(name: str, *, swallow: bool = False) -> Iterator[str]:
    seen.append(get_current_span())
    try:
        yield f"in {name}"
    except LookupError:
        if not swallow:
            raise


@contextmanager
def refusing() -> Iterator[None]:
    raise LookupError("refused")
    yield


@asynccontextmanager
async def waiting(name: str) -> Any:
    await asyncio.sleep(0)
    yield f"in {name}"


def deprecated(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


@deprecated
def numbers() -> Iterator[int]:
    yield 1


@deprecated
@contextmanager
def outside() -> Iterator[None]:
    yield


def plain() -> Any:
    return swallowing("x")


@pytest.fixture
def timed(recorder: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    record_type = recorder.register(RecordType("Test", "block", ["name", "value"]))
    timer = Timer(record_type, lambda args, _, result: (args[0] if args else None, result))
    return lambda function: wrap(function, ManagerTimer(timer, "tests:function", "here"), "tests:function", "here")


def test_what_makes_a_manager() -> None:
    assert [makes_manager(one) for one in (swallowing, refusing, waiting, outside)] == [True] * 4
    assert [makes_manager(one) for one in (plain, inspect.unwrap(swallowing), inspect.unwrap(waiting))] == [False] * 3


def test_a_generator_below_another_decorator_makes_no_manager(timed, records) -> None:
    assert not makes_manager(numbers)
    assert list(timed(numbers)()) == [1]
    assert records() == []


def test_the_block_is_timed_and_its_span_is_current(timed, records) -> None:
    with timed(swallowing)("a") as value:
        assert records() == []
        inside = get_current_span().get_span_context().span_id
    (record,) = records()
    assert (value, record[5]) == ("in a", ("a", "in a"))
    assert record[4][1] == inside
    assert record[2] >= record[1]
    assert get_current_span().get_span_context().span_id == 0


@pytest.mark.parametrize(("swallow", "failed"), [(False, True), (True, False)])
def test_an_exception_that_leaves_the_block_is_the_error_of_the_span(timed, records, swallow, failed) -> None:
    try:
        with timed(swallowing)("a", swallow=swallow):
            raise LookupError("block")
    except LookupError:
        assert not swallow
    (record,) = records()
    assert (record[6] is not None) == failed


def test_a_manager_that_cannot_be_entered_ends_its_span(timed, records) -> None:
    with pytest.raises(LookupError, match="refused"), timed(refusing)():
        pass
    (record,) = records()
    assert record[6] is not None


def test_the_block_of_an_async_manager_is_timed(timed, records) -> None:
    async def run() -> Any:
        async with timed(waiting)("a") as value:
            await asyncio.sleep(0)
            return value

    assert asyncio.run(run()) == "in a"
    (record,) = records()
    assert record[5] == ("a", "in a")


def test_a_manager_that_is_used_as_a_decorator_works_each_time(timed) -> None:
    @timed(swallowing)("a")
    def work(x: int) -> int:
        return x + 1

    assert [work(1), work(2)] == [2, 3]


def test_nothing_is_made_while_the_timer_is_off(timed, recorder) -> None:
    recorder.set_traces(False)
    assert type(timed(swallowing)("a")) is type(swallowing("a"))


def test_a_handler_that_fails_does_not_reach_the_block(handler, caplog) -> None:
    for method in ("enter", "exit"):
        handler.raises = {method}
        caplog.clear()
        hook = wrap(swallowing, ManagerTimer(handler, "tests:function", "here"), "tests:function", "here")
        with hook("a") as value:
            assert value == "in a"
        (message,) = caplog.messages
        assert message.startswith(f"the handler of tests:function (here) raised RuntimeError: {method} is broken")
