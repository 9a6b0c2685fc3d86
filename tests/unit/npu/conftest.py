"""Databases made by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Tables = Mapping[str, tuple[Sequence[str], Iterable[Sequence[Any]]]]


@pytest.fixture
def write_database(tmp_path: Path) -> Callable[..., Path]:
    """Makes a database of ``table -> (columns, rows)``; ids of texts are those of ``strings``."""

    def write(tables: Tables, strings: Sequence[str] = (), name: str = "msprof_1.db") -> Path:
        path = tmp_path / name
        words = {"STRING_IDS": (("id", "value"), list(enumerate(strings)))} if strings else {}
        with closing(sqlite3.connect(path)) as connection:
            for table, (columns, rows) in {**tables, **words}.items():
                connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
            connection.commit()
        return path

    return write
