"""A hooked generator does what the plain one does, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import logging
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

from ascend_opentelemetry.hooks import Timer, wrap


def body(log: list[Any]) -> Any:
    """Echoes what is sent; survives a KeyError, ends with its count at a LookupError."""
    count = 0
    try:
        received = yield "first"
        while True:
            count += 1
            try:
                received = yield ("echo", received)
            except KeyError as error:
                received = ("caught", str(error))
            except LookupError:
                return count
            if received == "raise":
                raise ValueError("body")
            if received == "end":
                return count
    finally:
        log.append(("closed", count))


def stubborn(log: list[Any]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        log.append("refused")
        yield 2


def quiet(log: list[Any]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        log.append("returned")
        return 5


def failing_close(log: list[Any]) -> Any:
    try:
        yield 1
    finally:
        raise OSError("close")


async def async_body(log: list[Any]) -> Any:
    count = 0
    try:
        received = yield "first"
        while True:
            count += 1
            await asyncio.sleep(0)
            try:
                received = yield ("echo", received)
            except KeyError as error:
                received = ("caught", str(error))
            except LookupError:
                return
            if received == "raise":
                raise ValueError("body")
            if received == "end":
                return
    finally:
        await asyncio.sleep(0)
        log.append(("closed", count))


async def async_stubborn(log: list[Any]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        log.append("refused")
        yield 2


async def async_quiet(log: list[Any]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        log.append("returned")
        return


async def async_failing_close(log: list[Any]) -> Any:
    try:
        yield 1
    finally:
        raise OSError("close")


STEPS = [
    [],
    ["next"],
    ["close"],
    ["next", "close", "next"],
    ["next", ("send", 1), ("send", 2), "close"],
    ["next", "next", ("throw", KeyError("k")), ("send", 3), "close"],
    ["next", "next", ("throw", LookupError()), "next"],
    ["next", "next", ("throw", OSError("other")), "next", "close"],
    ["next", "next", ("send", "raise"), "next"],
    ["next", "next", ("send", "end"), "next"],
    ["next", ("throw", GeneratorExit()), "next"],
    ["next", "next", ("throw", StopIteration("s")), "close"],
    [("send", "too early"), "next"],
    [("throw", KeyError("not started")), "next"],
]
SYNC = [(body, steps) for steps in STEPS] + [(f, ["next", "close", "next"]) for f in (stubborn, quiet, failing_close)]
ASYNC = [(async_body, steps) for steps in STEPS] + [
    (f, ["next", "close", "next"]) for f in (async_stubborn, async_quiet, async_failing_close)
]


def outcome(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)


def transcript(function: Callable[..., Any], steps: list[Any]) -> list[Any]:
    log: list[Any] = []
    made = function(log)
    for step in steps:
        name, args = (step, ()) if isinstance(step, str) else (step[0], step[1:])
        method = {"next": made.__next__, "send": made.send, "throw": made.throw, "close": made.close}[name]
        try:
            log.append(method(*args))
        except BaseException as error:
            log.append(outcome(error))
    return log


async def async_transcript(function: Callable[..., Any], steps: list[Any]) -> list[Any]:
    log: list[Any] = []
    made = function(log)
    for step in steps:
        name, args = (step, ()) if isinstance(step, str) else (step[0], step[1:])
        method = {"next": made.__anext__, "send": made.asend, "throw": made.athrow, "close": made.aclose}[name]
        try:
            log.append(await method(*args))
        except BaseException as error:
            log.append(outcome(error))
    return log


def hooked(function: Callable[..., Any], handler: Any) -> Callable[..., Any]:
    return wrap(function, handler, f"tests:{function.__name__}", "symbols.yaml:3")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("function", "steps"), SYNC)
@pytest.mark.parametrize("on", [True, False])
def test_sync(function, steps, handler, on) -> None:
    handler.switch.on = on
    assert transcript(hooked(function, handler), steps) == transcript(function, steps)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("function", "steps"), ASYNC)
@pytest.mark.parametrize("on", [True, False])
def test_async(function, steps, handler, on) -> None:
    handler.switch.on = on
    expected = asyncio.run(async_transcript(function, steps))
    assert asyncio.run(async_transcript(hooked(function, handler), steps)) == expected


@pytest.mark.parametrize(
    ("steps", "result", "error"),
    [
        (["next", "next", ("send", "end")], 1, "NoneType"),
        (["next", "close"], None, "GeneratorExit"),
        (["next", "next", ("send", "raise")], None, "ValueError"),
        (["next", ("throw", OSError())], None, "OSError"),
    ],
)
def test_the_handler_hears_of_the_end_once(handler, steps, result, error) -> None:
    made = hooked(body, handler)
    transcript(made, steps)
    assert [end[3:] for end in handler.ended] == [(result, error)]
    asyncio.run(async_transcript(hooked(async_body, handler), steps))
    assert [end[3:] for end in handler.ended[1:]] == [(None, error)]


def test_a_generator_that_never_starts_is_not_told(handler) -> None:
    hooked(body, handler)([]).close()
    asyncio.run(async_transcript(hooked(async_body, handler), ["close"]))
    assert (handler.entered, handler.ended) == ([], [])


def test_a_forgotten_generator_is_closed(handler) -> None:
    log: list[Any] = []
    made = hooked(body, handler)(log)
    next(made)
    del made
    gc.collect()
    assert log == [("closed", 0)]
    assert [end[4] for end in handler.ended] == ["GeneratorExit"]


class Big:
    """Something whose memory is missed."""


@pytest.mark.parametrize("end", ["close", "throw", "__next__"])
def test_an_ended_generator_keeps_nothing_alive(handler, end) -> None:
    """No cycle of exception, traceback and frame that only the garbage collector frees."""

    def holding(big: Big) -> Any:
        yield 1
        raise ValueError

    handler.exit = lambda *args: None
    handler.enter = lambda *args: None
    hook = hooked(holding, handler)
    gc.disable()
    try:
        big = Big()
        gone = weakref.ref(big)
        made = hook(big)
        del big
        next(made)
        with contextlib.suppress(ValueError):
            made.throw(ValueError()) if end == "throw" else getattr(made, end)()
        del made
        assert gone() is None
    finally:
        gc.enable()


def test_the_span_is_current_in_the_body_only(call_type, records) -> None:
    outside = trace.get_current_span()
    seen: list[Any] = []

    def steps() -> Any:
        try:
            while True:
                seen.append(trace.get_current_span().get_span_context().span_id)
                yield
        finally:
            seen.append(trace.get_current_span().get_span_context().span_id)

    made = hooked(steps, Timer(call_type, attach=False))()
    for _ in range(2):
        next(made)
        assert trace.get_current_span() is outside
    made.close()
    assert trace.get_current_span() is outside
    (record,) = records()
    assert seen == [record[4][1]] * 3
    assert record[6] is None  # an early close is no error


def test_the_span_is_current_in_the_async_body_only(call_type, records) -> None:
    seen: list[Any] = []

    async def steps() -> Any:
        try:
            while True:
                await asyncio.sleep(0)
                seen.append(trace.get_current_span().get_span_context().span_id)
                yield
        finally:
            await asyncio.sleep(0)
            seen.append(trace.get_current_span().get_span_context().span_id)

    async def main() -> None:
        before = otel_context.get_current()
        made = hooked(steps, Timer(call_type, attach=False))()
        async for _ in made:
            assert otel_context.get_current() is before
            if len(seen) == 2:
                break
        # another task closes it, as a server does when a client goes away
        await asyncio.create_task(made.aclose())
        assert otel_context.get_current() is before

    asyncio.run(main())
    (record,) = records()
    assert seen == [record[4][1]] * 3


def test_an_abandoned_async_generator_logs_nothing(call_type, records, caplog) -> None:
    async def steps() -> Any:
        yield 1
        await asyncio.sleep(60)
        yield 2

    async def main() -> None:
        made = hooked(steps, Timer(call_type, attach=False))()
        await made.__anext__()
        waiting = asyncio.create_task(made.__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.records == []
    (record,) = records()
    assert record[6].message == "CancelledError: "


def test_a_step_that_ends_in_another_context_raises_what_it_would(call_type, records) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def steps() -> Any:
        await pause()
        yield 1

    step = hooked(steps, Timer(call_type, attach=False))().__anext__()
    contextvars.copy_context().run(step.send, None)
    with pytest.raises(GeneratorExit):
        contextvars.copy_context().run(step.throw, GeneratorExit)
    assert len(records()) == 1


def test_tasks_that_share_a_function_have_spans_of_their_own(call_type, records) -> None:
    async def steps(name: str) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
            yield name, trace.get_current_span().get_span_context().span_id

    hook = hooked(steps, Timer(call_type, attach=False))

    async def consume(name: str) -> set[Any]:
        return {value async for value in hook(name)}

    async def main() -> list[set[Any]]:
        return await asyncio.gather(consume("a"), consume("b"))

    first, second = asyncio.run(main())
    assert len(first) == len(second) == 1
    assert {span for _, span in first | second} == {record[4][1] for record in records()}
    assert inspect.isasyncgenfunction(hook)
