"""A span around each call of a function."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ascend_opentelemetry.recorder import recorder

_logger = logging.getLogger(__name__)


def decorate(start: Callable[[], AbstractContextManager[Any]]) -> Callable[[Any], Any]:
    """Make the decorator.

    Args:
        start: starts the span of one call.

    Returns:
        A decorator that keeps kind and signature of the function; it leaves generator functions as they are, with a
        warning.
    """

    def decorator(function: Any) -> Any:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            _logger.warning(
                "Profiler.span: %s.%s is a generator function, its calls are no spans: call span_start and span_end"
                " inside of it",
                function.__module__,
                function.__qualname__,
            )
            return function
        return functools.wraps(function)(_wrap(function, start))

    return decorator


def _wrap(function: Callable[..., Any], start: Callable[[], AbstractContextManager[Any]]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        async def run(*args: Any, **kwargs: Any) -> Any:
            with start():
                return await function(*args, **kwargs)

        return run

    def call(*args: Any, **kwargs: Any) -> Any:
        if not recorder.on:
            return function(*args, **kwargs)
        with start():
            return function(*args, **kwargs)

    return call
