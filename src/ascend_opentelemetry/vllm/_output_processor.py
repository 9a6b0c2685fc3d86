"""API server (or the process of ``LLM``): the functions through which a request and its tokens pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from threading import get_ident
from time import time_ns
from typing import Any

from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.vllm._requests import DETOKENIZE, tracker

_incoming: ContextVar[Mapping[str, str] | None] = ContextVar("ascend_otel_incoming", default=None)


class AsyncAddRequest:
    """``AsyncLLM.add_request(..., trace_headers=)``: keeps the client's headers, which vLLM drops when it is not
    tracing itself (and warns about)."""  # noqa: D205, D209

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Token[Any]:
        headers = kwargs.get("trace_headers")
        if headers and isinstance(kwargs, dict) and args[0].observability_config.otlp_traces_endpoint is None:
            kwargs["trace_headers"] = None
        return _incoming.set(headers)

    def exit(self, state: Token[Any], args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        _incoming.reset(state)


class OutputAddRequest:
    """``OutputProcessor.add_request(request, prompt, parent_req, request_index, queue)``: once an engine request."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = dict(zip(("self", "request", "prompt", "parent_req", "request_index"), args, strict=False)) | dict(
            kwargs
        )
        request = given["request"]
        if request.request_id not in given["self"].request_states:  # else an update of a streamed input
            tracker.add(request, given.get("parent_req"), given.get("request_index", 0), _incoming.get())

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class ProcessOutputs:
    """``OutputProcessor.process_outputs(engine_core_outputs, ...)``: once a step."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if tracker.waiting:
            tracker.first_tokens(args[1] if len(args) > 1 else kwargs["engine_core_outputs"])

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        if DETOKENIZE.native_on:
            outputs = args[1] if len(args) > 1 else kwargs["engine_core_outputs"]
            if outputs:
                now = time_ns()
                ids = [output.request_id for output in outputs]
                recorder.emit((DETOKENIZE, now, now, get_ident(), None, ids, None))


class Finished:
    """``OutputProcessor._update_stats_from_finished(req_state, finish_reason, ...)``: once a finished request."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        state = args[1] if len(args) > 1 else kwargs["req_state"]
        tracker.finish(state, args[2] if len(args) > 2 else kwargs["finish_reason"])

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class AbortRequests:
    """``OutputProcessor.abort_requests(ids, ...) -> internal ids``."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        tracker.abort(result or ())


class PropagateError:
    """``OutputProcessor.propagate_error(e)``: the engine is dead."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        tracker.fail(args[1] if len(args) > 1 else kwargs["e"])

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...
