"""Values as a record may keep them: small, immutable, without a copy from the device."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from types import BuiltinMethodType, MethodType, NoneType
from typing import Any

#: Types that a record keeps as they are.
PLAIN = frozenset({str, int, float, bool, NoneType})

MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 1024, 32, 8

_KINDS = {"Tensor": "torch", "ndarray": "numpy", "generic": "numpy"}
_BRACKETS: tuple[tuple[type, str, str], ...] = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (set, "{", "}"),
    (frozenset, "frozenset({", "})"),
    (deque, "deque([", "])"),
    (type({}.keys()), "dict_keys([", "])"),
    (type({}.values()), "dict_values([", "])"),
    (type({}.items()), "dict_items([", "])"),
)
# these are neither tensors nor have fields, which takes longer to find out than to render a short one
_BUILT_IN = frozenset({dict, *(base for base, _, _ in _BRACKETS)})
#: Of these a short one's own text is the one made here.
_OWN_TEXT = frozenset({dict, list, tuple, set, frozenset})
_fits = MAX_TEXT.__ge__


def safe(value: Any) -> str | int | float | bool | None:
    """Final value of an attribute: plain values and their subclasses as they are, anything else as text."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if type(value) is bool else int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if _kin(value) == "generic":
        value = value.item()  # NumPy's scalars live on the host
    return value if type(value) in PLAIN else text(value)


def text(value: Any) -> str:
    """``str(value)``; of a container, a tensor or an object with fields at most ``MAX_TEXT`` characters."""
    if type(value) in PLAIN:
        return value if type(value) is str else _cut(repr(value), MAX_TEXT)
    return str.__str__(str(value)) if isinstance(value, str) else _cut(_render(value, MAX_TEXT, 0, str), MAX_TEXT)


def number(convert: Callable[[Any], Any], value: Any) -> Any:
    """``convert(value)`` with ``int``, ``float`` or ``bool``.

    Raises:
        TypeError: ``value`` is a tensor: its number would have to be fetched from the device.
    """
    if type(value) not in PLAIN and _kin(value) == "Tensor":
        raise TypeError(f"{convert.__name__}() of a tensor would wait for the device")
    return convert(value)


def view(value: Any) -> Any:
    """Calls ``items``, ``keys`` or ``values`` of a dict; any other value is returned as it is."""
    if type(value) is BuiltinMethodType and isinstance(value.__self__, dict):
        return value()
    return value


def _kin(value: Any) -> str:
    """``Tensor``, ``ndarray`` or ``generic`` for values of torch and NumPy, which are never imported for it."""
    for base in type(value).__mro__:
        if base.__name__ in _KINDS and base.__module__.partition(".")[0] == _KINDS[base.__name__]:
            return base.__name__
    return ""


def _cut(rendered: str, room: int) -> str:
    return rendered if len(rendered) <= room else rendered[: room - 3] + "..."


def _render(value: Any, room: int, depth: int, other: Callable[[Any], str]) -> str:
    """Text of about ``room`` characters; ``other`` makes that of values which are no containers."""
    if isinstance(value, (str, bytes, bytearray)):
        return repr(value[:room])
    kind = type(value)
    if kind in PLAIN:
        return repr(value)
    if kind in _OWN_TEXT and _is_short(value):
        return repr(value)
    kin = "" if kind in _BUILT_IN else _kin(value)
    if kin == "Tensor":
        return f"Tensor(dtype={value.dtype}, shape={tuple(value.shape)}, device={value.device})"
    if kin == "ndarray":
        return f"ndarray(dtype={value.dtype}, shape={tuple(value.shape)})"
    if depth == MAX_DEPTH:
        return "..."
    if kind is MethodType:  # its own text holds that of the object it is bound to, which may be a tensor or a model
        return f"<bound method {getattr(value, '__qualname__', '?')}>"
    names = None if kind in _BUILT_IN else _fields(value)
    if names is not None:
        parts = ((f"{name}=", getattr(value, name, None)) for name in names)
        return f"{type(value).__name__}({_join(parts, room, depth)})"
    if isinstance(value, dict):
        entries = list(islice(value.items(), MAX_ITEMS + 1))
        return (
            f"{{{_join(((_render(key, room, depth + 1, repr) + ': ', item) for key, item in entries), room, depth)}}}"
        )
    for base, opening, closing in _BRACKETS:
        if isinstance(value, base):
            return _sequence(value, opening, closing, room, depth)
    return _cut(other(value), room)


def _is_short(value: Any) -> bool:
    """Whether a built-in container holds a few plain values of bounded size; all in C, since most do."""
    if (
        len(value) > MAX_ITEMS
        or not PLAIN.issuperset(map(type, value))
        or not all(map(_fits, map(sys.getsizeof, value)))
    ):
        return False
    return type(value) is not dict or _is_short(list(value.values()))


def _sequence(value: Any, opening: str, closing: str, room: int, depth: int) -> str:
    # a copy first: the container may change while its elements are rendered
    items = list(islice(value, MAX_ITEMS + 1))
    if type(value).__name__ == "Size" and type(value).__module__ == "torch":
        opening, closing = "torch.Size([", "])"
    elif isinstance(value, (set, frozenset)) and not items:
        return "set()" if isinstance(value, set) else "frozenset()"
    elif isinstance(value, tuple) and len(items) == 1:
        closing = ",)"
    return opening + _join((("", item) for item in items), room, depth) + closing


def _join(parts: Iterable[tuple[str, Any]], room: int, depth: int) -> str:
    rendered: list[str] = []
    for count, (label, item) in enumerate(parts):
        if count == MAX_ITEMS or room <= 0:
            rendered.append("...")
            break
        rendered.append(label + _render(item, room, depth + 1, repr))
        room -= len(rendered[-1]) + 2
    return ", ".join(rendered)


def _fields(value: Any) -> Sequence[str] | None:
    """Names of what a dataclass, msgspec struct or named tuple holds: their own text knows no bound."""
    kind = type(value)
    if isinstance(value, tuple):
        return getattr(kind, "_fields", None)
    if kind.__str__ is object.__str__:
        if dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind) if field.repr]
        return getattr(kind, "__struct_fields__", None)
    return None
