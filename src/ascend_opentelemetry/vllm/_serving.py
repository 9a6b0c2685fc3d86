"""API server: the functions that take the requests of clients."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

from ascend_opentelemetry.vllm._refusals import report_abort, report_error, report_response
from ascend_opentelemetry.vllm._scope import Scope, current_scope, enter_scope, keep_scope, scope_of, wanted

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


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
            scope = self._safely(self._enter, args, kwargs) if wanted.on else None
            try:
                result = await original(*args, **kwargs)
            except Exception as error:
                if scope is not None:
                    self._safely(report_error, scope, error)
                raise
            except CancelledError as left:
                if scope is not None:
                    self._safely(report_abort, scope, left)
                raise
            if scope is None:
                return result
            if isinstance(result, AsyncGenerator):
                return self._stream(scope, result)
            if type(result).__name__ == "ErrorResponse" and not scope.reported:
                self._safely(report_response, scope, result, None)  # older versions make it without ErrorResponse
            return result

        return hook

    async def _stream(self, scope: Scope, chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The engine request of a stream starts with its first chunk, in the task that sends the response."""
        enter_scope(scope)
        scope.streaming = True
        try:
            async for chunk in chunks:
                yield chunk
        except (CancelledError, GeneratorExit) as left:
            self._safely(report_abort, scope, left)
            raise
        finally:
            await chunks.aclose()

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
        outer = current_scope()
        if scope_of(raw) is not None or (outer is not None and outer.body == id(request)):
            return None  # called by another serving function
        operation = self._operation if isinstance(self._operation, str) else self._operation(serving, request)
        scope = Scope(operation, request, raw)
        enter_scope(scope)
        keep_scope(raw, scope)
        return scope
