"""API server (or the process of ``LLM``): the functions through which a request and its tokens pass."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from threading import get_ident
from time import time_ns
from typing import Any, NamedTuple

from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.vllm._request_attributes import served_model
from ascend_opentelemetry.vllm._requests import DETOKENIZE, tracker


class _Call(NamedTuple):
    """A call of an engine's ``add_request``: the client's headers, the model's name, the engine requests it added."""

    headers: Mapping[str, str] | None
    model: str | None
    added: list[str]


_call: ContextVar[_Call | None] = ContextVar("ascend_otel_add_request", default=None)


class EngineAddRequest:
    """``add_request(..., trace_headers=)`` of ``AsyncLLM`` and ``LLMEngine``: takes the client's headers; vLLM, when it
    is not tracing itself, would drop them and warn."""  # noqa: D205, D209

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[_Call, Token[Any]]:
        headers = kwargs.get("trace_headers")
        if headers and isinstance(kwargs, dict) and recorder.traces_on:  # else vLLM's own spans need them
            kwargs["trace_headers"] = None
        call = _Call(headers, served_model(args[0]), [])
        return call, _call.set(call)

    def exit(self, state: tuple[_Call, Token[Any]], args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        call, token = state
        _call.reset(token)
        # added here but never sent; when the task is cancelled, it may have been sent and go on
        if isinstance(error, Exception):
            tracker.fail(error, call.added)
        elif error is not None:
            tracker.added_all(call.added)


class OutputAddRequest:
    """``OutputProcessor.add_request(request, prompt, parent_req, request_index, queue)``: once an engine request."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, Any, Mapping[str, Any]]:
        given = dict(zip(("self", "request", "prompt", "parent_req", "request_index"), args, strict=False)) | dict(
            kwargs
        )
        request = given["request"]
        request_id: str = request.request_id
        states: Mapping[str, Any] = given["self"].request_states
        known = states.get(request_id)
        if known is None:  # else an update of a streamed input
            call = _call.get()
            if call is not None:
                call.added.append(request_id)
            headers, model = (call.headers, call.model) if call is not None else (None, None)
            tracker.add(request, given.get("parent_req"), given.get("request_index", 0), headers, model)
        return request_id, known, states

    def exit(self, state: tuple[str, Any, Mapping[str, Any]], args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        request_id, known, states = state
        if request_id in states:
            return
        if error is not None:
            tracker.fail(error, (request_id,))
        elif known is not None:  # the end of a streamed input whose last token was out before
            tracker.finish(known, "stop")


class ProcessOutputs:
    """``OutputProcessor.process_outputs(engine_core_outputs, ...)``: once a step."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if tracker.waiting or tracker.sampled:
            tracker.tokens(args[1] if len(args) > 1 else kwargs["engine_core_outputs"])

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        if DETOKENIZE.native_on:
            outputs = args[1] if len(args) > 1 else kwargs["engine_core_outputs"]
            if outputs:
                now = time_ns()
                ids = [output.request_id for output in outputs]
                recorder.emit((DETOKENIZE, now, now, get_ident(), None, ids, None))


class Finished:
    """``OutputProcessor._update_stats_from_finished(req_state, finish_reason, ...)``: once a finished request."""

    switch = tracker

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        state = args[1] if len(args) > 1 else kwargs["req_state"]
        tracker.finish(state, args[2] if len(args) > 2 else kwargs["finish_reason"])

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class AbortRequests:
    """``OutputProcessor.abort_requests(ids, ...) -> internal ids``."""

    switch = tracker

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        handled = sys.exc_info()[1]
        if _call.get() is not None and isinstance(handled, Exception):
            tracker.fail(handled, result or ())  # one of several choices could not be added: vLLM gives up the others
        else:
            tracker.abort(result or ())


class PropagateError:
    """``OutputProcessor.propagate_error(e)``: the engine is dead."""

    switch = tracker

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        tracker.fail(args[1] if len(args) > 1 else kwargs["e"])

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class EngineStep:
    """``LLMEngine.step()``: what it raises ends the requests of ``LLM``, for which nobody propagates the error."""

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            except Exception as error:  # after an interrupt the next call goes on
                tracker.fail(error)
                raise

        return step
