"""The header of a csv: columns by name, whatever their order, case and unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_NUMBER = re.compile(r"[0-9]+")
#: Of the number of a device.
_MAX_DIGITS = 5
_HEADING = re.compile(r"^\s*(.*?)\s*(?:\(([A-Za-z]+)\))?\s*$")


class Column(NamedTuple):
    """Where it is, and its unit in lower case: ``us`` of ``Duration(us)``, empty without one."""

    at: int
    unit: str


class Header:
    """The first row.

    Args:
        cells: of the row.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self.names = [cell.strip() for cell in cells]
        self._columns: dict[str, Column] = {}
        for index, cell in enumerate(cells):
            found = _HEADING.match(cell)
            name, unit = (found[1], found[2] or "") if found else (cell, "")
            self._columns.setdefault(name.lower(), Column(index, unit.lower()))

    def find(self, *names: str) -> Column | None:
        """The first of these columns that is there; names without their units."""
        return next((self._columns[name.lower()] for name in names if name.lower() in self._columns), None)


@lru_cache(maxsize=256)
def device_number(cell: str) -> str:
    """``0`` of ``0`` and ``NPU:0``; empty for a cell that names none, also by -1 or its 32 bits without a sign."""
    found = _NUMBER.search(cell)
    if found is None or cell.lstrip().startswith("-") or len(found[0]) > _MAX_DIGITS:
        return ""
    return str(int(found[0]))
