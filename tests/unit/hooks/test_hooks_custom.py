"""Handlers of the user's own, as the guide describes them in 2.5."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


HOWS = ["before", "without", "twice", "after", "None", "swallow", "thread"]


def handler_that(how: str, kind: str) -> Callable[..., Any]:
    """A handler of the documented signature that is not as it should be."""

    def sync_handler(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
        if how == "before":
            raise RuntimeError("handler")
        if how == "without":
            return "other"
        if how == "twice":
            original_func(this, 99)
            return original_func(this, *args, **kwargs)
        if how == "swallow":
            try:
                return original_func(this, *args, **kwargs)
            except LookupError:
                return None
        if how == "thread":
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(original_func, this, *args, **kwargs).result()
        original_func(this, *args, **kwargs)
        if how == "after":
            raise RuntimeError("handler")
        return None

    async def async_handler(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
        if how == "before":
            raise RuntimeError("handler")
        if how == "without":
            return "other"
        if how == "twice":
            await original_func(this, 99)
            return await original_func(this, *args, **kwargs)
        if how == "swallow":
            try:
                return await original_func(this, *args, **kwargs)
            except LookupError:
                return None
        if how == "thread":
            return await asyncio.create_task(original_func(this, *args, **kwargs))
        await original_func(this, *args, **kwargs)
        if how == "after":
            raise RuntimeError("handler")
        return None

    return async_handler if kind == "coroutine" else sync_handler


@CALLS
@pytest.mark.parametrize("how", HOWS)
def test_the_original_runs_once_whatever_the_handler_does(kind, how, caplog) -> None:
    expected: tuple[int, str] = (99, "k") if how == "twice" else (5, "k")
    this = Original()
    assert drive(hook(kind, handler_that(how, kind)), this, 5)[0] == expected
    assert this.runs == 1
    said = {
        "before": ["raised RuntimeError: handler"],
        "after": ["raised RuntimeError: handler"],
        "without": ["did not call the original"],
    }
    prefix = f"symbols.yaml:3: the handler of tests:Original.{kind} "
    assert messages(caplog) == [prefix + text for text in said.get(how, [])]


@CALLS
@pytest.mark.parametrize("how", [how for how in HOWS if how != "twice"])
def test_the_exception_of_the_original_reaches_the_caller_whatever_the_handler_does(kind, how) -> None:
    this = Original()
    with pytest.raises(LookupError, match="-1"):
        drive(hook(kind, handler_that(how, kind)), this, -1)
    assert this.runs == 1


@GENERATORS
def test_a_generator_function_is_called_once_for_a_handler_that_calls_it_twice(kind, caplog) -> None:
    def sync_handler(original: Any, *args: Any) -> Any:
        original(*args)
        yield from original(*args)

    async def async_handler(original: Any, *args: Any) -> Any:
        original(*args)
        async for value in original(*args):
            yield value

    this = Original()
    handler = sync_handler if kind == "generator" else async_handler
    assert drive(hook(kind, handler), this, 5) == plain(kind, 5)
    assert this.runs == 1
    assert messages(caplog) == []


@GENERATORS
def test_a_generator_that_a_handler_does_not_call_runs_all_the_same(kind, caplog) -> None:
    def sync_handler(*args: Any) -> Any:
        yield from ()

    async def async_handler(*args: Any) -> Any:
        for value in ():
            yield value

    this = Original()
    handler = sync_handler if kind == "generator" else async_handler
    assert drive(hook(kind, handler), this, 5) == plain(kind, 5)
    assert this.runs == 1
    assert messages(caplog) == [f"symbols.yaml:3: the handler of tests:Original.{kind} did not call the original"]


def replacing(kind: str, how: str) -> Callable[..., Any]:
    """A handler of a generator function that gives values of its own in place of the original's."""

    def sync_handler(original: Any, *args: Any) -> Any:
        if how == "never iterated":
            original(*args)
        if how != "returns":
            yield "own"
        return "own"

    async def async_handler(original: Any, *args: Any) -> Any:
        if how == "never iterated":
            original(*args)
        yield "own"

    return sync_handler if kind == "generator" else async_handler


@GENERATORS
@pytest.mark.parametrize("how", ["never called", "returns"])
def test_values_of_its_own_do_not_replace_those_of_a_generator_that_the_handler_does_not_call(
    kind, how, caplog
) -> None:
    this = Original()
    assert drive(hook(kind, replacing(kind, how)), this, 5) == plain(kind, 5)
    assert this.runs == 1
    (message,) = messages(caplog)
    prefix = f"symbols.yaml:3: the handler of tests:Original.{kind} "
    assert message == prefix + (
        "did not call the original"
        if (kind, how) == ("generator", "returns")
        else "raised RuntimeError: it yields before it has called the original: around a generator it is a"
        " @contextmanager"
    )


