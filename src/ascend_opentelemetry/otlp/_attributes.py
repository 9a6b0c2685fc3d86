"""Attributes as ``KeyValue`` fields: bytes are kept per key, and per value where values repeat.

``keys[key][type(value)][value]`` is the whole field. The type is looked up before the value,
because 1, 1.0 and True are one dict key but three OTLP kinds.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ascend_opentelemetry.otlp._wire import any_value, field, signed, text, varint

_logger = logging.getLogger(__name__)

_MAX_KEYS = 2048
_MAX_VALUES = 256
_MAX_TEXT = 64


class _Values(Protocol):
    def __getitem__(self, value: Any, /) -> bytes: ...


class _Plain:
    """Values of one key and type that are encoded each time."""

    __slots__ = ("_key",)

    def __init__(self, key: AttributeKey) -> None:
        self._key = key

    def __getitem__(self, value: Any) -> bytes:
        return self._key.encode(value)


class _Floats:
    """Floats are packed each time: 0.0 and -0.0 are one dict key."""

    __slots__ = ("_head", "_pack")

    def __init__(self, key: AttributeKey) -> None:
        self._head = key.encode(0.0)[:-8]
        self._pack = struct.Struct(f"<{len(self._head)}sd").pack

    def __getitem__(self, value: float) -> bytes:
        return self._pack(self._head, value)


class _Ints(dict[int, bytes]):
    """Ints of one key, the last few hundred of them ready."""

    __slots__ = ("_heads", "_key")

    def __init__(self, key: AttributeKey) -> None:
        self._key = key
        #: By length of the varint: what stands before it.
        self._heads = [b""] + [key.encode((1 << 7 * size) - 1)[:-size] for size in range(1, 10)]

    def __missing__(self, value: int) -> bytes:
        if value < 0 or value >> 63:
            return self._key.encode(value)
        digits = signed(value)
        encoded = self._heads[len(digits)] + digits
        if len(self) >= _MAX_VALUES:
            self.clear()
        self[value] = encoded
        return encoded


class _Texts(dict[str, bytes]):
    """Strings of one key, the last few hundred short ones ready."""

    __slots__ = ("_key",)

    def __init__(self, key: AttributeKey) -> None:
        self._key = key

    def __missing__(self, value: str) -> bytes:
        encoded = self._key.encode(value)
        if len(value) <= _MAX_TEXT:
            if len(self) >= _MAX_VALUES:
                self.clear()
            self[value] = encoded
        return encoded


class AttributeKey(dict[type, _Values]):
    """One attribute key: type of a value -> what encodes values of that type.

    Args:
        tag: tag byte of the attribute field in the message that holds it.
        key: name of the attribute.
    """

    __slots__ = ("_head", "_name", "_tag", "_warned")

    def __init__(self, tag: int, key: str) -> None:
        self._name = key
        self._tag = tag
        self._head = field(0x0A, text(key))
        self._warned = False

    def __missing__(self, cls: type) -> _Values:
        values: _Values
        if cls is type(None):
            values = {None: b""}  # an attribute without a value is left out
        elif cls is bool:
            values = {True: self.encode(True), False: self.encode(False)}
        elif cls is int:
            values = _Ints(self)
        elif cls is str:
            values = _Texts(self)
        elif cls is float:
            values = _Floats(self)
        else:
            values = _Plain(self)
        self[cls] = values
        return values

    def encode(self, value: Any) -> bytes:
        """Return the field; empty, with one warning a key, for a value that OTLP cannot hold."""
        try:
            body = any_value(value)
        except Exception as error:  # noqa: BLE001 - values are of any kind
            if not self._warned:
                self._warned = True
                _logger.warning(
                    "Attribute %r is left out of OTLP spans where its value cannot be encoded: %s. "
                    "Record str, int, float, bool, bytes, or lists and maps of them.",
                    self._name,
                    error,
                )
            return b""
        size = varint(len(body))
        return b"%c%b%b\x12%b%b" % (
            self._tag,
            varint(len(self._head) + 1 + len(size) + len(body)),
            self._head,
            size,
            body,
        )


class AttributeKeys(dict[str, AttributeKey]):
    """The attribute keys of one kind of message.

    Args:
        tag: tag byte of the attribute field in that message.
    """

    __slots__ = ("_tag",)

    def __init__(self, tag: int) -> None:
        self._tag = tag

    def __missing__(self, key: str) -> AttributeKey:
        if len(self) >= _MAX_KEYS:
            self.clear()
        self[key] = entry = AttributeKey(self._tag, key)
        return entry

    def encode(self, items: Iterable[tuple[str, Any]]) -> bytes:
        """Return the attribute fields of pairs whose keys differ."""
        return b"".join([self[key][value.__class__][value] for key, value in items])

    def encode_mapping(self, attributes: Mapping[str, Any] | None) -> bytes:
        """Return the attribute fields of a mapping."""
        return self.encode(attributes.items()) if attributes else b""
