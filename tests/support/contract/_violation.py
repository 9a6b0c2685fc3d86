from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Violation:
    """What breaks the contract and where.

    ``trap`` is the number of a trap of the layout reference, or the name of a layout rule; ``row`` is the
    ``slice.id``, None for what concerns the file.
    """

    trap: int | str
    file: Path
    row: int | None
    message: str

    def __str__(self) -> str:
        where = self.file.name if self.row is None else f"{self.file.name} row {self.row}"
        return f"[{self.trap}] {where}: {self.message}"