@GENERATORS
def test_a_generator_that_the_handler_only_makes_runs_all_the_same(kind, caplog) -> None:
    this = Original()
    result, values = drive(hook(kind, replacing(kind, "never iterated")), this, 5)
    assert (result, values) == (plain(kind, 5)[0], ["own", *plain(kind, 5)[1]])
    assert this.runs == 1
    assert messages(caplog) == [f"symbols.yaml:3: the handler of tests:Original.{kind} did not call the original"]


@KINDS
def test_a_handler_that_calls_the_original_with_what_it_does_not_take_is_as_if_it_were_not_there(kind, caplog) -> None:
    def handler(original: Any, this: Any, *args: Any) -> Any:
        return original(this, *args, nonsense=1)

    async def async_handler(original: Any, this: Any, *args: Any) -> Any:
        return await original(this, *args, nonsense=1)

    for one in (handler, async_handler) if kind == "coroutine" else (handler,):
        caplog.clear()
        this = Original()
        assert drive(hook(kind, one), this, 5) == plain(kind, 5)
        assert this.runs == 1
        (message,) = messages(caplog)
        assert message == (
            f"symbols.yaml:3: the handler of tests:Original.{kind} raised TypeError: Original.{kind}() got an"
            " unexpected keyword argument 'nonsense'"
        )


def test_an_original_that_fails_behind_a_decorator_which_takes_more_runs_once() -> None:
    runs: list[int] = []

    def plain(number: int) -> None:
        runs.append(number)
        raise TypeError("its own")

    @functools.wraps(plain)
    def original(number: int, **options: Any) -> None:
        return plain(number)

    made = Custom(lambda original, *args, **kwargs: original(*args, **kwargs), "tests:original", "here").wrap(original)
    with pytest.raises(TypeError, match="its own"):
        made(1, extra=2)
    assert runs == [1]


@CALLS
def test_arguments_of_the_program_that_the_original_does_not_take_are_the_programs_error(kind) -> None:
    made, this = hook(kind, lambda original, *args, **kwargs: original(*args, **kwargs)), Original()
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        drive(made, this, 5, nonsense=1)
    assert this.runs == 0


def plain_function(a: int = 1, *rest: int, key: str = "k") -> Any:
    return a, rest, key


async def plain_coroutine(a: int = 1, *rest: int, key: str = "k") -> Any:
    return a, rest, key


