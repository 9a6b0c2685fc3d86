"""``this`` of a handler ``(original_func, this, *args, **kwargs)`` in calls that have no positional argument for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def may_lack_this(handler: Callable[..., Any], original: Callable[..., Any]) -> bool:
    """Whether the handler requires a ``this`` that a call of the original may not have: one of a plain function."""
    try:
        wanted = list(inspect.signature(handler).parameters.values())[1:2]
        names = list(inspect.signature(original).parameters)
    except (TypeError, ValueError):  # no Python code
        return False
    if names[:1] in (["self"], ["cls"]):
        return False
    # a parameter of the same name gets its argument by that name
    return any(one.kind in _POSITIONAL and one.default is Parameter.empty and one.name not in names for one in wanted)


def with_this(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler with None for ``this`` where there is none; the original is called without it then."""

    def call(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if args:
            return handler(original, *args, **kwargs)

        @functools.wraps(original)
        def without_this(*given: Any, **named: Any) -> Any:
            return original(*(given[1:] if given and given[0] is None else given), **named)

        return handler(without_this, None, **kwargs)

    return call
