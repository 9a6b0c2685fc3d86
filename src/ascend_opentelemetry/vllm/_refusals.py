"""API server: requests that never reach the engine, as an ``llm_request`` each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from threading import get_ident
from time import time_ns
from typing import Any

from ascend_opentelemetry.recorder import SAMPLED, STATUS_ERROR, SpanExtra, exception_attributes, recorder
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import events as event_names
from ascend_opentelemetry.vllm._failures import shows_request, status_of
from ascend_opentelemetry.vllm._metrics import REQUEST_METRICS, request_ended
from ascend_opentelemetry.vllm._operations import operation_of_path
from ascend_opentelemetry.vllm._request_attributes import MAX_TEXT
from ascend_opentelemetry.vllm._scope import Scope, current_scope, request_ids, request_type, scope_of, wanted

#: Attribute of an exception: an ``llm_request`` tells of it. Other tasks, without its scope, handle it.
_MARK = "ascend_otel_reported"


def report(
    scope: Scope, error_type: str, message: str, error: BaseException | None, status: int | None, *, private: bool
) -> None:
    """Record an ``llm_request`` for a request that ended before the engine saw it.

    Args:
        scope: of the serving call.
        error_type: value of ``error.type``.
        message: for the status of the span.
        error: what was raised, if anything was.
        status: of the HTTP response; None when there is none.
        private: the texts may hold parts of the request: they stay here, types go out.
    """
    scope.reported = True
    attributes: dict[str, Any] = {keys.GEN_AI_OPERATION_NAME: scope.operation, keys.GEN_AI_PROVIDER_NAME: "vllm"}
    if scope.model is not None:
        attributes[keys.GEN_AI_REQUEST_MODEL] = scope.model
    attributes.update(scope.attributes)
    attributes[keys.ERROR_TYPE] = error_type
    if status is not None and not scope.streaming:
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


def report_error(scope: Scope, error: Exception) -> None:
    """Record what a serving function raised, unless the engine has had the request."""
    if _is_news(scope, error):
        name = type(error).__qualname__
        report(scope, name, str(error) or name, error, status_of(error), private=shows_request(error))


def report_abort(scope: Scope, left: BaseException) -> None:
    """Record that the client went away, by which ``left`` was raised, unless the engine has had the request."""
    if _is_news(scope, left):
        report(scope, "abort", "aborted before the engine had the request", None, None, private=False)


def _is_news(scope: Scope, error: BaseException) -> bool:
    """Whether nothing tells of the end of a call yet; a serving function may be called by another one."""
    known = scope.reported or getattr(error, _MARK, False)
    error.__dict__[_MARK] = True
    return not known


def report_response(scope: Scope, response: Any, cause: Any) -> None:
    """Record a refusal by what the client is answered (``ErrorResponse``)."""
    info = getattr(response, "error", response)
    exception = cause if isinstance(cause, BaseException) else None
    # older versions hand over the text of the error that they handle
    private = shows_request(exception or sys.exc_info()[1])
    report(scope, str(info.type), str(info.message), exception, int(info.code), private=private)


class ErrorResponse:
    """``create_error_response(message or exception, ...)``, a method up to vLLM 0.16: every refusal goes through it.

    So do errors of what is no request to the model, for which no serving function was called.
    """

    switch = wanted

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        cause = next((arg for arg in args if isinstance(arg, (str, BaseException))), kwargs.get("message"))
        scope = current_scope()
        if error is None and scope is not None and not scope.reported and not getattr(cause, _MARK, False):
            report_response(scope, result, cause)


class ExceptionHandler:
    """``exception_handler(request, exception) -> JSONResponse`` and its like: what failed outside the serving function.

    A body that does not parse is such a failure, and its text may quote the body.
    """

    switch = wanted

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> Scope | None:  # noqa: ARG002
        raw, error = args[0], args[1]
        if getattr(error, _MARK, False):
            return None
        error.__dict__[_MARK] = True  # for the error response that is made of it
        scope = scope_of(raw)
        if scope is not None:  # the task of the serving function was another one
            return None if scope.reported else scope
        operation = operation_of_path(raw.url.path)
        return Scope(operation, None, raw) if operation is not None else None

    def exit(self, state: Scope | None, args: tuple[Any, ...], kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is not None and error is None:
            name = type(args[1]).__qualname__
            report(state, name, name, args[1], result.status_code, private=True)
