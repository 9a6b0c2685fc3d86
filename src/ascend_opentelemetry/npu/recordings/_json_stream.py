"""JSON read piece by piece: a trace of a gigabyte is one value."""

from __future__ import annotations

import json
from typing import Any, TextIO

_CHUNK = 2**20
_BLANKS = " \t\r\n"
#: Signs shown of what is wrong; no literal, number or escape is longer.
_EXAMPLE = 24
#: Signs of one value, so that a damaged file is not taken into memory.
_MAX_VALUE = 32 * 2**20


class JsonStream:
    """Values and signs of a text in order; decimals stay text.

    Args:
        text: the file.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder(parse_float=str)

    def peek(self) -> str:
        """The next sign that is no blank; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, sign: str) -> bool:
        """Go over a sign if it is the next one."""
        if self.peek() != sign:
            return False
        self._at += 1
        return True

    def expect(self, sign: str) -> None:
        """Go over a sign.

        Raises:
            EOFError: the text ends here.
            ValueError: there is another one.
        """
        if not self.take(sign):
            if not self.peek():
                raise EOFError
            rest = self._buffer[self._at : self._at + _EXAMPLE]
            raise ValueError(f"{sign!r} is missing before {rest!r}")

    def value(self) -> Any:
        """The next whole value.

        Raises:
            EOFError: the text ends inside it.
            ValueError: it is no JSON, or too long.
        """
        if not self.peek():
            raise EOFError
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - _EXAMPLE
                if cut and len(self._buffer) - self._at < _MAX_VALUE and self._more():
                    continue
                if cut and self._ended:
                    raise EOFError from error
                raise ValueError(f"no JSON: {error.msg}") from error
            if end < len(self._buffer) or not self._more():  # a number may go on
                self._at = end
                return value

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = self._text.read(max(_CHUNK, len(self._buffer) - self._at))
        self._ended = not chunk
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)
