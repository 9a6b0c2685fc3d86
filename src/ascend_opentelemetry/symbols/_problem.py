from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something in a symbols file that cannot be used as written.

    Args:
        file: path of the file.
        line: line in it, from 1; 0 when the file as a whole is meant.
        field: the YAML key, empty for an item or a file.
        message: what is wrong and what to do.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)
