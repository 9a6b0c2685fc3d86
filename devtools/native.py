"""What lies in a folder of native profiling files: ``python -m devtools.native PROF_DIR``."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path


def databases(folder: Path) -> list[Path]:
    """The service database of each process, below any date folder of ``folder``."""
    return sorted(folder.rglob("ms_service_*.db"))


def rows_by_name(database: Path) -> dict[str, int]:
    """Number of rows of the ``slice`` table by name, sorted by name."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        query = "SELECT name, count(*) FROM slice GROUP BY name ORDER BY name"
        return dict(connection.execute(query).fetchall())


def listing(folder: Path) -> Iterator[str]:
    """Lines that name each database with its rows by name."""
    for database in databases(folder):
        counts = rows_by_name(database)
        yield f"{database.relative_to(folder)}  {sum(counts.values())} rows"
        yield from (f"    {count:6}  {name}" for name, count in counts.items())


if __name__ == "__main__":
    print("\n".join(listing(Path(sys.argv[1]))))
