"""What is told of an error: its text, unless that may hold parts of the request."""

from __future__ import annotations

from ascend_opentelemetry.recorder import exception_attributes
from ascend_opentelemetry.semconv import attributes as keys

#: Kinds of errors that refuse a value, and like to show it: of Python and pydantic, and vLLM's for status 4xx.
_REFUSALS = frozenset({"ValueError", "TypeError", "LookupError", "ValidationException", "VLLMClientError"})
#: Refusals that name a model, which is no secret.
_NAMING = "VLLMNotFoundError"
#: Kinds of errors -> HTTP status that vLLM answers with, as ``create_error_response`` has it; others are 500.
_STATUSES = {
    "VLLMNotFoundError": 404,
    "VLLMUnprocessableEntityError": 422,
    "VLLMClientError": 400,
    "ValueError": 400,
    "TypeError": 400,
    "OverflowError": 400,
    "TemplateError": 400,
    "NotImplementedError": 501,
}


def shows_request(error: BaseException | None) -> bool:
    """Whether the text of an error, or of one that led to it, may hold parts of the request (prompt, schema, ...)."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & _REFUSALS and _NAMING not in kinds:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def failure_texts(error: BaseException) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The description of a failed request's status, and the attributes of its ``exception`` event.

    Where the text may hold parts of the request, both tell the type alone.
    """
    name, details = type(error).__qualname__, exception_attributes(error)
    if shows_request(error):
        return name, ((keys.EXCEPTION_TYPE, details[keys.EXCEPTION_TYPE]),)
    return str(error) or name, tuple(details.items())


def status_of(error: BaseException) -> int:
    """HTTP status of the answer to a request for which this was raised; some errors of vLLM and FastAPI name it."""
    for field in ("http_status", "status_code"):
        named = getattr(error, field, None)
        if isinstance(named, int):
            return int(named)
    return next((_STATUSES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _STATUSES), 500)
