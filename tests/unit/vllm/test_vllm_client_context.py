"""What a request takes over from its client, and what of a refused one stays here."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from test_vllm_standins import SPAN_ID, TRACE_ID, TRACEPARENT, EngineCoreRequest, attributes, call, recording, spans

from ascend_opentelemetry.hooks import wrap
from ascend_opentelemetry.recorder import RecordSpan
from ascend_opentelemetry.vllm import _baggage
from ascend_opentelemetry.vllm._refusals import ErrorResponse as ErrorHook
from ascend_opentelemetry.vllm._requests import RequestTracker
from ascend_opentelemetry.vllm._scope import request_context, request_ids
from ascend_opentelemetry.vllm._serving import Serve

HEADERS = {
    "traceparent": TRACEPARENT,
    "tracestate": "vendor=opaque,other=1",
    "baggage": "user=ann%20b,tier=gold,gen_ai.provider.name=evil",
}
UNSELECTED_TIMER = RecordSpan(1, 2, 0, 0)


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording(native=False)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def allow(keys: str) -> None:
        monkeypatch.setenv("OTEL_PYTHON_VLLM_BAGGAGE_KEYS", keys)

    _baggage._keys.cache_clear()
    yield allow
    _baggage._keys.cache_clear()


def within(context: Context, function: Any, *args: Any) -> Any:
    def run() -> Any:
        attach(context)
        return function(*args)

    return contextvars.Context().run(run)


def remote(state: dict[str, str], **bags: str) -> Context:
    """What FastAPI's instrumentation makes current, less its own span."""
    span = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState(list(state.items())))
    context = trace.set_span_in_context(NonRecordingSpan(span), Context())
    for key, value in bags.items():
        context = baggage.set_baggage(key, value, context)
    return context


@pytest.mark.parametrize(
    ("context", "headers", "expected"),
    [
        (Context(), HEADERS, "vendor=opaque,other=1"),
        (Context(), {"traceparent": TRACEPARENT}, ""),
        (Context(), {"tracestate": "vendor=opaque"}, ""),
        (Context(), None, ""),
        (remote({"mine": "1"}), HEADERS, "mine=1"),
        (remote({}), HEADERS, ""),
        (trace.set_span_in_context(UNSELECTED_TIMER, Context()), HEADERS, "vendor=opaque,other=1"),
        (trace.set_span_in_context(UNSELECTED_TIMER, Context()), None, ""),
    ],
)
def test_the_state_of_the_trace_that_is_gone_on_with(context, headers, expected) -> None:
    assert within(context, request_context, headers, {})[1] == expected


def test_no_key_is_allowed_by_default(allow) -> None:
    found: dict[str, Any] = {}
    within(Context(), request_ids, HEADERS, found)
    assert found == {}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("user", {"user": "ann b"}),
        (" user , tier,none", {"user": "ann b", "tier": "gold"}),
        ("", {}),
        ("*", {}),
    ],
)
def test_allowed_keys_of_the_baggage_are_attributes(allow, keys, expected) -> None:
    allow(keys)
    found: dict[str, Any] = {}
    ids = within(Context(), request_ids, HEADERS, found)
    assert found == expected
    assert (ids[0], ids[2]) == (TRACE_ID, SPAN_ID)


def test_our_own_attributes_win(allow) -> None:
    allow("gen_ai.provider.name,user")
    found: dict[str, Any] = {"gen_ai.provider.name": "vllm"}
    within(Context(), request_ids, HEADERS, found)
    assert found == {"gen_ai.provider.name": "vllm", "user": "ann b"}


def test_the_current_context_counts_before_the_headers(allow) -> None:
    allow("user,tier")
    found: dict[str, Any] = {}
    ids = within(remote({}, user="bob"), request_ids, HEADERS, found)
    assert (found, ids[0], ids[2]) == ({"user": "bob"}, 7, 8)
    found.clear()
    within(baggage.set_baggage("user", "bob", Context()), request_ids, None, found)
    assert found == {"user": "bob"}