@pytest.mark.parametrize("function", [plain_function, plain_coroutine])
@pytest.mark.parametrize("call", [{}, {"a": 2}, {"key": "x"}, {"a": 2, "key": "x"}])
def test_this_is_none_in_a_call_without_positional_arguments(function, call, caplog) -> None:
    def guides(original_func: Any, this: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((this, args, kwargs))
        return original_func(this, *args, **kwargs)

    def without(original_func: Any, this: Any, **kwargs: Any) -> Any:
        seen.append((this, (), kwargs))
        return original_func(**kwargs)

    for handler in (guides, without):
        seen: list[Any] = []
        made = wrap(function, Custom(handler, "tests:function", "symbols.yaml:3"), "tests:function", "symbols.yaml:3")
        assert drive(made, **call)[0] == plain_function(**call)
        assert seen == [(None, (), call)]
    assert messages(caplog) == []


@pytest.mark.parametrize(
    "handler",
    [
        lambda original, a, **kwargs: original(a, **kwargs),
        lambda original, *args, **kwargs: original(*args, **kwargs),
        lambda original, **kwargs: original(**kwargs),
    ],
)
def test_a_handler_that_needs_no_this_gets_the_arguments_as_they_are(handler, caplog) -> None:
    made = wrap(plain_function, Custom(handler, "tests:function", "here"), "tests:function", "here")
    assert made(a=5, key="x") == (5, (), "x")
    assert messages(caplog) == []


def test_a_task_that_the_handler_made_of_the_original_is_waited_for() -> None:
    async def handler(original: Any, *args: Any) -> Any:
        tasks.append(asyncio.create_task(original(*args)))
        await asyncio.sleep(0)
        raise RuntimeError("handler")

    tasks: list[Any] = []
    this = Original()
    assert drive(hook("coroutine", handler), this, 5)[0] == (5, "k")
    assert this.runs == 1


def test_a_time_limit_of_the_handler_is_no_cancellation_of_the_caller() -> None:
    async def slow(x: int) -> int:
        await asyncio.sleep(60)
        return x

    async def handler(original: Any, x: int) -> Any:
        return await asyncio.wait_for(original(x), 0.01)

    made = wrap(slow, Custom(handler, "tests:slow", "symbols.yaml:3"), "tests:slow", "x")
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(made(1))


def handler_of(kind: str) -> Callable[..., Any]:
    def plain_handler(original: Any, *args: Any) -> Any:
        return original(*args)

    async def coroutine(original: Any, *args: Any) -> Any:
        return await original(*args)

    def generator(original: Any, *args: Any) -> Any:
        yield from original(*args)

    async def async_generator(original: Any, *args: Any) -> Any:
        async for value in original(*args):
            yield value

    class Callee:
        async def __call__(self, original: Any, *args: Any) -> Any:
            return await original(*args)

    found = {"sync": plain_handler, "coroutine": coroutine, "generator": generator, "async_generator": async_generator}
    return {**found, "async object": Callee()}[kind]


ASYNC = "it is async and the function is not"


@pytest.mark.parametrize(
    ("handler", "function"),
    [
        ("coroutine", "sync"),
        ("coroutine", "generator"),
        ("async object", "sync"),
        ("async_generator", "sync"),
        ("async_generator", "generator"),
    ],
)
def test_a_handler_of_a_kind_that_cannot_stand_for_the_function_is_refused(handler, function) -> None:
    with pytest.raises(TypeError, match=ASYNC):
        hook(function, handler_of(handler))


def test_a_coroutine_in_place_of_a_result_that_nobody_awaits_is_a_failure(caplog) -> None:
    async def later(original: Any, *args: Any) -> Any:
        return original(*args)

    this = Original()
    assert drive(hook("sync", lambda *args: later(*args)), this, 5)[0] == (5, "k")
    assert this.runs == 1
    assert messages(caplog) == [f"symbols.yaml:3: the handler of tests:Original.sync raised TypeError: {ASYNC}"]


@pytest.mark.parametrize("call", [lambda made: made(), lambda made: made(x=3)])
def test_a_plain_function_has_its_first_argument_for_this(call) -> None:
    def function(x: int = 1) -> int:
        return x

    def handler(original_func: Any, *args: Any, **kwargs: Any) -> Any:
        return original_func(*args, **kwargs) * 10

    made = wrap(function, Custom(handler, "tests:function", "symbols.yaml:3"), "tests:function", "x")
    assert call(made) == call(function) * 10


def test_a_handler_that_is_not_wanted_is_left_out() -> None:
    custom = Custom(lambda *args: 1 / 0, "tests:f", "symbols.yaml:3", lambda: False)
    for kind in ("sync", "coroutine", "generator", "async_generator"):
        made = wrap(vars(Original)[kind], custom, "tests:f", "x")
        assert drive(made, Original(), 5) == plain(kind, 5)


def test_a_handler_that_returns_no_generator_is_left_out(caplog) -> None:
    this = Original()
    assert drive(hook("generator", lambda *args: None), this, 5) == plain("generator", 5)
    assert drive(hook("async_generator", lambda *args: None), this, 5) == plain("async_generator", 5)
    assert this.runs == 2
    assert caplog.records[0].levelno == logging.WARNING
    assert [message.partition(" raised ")[2] for message in messages(caplog)] == [
        "TypeError: it returned NoneType, not a generator",
        "TypeError: it returned NoneType, not an async generator",
    ]


@GENERATORS
def test_values_that_a_handler_took_and_did_not_give_reach_the_caller_when_it_fails(kind, caplog) -> None:
    def sync_handler(original: Any, *args: Any) -> Any:
        list(original(*args))
        raise RuntimeError("handler")

    async def async_handler(original: Any, *args: Any) -> Any:
        [value async for value in original(*args)]
        raise RuntimeError("handler")

    this = Original()
    handler = sync_handler if kind == "generator" else async_handler
    assert drive(hook(kind, handler), this, 5) == plain(kind, 5)
    assert this.runs == 1
    assert messages(caplog) == [f"symbols.yaml:3: the handler of tests:Original.{kind} raised RuntimeError: handler"]


@pytest.mark.parametrize("collect", [list, lambda values: iter(list(values)), lambda values: map(abs, values)])
def test_a_handler_may_return_any_iterable_in_place_of_a_generator(collect, caplog) -> None:
    this = Original()
    handler = hook("generator", lambda original, *args: collect(original(*args)))
    assert drive(handler, this, 5) == plain("generator", 5)
    assert this.runs == 1
    assert messages(caplog) == []


@pytest.mark.parametrize("threads", [1, 4])
def test_an_original_that_the_handler_calls_in_threads_runs_once_and_is_waited_for(threads, caplog) -> None:
    begun = threading.Event()

    def slow(x: int) -> int:
        runs.append(x)
        begun.set()
        time.sleep(0.05)
        return x + 1

    def handler(original: Any, x: int) -> None:
        for _ in range(threads):
            threading.Thread(target=lambda: results.append(original(x))).start()
        begun.wait(10)

    threads_before = set(threading.enumerate())
    runs: list[int] = []
    results: list[int] = []
    made = wrap(slow, Custom(handler, "tests:slow", "symbols.yaml:3"), "tests:slow", "symbols.yaml:3")
    assert made(1) == 2
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(10)
    assert (runs, results, messages(caplog)) == ([1], [2] * threads, [])
