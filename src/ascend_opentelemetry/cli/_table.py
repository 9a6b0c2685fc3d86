"""Rows of text in columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence


def lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line a row, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def counted(names: Sequence[str]) -> str:
    """The names, each once, with its number where there are several."""
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in Counter(names).items())
