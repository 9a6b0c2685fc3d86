"""The attributes of one symbol -> one function that reads their values from a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter
from itertools import cycle, repeat
from time import perf_counter_ns
from typing import Any

from ascend_opentelemetry.symbols import _render
from ascend_opentelemetry.symbols._expression import Expression, ExpressionError
from ascend_opentelemetry.symbols._symbol import Attribute

#: What the attributes of a symbol may take of one call, and the excess over it, added up, that ends them; in ns.
BUDGET, MAX_EXCESS = 2_000_000, 50_000_000
#: One call of so many is measured, beginning with the first.
MEASURED = 16

_ROOTS = {"args": "args", "kwargs": "kwargs", "this": "args[0]", "self": "args[0]", "return": "result"}
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_VIEWS = frozenset({"items", "keys", "values"})
_HEAD = [
    "def values(args, kwargs, result):",
    " started = next(turns)",
    " if started:",
    "  if off: return nothing",
    "  started = clock()",
]
_CONVERSIONS = {
    "str": "text(value)",
    "int": "number(int, value)",
    "float": "number(float, value)",
    "bool": "number(bool, value)",
}


def bind(
    attributes: Sequence[Attribute],
    function: Callable[..., Any],
    on_error: Callable[[Attribute, Exception], None],
    on_slow: Callable[[float], None] = lambda _: None,
) -> Callable[[tuple[Any, ...], dict[str, Any], Any], tuple[str | int | float | bool | None, ...]]:
    """Makes the function that evaluates the attributes of a call.

    It takes the positional arguments (``self`` or ``cls`` first), the keyword arguments and the result of a call
    and returns one value per attribute, in order: None for one to be left out, else a str, int, float or bool that
    keeps no argument alive. It raises nothing that ``on_error`` and ``on_slow`` do not raise. Attributes that take too
    long, again and again, are off from then on: None.

    Args:
        attributes: as ``load`` gives them.
        function: whose signature names the parameters; ``__wrapped__`` is followed.
        on_error: called with an attribute and the reason why it has no value, once for each attribute: here for
            an unknown parameter, later for the first call in which its expression fails.
        on_slow: called once, when the attributes are switched off, with the seconds that they took of that call.
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
        "nothing": (None,) * len(attributes),
    }
    _Budget(names, on_slow)
    parameters = _parameters(function, names)
    lines: list[str] = []
    for index, attribute in enumerate(attributes):
        try:
            body = _body(attribute.expr, f"value{index}", parameters, function)
        except ExpressionError as error:
            fail(index, error)
            lines.append(f" value{index} = None")
            continue
        lines.append(" try:")
        lines += [f"  {line}" for line in body]
        # what an object lacks is no error; None lacks everything
        lines += [" except AttributeError:", f"  value{index} = None"]
        lines += [" except Exception as error:", f"  value{index} = fail({index}, error)"]
    lines.append(" if started: spent(clock() - started)")
    lines.append(f" return ({''.join(f'value{index}, ' for index in range(len(attributes)))})")
    exec(compile("\n".join([*_HEAD, *lines]), "<attributes>", "exec"), names)  # noqa: S102 - only checked names and constants
    return names["values"]


class _Budget:
    """Measures calls of a function that ``bind`` made, and switches it off.

    Args:
        names: the globals of that function, which get ``turns``, ``clock``, ``spent`` and ``off``.
        on_slow: as of ``bind``.
    """

    def __init__(self, names: dict[str, Any], on_slow: Callable[[float], None]) -> None:
        self._names = names
        self._on_slow = on_slow
        self._excess = 0
        self._some = cycle([True] + [False] * (MEASURED - 1))
        self._all = repeat(True)
        names.update(turns=self._some, clock=perf_counter_ns, spent=self._spent, off=False)

    def _spent(self, took: int) -> None:
        if took <= BUDGET and not self._excess:
            return
        # a single long call proves nothing: its thread may have waited for others
        self._excess = max(0, self._excess + min(took, MAX_EXCESS) - BUDGET)
        self._names["turns"] = self._all if self._excess else self._some
        if self._excess >= MAX_EXCESS and not self._names["off"]:
            self._names["off"] = True
            self._on_slow(took / 1e9)


def _body(expression: Expression, target: str, parameters: dict[str, str], function: Callable[..., Any]) -> list[str]:
    """Lines that leave the value of an expression in ``target``; they use ``value``."""
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
            if kind == "index":
                source = f"None if value is None else value[{operand!r}]"
            elif operand == "len":
                source = "None if value is None else len(value)"
            else:
                source = (
                    f"value if type(value) is {operand} else None if value is None else {_CONVERSIONS[str(operand)]}"
                )
            source = f"({source})"
    if expression.steps and expression.steps[-1][0] == "call":
        return [*lines, f"{target} = {source}"]
    return [*lines, f"value = {source}", f"{target} = value if type(value) in plain else safe(value)"]


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
            sources[name] = f"(args[{index}] if len(args) > {index} else {by_name})"
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            sources[name] = f"args[{index}]" if required else f"(args[{index}] if len(args) > {index} else {default})"
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            sources[name] = f"args[{index}:]"
        else:
            names["named"] = frozenset(name for name, one in signature.parameters.items() if one.kind in _BY_NAME)
            sources[name] = "{key: kwargs[key] for key in kwargs if key not in named}"
    return sources
