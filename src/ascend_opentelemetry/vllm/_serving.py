"""API server: the HTTP request around an engine request, and requests that never reach the engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from threading import get_ident
from time import time_ns
from typing import Any, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    KIND_SERVER,
    REMOTE,
    SAMPLED,
    STATUS_ERROR,
    RecordSpan,
    SpanExtra,
    SpanIds,
    exception_attributes,
    getrandbits,
    is_suppressed,
    recorder,
)
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import events as event_names
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._baggage import allowed_baggage, format_baggage
from ascend_opentelemetry.vllm._failures import shows_request
from ascend_opentelemetry.vllm._metrics import REQUEST_METRICS, request_ended
from ascend_opentelemetry.vllm._phase_spans import REQUEST
from ascend_opentelemetry.vllm._request_attributes import MAX_TEXT, body_attributes
from ascend_opentelemetry.vllm._types import traced_type

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Both kinds of ``llm_request``: without a span of this process above it, it is what a caller asked a server for.
ROOT_TYPE = traced_type(REQUEST, span_names.VLLM_LLM_REQUEST, kind=KIND_SERVER)
CHILD_TYPE = traced_type(REQUEST, span_names.VLLM_LLM_REQUEST, kind=KIND_INTERNAL)


class _Wanted:
    """On while requests are traced or measured."""

    @property
    def on(self) -> bool:
        return ROOT_TYPE.on or REQUEST_METRICS.on


_wanted = _Wanted()


class Scope:
    """One call of an OpenAI serving function; tasks that it starts see the same object."""

    __slots__ = ("attributes", "body", "headers", "model", "operation", "reported", "start", "trace_id")

    def __init__(self, operation: str, body: Any, headers: Mapping[str, str]) -> None:
        self.operation = operation
        #: ``id`` of vLLM's request object, which lives as long as the call.
        self.body = id(body)
        model = getattr(body, "model", None)
        #: As the client wrote it, cut if need be.
        self.model: str | None = model[:MAX_TEXT] if isinstance(model, str) else None
        #: Of the ``llm_request`` of the call: what the engine is not told.
        self.attributes = dict(body_attributes(body))
        self.headers = headers
        self.start = time_ns()
        #: An ``llm_request`` exists for it, made by the engine request or by an error.
        self.reported = False
        #: Shared by the roots of one HTTP request (a list of prompts), when nothing is above them.
        self.trace_id = 0


_scope: ContextVar[Scope | None] = ContextVar("ascend_otel_scope", default=None)


def current_scope() -> Scope | None:
    """The serving call that the calling task works for."""
    return _scope.get()


def client_context(headers: Mapping[str, str] | None) -> Context:
    """What a new ``llm_request`` is below: the current context where a span is in it, else what the client sent.

    Args:
        headers: of the client; read by the configured propagators.
    """
    context = get_current()
    span = trace.get_current_span(context)
    # a timer around the request that the step ratio did not select: it says nothing about requests
    if isinstance(span, RecordSpan) and not span.flags:
        context = trace.set_span_in_context(trace.INVALID_SPAN, context)
    elif span.get_span_context().is_valid:
        return context
    return propagate.extract(headers, context) if headers else context


def request_ids(headers: Mapping[str, str] | None, attributes: dict[str, Any]) -> SpanIds:
    """The ids alone of what ``request_context`` returns."""
    return request_context(headers, attributes)[0]


def request_context(headers: Mapping[str, str] | None, attributes: dict[str, Any]) -> tuple[SpanIds, str, str]:
    """Where a new ``llm_request`` belongs: below the current span, else below the client's, else a root.

    Args:
        headers: of the client; read by the configured propagators.
        attributes: of the span, as far as they are known, for the sampler; gets those that the sampler adds, and
            those of the baggage that ``OTEL_PYTHON_VLLM_BAGGAGE_KEYS`` allows.

    Returns:
        The ids, with flags 0 if the request is not sampled, and the W3C ``tracestate`` and ``baggage`` that it goes on
        with; of the baggage what is allowed.
    """
    context = client_context(headers)
    allowed = allowed_baggage(context)
    for key, value in allowed.items():
        attributes.setdefault(key, value)
    carried = format_baggage(allowed)
    parent = trace.get_current_span(context).get_span_context()
    if parent.is_valid:
        flags, state = int(parent.trace_flags), parent.trace_state.to_header()
        if parent.is_remote:  # nobody has asked the sampler of this process yet
            sampled = recorder.sample(parent.trace_id, span_names.VLLM_LLM_REQUEST, KIND_SERVER, attributes, parent)
            flags = REMOTE | (SAMPLED if sampled else 0)
        elif is_suppressed():
            flags = 0
        return (parent.trace_id, getrandbits(64), parent.span_id, flags), state, carried
    scope = _scope.get()
    trace_id = scope.trace_id if scope is not None and scope.trace_id else recorder.new_trace_id()
    if scope is not None:
        scope.trace_id = trace_id
    sampled = recorder.sample(trace_id, span_names.VLLM_LLM_REQUEST, KIND_SERVER, attributes)
    return (trace_id, getrandbits(64), 0, SAMPLED if sampled else 0), "", carried


def request_type(ids: SpanIds) -> Any:
    """The record type of an ``llm_request`` with these ids."""
    return CHILD_TYPE if ids[2] and not ids[3] & REMOTE else ROOT_TYPE


def _report(
    scope: Scope, error_type: str, message: str, error: BaseException | None, status: int | None, *, private: bool
) -> None:
    """Record an ``llm_request`` for a request that was refused before the engine saw it.

    Args:
        scope: of the serving call.
        error_type: value of ``error.type``.
        message: for the status of the span.
        error: what was raised, if anything was.
        status: of the HTTP response, as far as it is known.
        private: the texts may hold parts of the request: they stay here, types go out.
    """
    scope.reported = True
    attributes: dict[str, Any] = {keys.GEN_AI_OPERATION_NAME: scope.operation, keys.GEN_AI_PROVIDER_NAME: "vllm"}
    if scope.model is not None:
        attributes[keys.GEN_AI_REQUEST_MODEL] = scope.model
    attributes.update(scope.attributes)
    attributes[keys.ERROR_TYPE] = error_type
    if status is not None:
        attributes[keys.HTTP_RESPONSE_STATUS_CODE] = status
    ids = request_ids(scope.headers, attributes) if recorder.traces_on else None
    now = max(time_ns(), scope.start)
    if REQUEST_METRICS.on:
        request_ended(scope.start, now, ids, attributes, ran=False)
    if ids is None or not ids[3] & SAMPLED:
        return
    details = exception_attributes(error) if error is not None else {}
    if private or len(scope.model or "") >= MAX_TEXT:  # a text that names the model has all of it
        message = error_type
        details = {key: value for key, value in details.items() if key == keys.EXCEPTION_TYPE}
    events = ((event_names.EXCEPTION, now, tuple(details.items())),) if details else ()
    extra = SpanExtra(STATUS_ERROR, message, events=events)
    recorder.emit((request_type(ids), scope.start, now, get_ident(), ids, tuple(attributes.items()), extra))


def _report_response(scope: Scope, response: Any, cause: Any, *, private: bool = False) -> None:
    """Record a refusal by what the client is answered (``ErrorResponse``)."""
    info = getattr(response, "error", response)
    exception = cause if isinstance(cause, BaseException) else None
    # older versions hand over the text of the error that they handle
    private = private or shows_request(exception or sys.exc_info()[1])
    _report(scope, str(info.type), str(info.message), exception, int(info.code), private=private)


class Serve:
    """``create_completion(request, raw_request)`` and its like.

    Args:
        operation: value of ``gen_ai.operation.name``, or what tells it from the serving object and its request.
    """

    def __init__(self, operation: str | Callable[[Any, Any], str]) -> None:
        self._operation = operation
        self._failed = False

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def hook(*args: Any, **kwargs: Any) -> Any:
            scope = self._safely(self._enter, args, kwargs) if _wanted.on else None
            try:
                result = await original(*args, **kwargs)
            except Exception as error:
                if scope is not None:
                    self._safely(_refused, scope, error)
                raise
            if scope is None:
                return result
            if isinstance(result, AsyncGenerator):
                return _stream(scope, result)
            if type(result).__name__ == "ErrorResponse" and not scope.reported:
                self._safely(_report_response, scope, result, None)  # older versions make it without ErrorResponse
            return result

        return hook

    def _safely(self, function: Callable[..., _Result], *args: Any) -> _Result | None:
        try:
            return function(*args)
        except Exception:
            if not self._failed:
                self._failed = True
                _logger.warning("a call of a serving function is not recorded", exc_info=True)
            return None

    def _enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Scope | None:
        serving, request = args[0], args[1] if len(args) > 1 else kwargs.get("request")
        raw = args[2] if len(args) > 2 else kwargs.get("raw_request")
        outer = _scope.get()
        if outer is not None and outer.body == id(request):
            return None  # a serving function that calls the one of its base class
        operation = self._operation if isinstance(self._operation, str) else self._operation(serving, request)
        scope = Scope(operation, request, getattr(raw, "headers", {}))
        _scope.set(scope)
        return scope


async def _stream(scope: Scope, chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The engine request of a stream starts with its first chunk, in the task that sends the response."""
    _scope.set(scope)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()


def _refused(scope: Scope, error: Exception) -> None:
    # the exception handler runs in another task, without this scope: it finds the mark
    error.__dict__["ascend_otel_reported"] = True
    if not scope.reported:
        name = type(error).__qualname__
        _report(scope, name, str(error) or name, error, None, private=shows_request(error))


class ErrorResponse:
    """``create_error_response(message or exception, ...)``, a method up to vLLM 0.16: every refusal goes through it."""

    switch = _wanted

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        cause = next((arg for arg in args if isinstance(arg, (str, BaseException))), kwargs.get("message"))
        scope = _scope.get()
        if error is not None or getattr(cause, "ascend_otel_reported", False) or (scope and scope.reported):
            return
        unread = scope is None
        if scope is None:  # refused before the serving function: a body that does not parse, and may be quoted
            scope = Scope("unknown", None, {})
            _scope.set(scope)
        _report_response(scope, result, cause, private=unread)
