"""Copies of the values that a program hands over: it may change them before the drain reads them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

_MAX_TEXT = 256
_MAX_DEPTH = 8
_WORD = 1 << 63


def text(value: Any) -> str:
    """The text of anything, without lone surrogates; ``""`` of None."""
    if value.__class__ is str and value.isascii():
        return value
    if value is None:
        return ""
    try:
        return str(value).encode(errors="replace").decode()
    except Exception:  # noqa: BLE001 - the program's class may do anything
        return f"<{type(value).__name__}>"


def copy_value(value: Any) -> Any:
    """What JSON can write: str, int of 64 bits, finite float, bool, None, lists and maps of them.

    Numbers of other types become int or float; NaN and infinity become None; everything else becomes its text, cut at
    256 characters.
    """
    try:
        return _copy(value, _MAX_DEPTH)
    except Exception:  # noqa: BLE001 - values are anything, and so is what their methods raise
        return text(value)[:_MAX_TEXT]


def _copy(value: Any, depth: int) -> Any:
    kind = value.__class__
    if kind is str or kind is bool or value is None or (kind is int and -_WORD <= value < _WORD):
        return value
    if depth and isinstance(value, dict):
        return {key if key.__class__ is str else text(key): _copy(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_copy(item, depth - 1) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral) and -_WORD <= (number := int(value)) < _WORD:
        return number
    if isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        return number if math.isfinite(number) else None
    return text(value)[:_MAX_TEXT]
