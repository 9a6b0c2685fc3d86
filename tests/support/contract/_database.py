"""One native file as it lies on disk, read with nothing but sqlite3 and json."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = (
    "id", "timestamp", "duration", "name", "depth", "track_id", "cat", "args", "cname", "end_time", "flag_id", "pid",
    "tid",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of the table ``slice``; times in ns, ``args`` decoded."""

    file: Path
    pid: int
    tid: int
    id: int
    name: str
    cat: str
    start: int
    duration: int
    args: dict[str, Any]

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def rids(self) -> list[Any]:
        """The request ids of the row, whichever of the four forms of ``rid`` it has; [] without one."""
        rid = self.args.get("rid", [])
        elements = rid if isinstance(rid, list) else [rid]
        return [element.get("rid") if isinstance(element, dict) else element for element in elements]


@dataclass(frozen=True)
class Database:
    """All that the checks need of one file.

    ``slices`` holds every column as stored; ``rows`` only the rows whose ``args`` is a JSON object.
    """

    path: Path
    sql: dict[str, str]
    pragmas: dict[str, Any]
    counts: dict[str, int]
    meta: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    threads: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    rows: list[Row] = field(default_factory=list)

    def named(self, *names: str) -> Iterator[Row]:
        return (row for row in self.rows if row.name in names)


def decode(args: object) -> dict[str, Any] | None:
    """The attributes of a row, None where ``args`` is no JSON object."""
    try:
        value = json.loads(args) if isinstance(args, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _uri(path: Path) -> str:
    # A WAL file opened read-only gets -wal and -shm files beside it, unless it is declared unchanging.
    with path.open("rb") as file:
        wal = file.read(20)[18:20] == b"\x02\x02"
    unchanging = wal and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if unchanging else ''}"


def load(path: Path) -> Database:
    """Read a file of the current layout; tables and columns that it lacks come out empty.

    Raises:
        sqlite3.DatabaseError: no readable SQLite file.
    """
    with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")  # one state of all tables, also while a writer commits

        def select(query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(query)]

        sql = {row["name"]: row["sql"] for row in select("SELECT name, sql FROM sqlite_master")}
        pragmas = {
            name: select(f"PRAGMA {name}")[0].popitem()[1]
            for name in ("integrity_check", "user_version", "application_id", "page_size", "journal_mode")
        }

        def table(name: str, columns: Iterable[str] = ()) -> list[dict[str, Any]]:
            known = {row["name"] for row in select(f"PRAGMA table_info({name})")}
            return select(f"SELECT * FROM {name} ORDER BY rowid") if known.issuperset(columns) and known else []

        database = Database(
            path=path,
            sql=sql,
            pragmas=pragmas,
            counts={name: len(table(name)) for name in ("counter", "flow")},
            meta=table("Meta", ("name", "value")),
            processes=table("process"),
            threads=table("thread", ("track_id",)),
            slices=table("slice", COLUMNS),
        )
    for row in database.slices:
        args = decode(row["args"])
        if args is not None:
            decoded = Row(
                file=path,
                pid=row["pid"],
                tid=row["tid"],
                id=row["id"],
                name=row["name"],
                cat=row["cat"],
                start=row["timestamp"],
                duration=row["duration"],
                args=args,
            )
            database.rows.append(decoded)
    return database


def files(path: Path) -> list[Path]:
    """The file itself, or every ``ms_service_*.db`` below the folder, in order of name."""
    return sorted(path.rglob("ms_service_*.db")) if path.is_dir() else [path]


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file or of a folder's files: files in order of name, rows in order of id.

    Raises:
        AssertionError: there is no file, or a row's ``args`` is no JSON object.
        sqlite3.DatabaseError: no readable SQLite file.
    """
    rows: list[Row] = []
    paths = files(Path(path))
    assert paths, f"no ms_service_*.db below {path}"
    for file in paths:
        database = load(file)
        assert len(database.rows) == len(database.slices), f"{file}: rows without a JSON object as args"
        rows += database.rows
    return rows


def read_meta(path: str | Path) -> dict[str, str]:
    """The Meta rows of one file; the last of a name wins."""
    return {row["name"]: row["value"] for row in load(Path(path)).meta}
