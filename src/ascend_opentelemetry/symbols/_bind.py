"""The attributes of one symbol -> one function that reads their values from a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any

from ascend_opentelemetry.symbols import _render
from ascend_opentelemetry.symbols._expression import Expression, ExpressionError
from ascend_opentelemetry.symbols._symbol import Attribute

_ROOTS = {"args": "args", "kwargs": "kwargs", "this": "args[0]", "self": "args[0]", "return": "result"}
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_VIEWS = frozenset({"items", "keys", "values"})
_CALLS = {
    "len": "len(value)",
    "str": "value if type(value) is str else text(value)",
    "int": "number(int, value)",
    "float": "number(float, value)",
    "bool": "number(bool, value)",
}


def bind(
    attributes: Sequence[Attribute],
    function: Callable[..., Any],
    on_error: Callable[[Attribute, Exception], None],
) -> Callable[[tuple[Any, ...], dict[str, Any], Any], tuple[str | int | float | bool | None, ...]]:
    """Makes the function that evaluates the attributes of a call.

    It takes the positional arguments (``self`` or ``cls`` first), the keyword arguments and the result of a call
    and returns one value per attribute, in order: None for one to be left out, else a str, int, float or bool that
    keeps no argument alive. It raises nothing that ``on_error`` does not raise.

    Args:
        attributes: as ``load`` gives them.
        function: whose signature names the parameters; ``__wrapped__`` is followed.
        on_error: called with an attribute and the reason why it has no value, once for each attribute: here for
            an unknown parameter, later for the first call in which its expression fails.
    """
    attributes = tuple(attributes)
    pending = dict.fromkeys(range(len(attributes)), True)

    def fail(index: int, error: Exception) -> None:
        if pending.pop(index, False):
            # without the traceback, whose frames hold the call's arguments
            on_error(attributes[index], error.with_traceback(None))

    names: dict[str, Any] = {
        "fail": fail,
        "plain": _render.PLAIN,
        "safe": _render.safe,
        "text": _render.text,
        "number": _render.number,
        "view": _render.view,
    }
    parameters = _parameters(function, names)
    lines = ["def values(args, kwargs, result):", " count = len(args)"]
    for index, attribute in enumerate(attributes):
        try:
            body = _body(attribute.expr, parameters, function)
        except ExpressionError as error:
            fail(index, error)
            lines.append(f" value{index} = None")
            continue
        lines.append(" try:")
        lines += [f"  {line}" for line in body]
        # what an object lacks is no error; None lacks everything
        lines += [f"  value{index} = value", " except AttributeError:", f"  value{index} = None"]
        lines += [" except Exception as error:", f"  value{index} = fail({index}, error)"]
    lines.append(f" return ({''.join(f'value{index}, ' for index in range(len(attributes)))})")
    exec(compile("\n".join(lines), "<attributes>", "exec"), names)  # noqa: S102 - only checked names and constants
    return names["values"]


def _body(expression: Expression, parameters: dict[str, str], function: Callable[..., Any]) -> list[str]:
    """Lines that leave the value of an expression in ``value``."""
    source = _ROOTS.get(expression.root) or parameters.get(expression.root)
    if source is None:
        known = ", ".join(parameters) or "unknown"
        name = getattr(function, "__qualname__", repr(function))
        raise ExpressionError(f"{name} has no parameter {expression.root!r}; its parameters: {known}", expression.text)
    lines: list[str] = []
    for kind, operand in expression.steps:
        if kind == "attr":
            source += f".{operand}"
            if operand in _VIEWS:
                source = f"view({source})"
        elif kind == "index" and source in ("args", "kwargs"):
            source += f"[{operand!r}]"
        else:
            lines.append(f"value = {source}")
            step = f"value[{operand!r}]" if kind == "index" else _CALLS[str(operand)]
            source = f"(None if value is None else {step})"
    lines.append(f"value = {source}")
    if not expression.steps or expression.steps[-1][0] != "call":
        lines.append("if type(value) not in plain: value = safe(value)")
    return lines


def _parameters(function: Callable[..., Any], names: dict[str, Any]) -> dict[str, str]:
    """Source text that reads each parameter from ``args`` and ``kwargs``; default values go to ``names``."""
    try:
        signature = inspect.signature(getattr(function, "__func__", function))
    except (TypeError, ValueError):  # a builtin without a signature
        return {}
    sources: dict[str, str] = {}
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        default = f"default{index}"
        required = parameter.default is Parameter.empty
        names[default] = parameter.default
        by_name = f"kwargs[{name!r}]" if required else f"kwargs.get({name!r}, {default})"
        if parameter.kind is Parameter.KEYWORD_ONLY:
            sources[name] = by_name
        elif parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            sources[name] = f"(args[{index}] if count > {index} else {by_name})"
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            sources[name] = f"args[{index}]" if required else f"(args[{index}] if count > {index} else {default})"
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            sources[name] = f"args[{index}:]"
        else:
            names["named"] = frozenset(name for name, one in signature.parameters.items() if one.kind in _BY_NAME)
            sources[name] = "{key: kwargs[key] for key in kwargs if key not in named}"
    return sources
