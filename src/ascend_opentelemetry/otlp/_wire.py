"""Protobuf wire format of the OTLP messages: varints, length-delimited fields and ``AnyValue``.

Field numbers are those of ``opentelemetry/proto/common/v1/common.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

_UINT64 = (1 << 64) - 1
_pack_double = struct.Struct("<d").pack


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


#: Most lengths and token counts are small: they are looked up, not computed.
_VARINTS = tuple(_varint(number) for number in range(4096))


def varint(value: int) -> bytes:
    """Return a number >= 0 as a varint."""
    return _VARINTS[value] if value < 4096 else _varint(value)


def signed(value: int) -> bytes:
    """Return an int64 as a varint.

    Raises:
        ValueError: the number needs more than 64 bits.
    """
    if 0 <= value < 4096:
        return _VARINTS[value]
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} does not fit in 64 bits")
    return _varint(value & _UINT64)


def field(tag: int, payload: bytes) -> bytes:
    """Return a length-delimited field; ``tag`` is the tag byte, ``number << 3 | 2``."""
    return b"%c%b%b" % (tag, varint(len(payload)), payload)


def text(value: str) -> bytes:
    """Return UTF-8; what UTF-8 cannot hold (lone surrogates) becomes ``?``."""
    return value.encode("utf-8", "replace")


def any_value(value: Any) -> bytes:
    """Return the body of an ``AnyValue``; None is the empty one.

    Raises:
        TypeError: a value that OTLP has no kind for.
        ValueError: an int that needs more than 64 bits.
    """
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, str):
        return field(0x0A, text(value))
    if isinstance(value, int):
        return b"\x18" + signed(value)
    if isinstance(value, float):
        return b"\x21" + _pack_double(value)
    if isinstance(value, bytes):
        return field(0x3A, value)
    if isinstance(value, Sequence):
        return field(0x2A, b"".join([field(0x0A, any_value(item)) for item in value]))
    if isinstance(value, Mapping):
        return field(0x32, b"".join([field(0x0A, key_value(str(key), item)) for key, item in value.items()]))
    raise TypeError(f"no OTLP value for {type(value).__name__}")


def key_value(key: str, value: Any) -> bytes:
    """Return the body of a ``KeyValue``; raises as `any_value` does."""
    return field(0x0A, text(key)) + field(0x12, any_value(value))
