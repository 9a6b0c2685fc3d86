"""API server: the HTTP request around an engine request, and where its ``llm_request`` belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from time import time_ns
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    KIND_SERVER,
    REMOTE,
    SAMPLED,
    RecordSpan,
    SpanIds,
    getrandbits,
    is_suppressed,
    recorder,
)
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._baggage import allowed_baggage, format_baggage
from ascend_opentelemetry.vllm._metrics import REQUEST_METRICS
from ascend_opentelemetry.vllm._phase_spans import REQUEST
from ascend_opentelemetry.vllm._request_attributes import MAX_TEXT, body_attributes
from ascend_opentelemetry.vllm._types import traced_type

#: Both kinds of ``llm_request``: without a span of this process above it, it is what a caller asked a server for.
ROOT_TYPE = traced_type(REQUEST, span_names.VLLM_LLM_REQUEST, kind=KIND_SERVER)
CHILD_TYPE = traced_type(REQUEST, span_names.VLLM_LLM_REQUEST, kind=KIND_INTERNAL)


class Wanted:
    """On while requests are traced or measured."""

    @property
    def on(self) -> bool:
        return ROOT_TYPE.on or REQUEST_METRICS.on


wanted = Wanted()


class Scope:
    """One call of an OpenAI serving function; tasks that it starts see the same object."""

    __slots__ = ("attributes", "body", "headers", "model", "operation", "reported", "start", "streaming", "trace_id")

    def __init__(self, operation: str, body: Any, raw: Any) -> None:
        """The call for a request of a client.

        Args:
            operation: value of ``gen_ai.operation.name``.
            body: of the request, as vLLM's protocol class; None when there is none.
            raw: Starlette's ``Request``; None when it is not known.
        """
        self.operation = operation
        #: ``id`` of vLLM's request object, which lives as long as the call.
        self.body = id(body)
        model = getattr(body, "model", None)
        #: As the client wrote it, cut if need be.
        self.model: str | None = model[:MAX_TEXT] if isinstance(model, str) else None
        #: Of the ``llm_request`` of the call: what the engine is not told.
        self.attributes = {**dict(_server_attributes(raw)), **dict(body_attributes(body))}
        self.headers: Mapping[str, str] = getattr(raw, "headers", {})
        self.start = time_ns()
        #: An ``llm_request`` exists for it, made by the engine request or by an error.
        self.reported = False
        #: The client has its status, 200, and learns of errors by what follows.
        self.streaming = False
        #: Shared by the roots of one HTTP request (a list of prompts), when nothing is above them.
        self.trace_id = 0


#: Of a serving call in the ASGI scope of its request.
_KEY = "ascend_opentelemetry.scope"

_current: ContextVar[Scope | None] = ContextVar("ascend_otel_scope", default=None)


def _server_attributes(raw: Any) -> Iterator[tuple[str, Any]]:
    """Where the server got the request: its own end of the connection, and not the client's word for it."""
    server = getattr(raw, "scope", {}).get("server")
    if server is not None:
        address, port = server
        yield keys.SERVER_ADDRESS, address
        if port is not None:  # of a Unix socket, whose path is the address
            yield keys.SERVER_PORT, port


def current_scope() -> Scope | None:
    """The serving call that the calling task works for."""
    return _current.get()


def enter_scope(scope: Scope) -> None:
    """From here on the calling task, and those that it starts, work for this call."""
    _current.set(scope)


def scope_of(raw: Any) -> Scope | None:
    """The first serving call for a request of a client (Starlette's ``Request``), in whatever task it was."""
    return _connection(raw).get(_KEY)


def keep_scope(raw: Any, scope: Scope) -> None:
    """Let others who have the request of the client find its serving call."""
    _connection(raw)[_KEY] = scope


def _connection(raw: Any) -> MutableMapping[str, Any]:
    """The ASGI scope of a request: one object for all that the server does for it."""
    return getattr(raw, "scope", {})


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
    scope = _current.get()
    trace_id = scope.trace_id if scope is not None and scope.trace_id else recorder.new_trace_id()
    if scope is not None:
        scope.trace_id = trace_id
    sampled = recorder.sample(trace_id, span_names.VLLM_LLM_REQUEST, KIND_SERVER, attributes)
    return (trace_id, getrandbits(64), 0, SAMPLED if sampled else 0), "", carried


def request_type(ids: SpanIds) -> Any:
    """The record type of an ``llm_request`` with these ids."""
    return CHILD_TYPE if ids[2] and not ids[3] & REMOTE else ROOT_TYPE