class ValidationError(ValueError):
    pass


class VLLMClientError(Exception):
    pass


class VLLMNotFoundError(VLLMClientError):
    pass


class AdapterNotFoundError(VLLMNotFoundError):
    pass


class ValidationException(Exception):  # noqa: N818 - FastAPI's name
    pass


async def refuse(error: BaseException) -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        raise error

    await wrap(create, Serve("chat"), "vllm:serve", "test")(None, SimpleNamespace(model="tiny"))


def direct() -> BaseException:
    return ValidationError("SECRET is no prompt")


def caused() -> BaseException:
    error = RuntimeError("bad: SECRET")
    error.__cause__ = direct()
    return error


def nothing_found() -> BaseException:
    return KeyError("SECRET")


def of_vllm() -> BaseException:
    return VLLMClientError("SECRET")


def of_fastapi() -> BaseException:
    return ValidationException("SECRET")


def in_a_circle() -> BaseException:
    error, other = RuntimeError("bad: SECRET"), RuntimeError("other")
    error.__context__, other.__context__ = other, error
    return error


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (direct, "ValidationError"),
        (caused, "RuntimeError"),
        (nothing_found, "KeyError"),
        (of_vllm, "VLLMClientError"),
        (of_fastapi, "ValidationException"),
    ],
)
def test_errors_that_may_show_what_was_refused_give_their_type_only(make, name) -> None:
    with pytest.raises(type(make())):
        contextvars.Context().run(asyncio.run, refuse(make()))
    (span,) = spans()
    assert "SECRET" not in repr(span)
    assert (span[6].message, attributes(span)["error.type"]) == (name, name)
    ((event, _, details),) = span[6].events
    assert event == "exception"
    assert [key for key, _ in details] == ["exception.type"]


@pytest.mark.parametrize(
    ("error", "text"), [(in_a_circle(), "bad: SECRET"), (AdapterNotFoundError("no such adapter"), "no such adapter")]
)
def test_other_errors_give_their_text(error, text) -> None:
    with pytest.raises(type(error)):
        contextvars.Context().run(asyncio.run, refuse(error))
    (span,) = spans()
    assert span[6].message == text
    assert "exception.stacktrace" in dict(span[6].events[0][2])


def test_a_text_that_is_that_of_the_handled_error_is_not_shown() -> None:
    def create_error_response(message: Any) -> Any:
        return SimpleNamespace(error=SimpleNamespace(message=str(message), type="BadRequestError", code=400))

    async def create(self: Any, request: Any, raw_request: Any = None) -> Any:
        try:
            raise direct()
        except ValueError as error:
            return call(ErrorHook(), create_error_response, str(error))

    serving = wrap(create, Serve("chat"), "vllm:serve", "test")
    contextvars.Context().run(asyncio.run, serving(None, SimpleNamespace(model="tiny")))
    (span,) = spans()
    assert "SECRET" not in repr(span)
    assert (span[6].message, span[6].events) == ("BadRequestError", ())


@pytest.mark.parametrize("value", ["gold", "ann b, c=d;e", "\u00e4"])
def test_allowed_baggage_survives_the_way_to_the_engine(value: str) -> None:
    assert _baggage.parse_baggage(_baggage.format_baggage({"user": value, "tier": "1"})) == (
        ("user", value), ("tier", "1"),
    )  # fmt: skip
    assert _baggage.format_baggage({}) == ""
    assert _baggage.parse_baggage(None) == ()


def test_the_engine_gets_the_allowed_baggage_alone(allow: Any) -> None:
    allow("user")
    tracker, request = RequestTracker(), EngineCoreRequest()
    tracker.add(request, None, 0, HEADERS)
    assert request.trace_headers is not None
    assert request.trace_headers["baggage"] == "user=ann+b"
