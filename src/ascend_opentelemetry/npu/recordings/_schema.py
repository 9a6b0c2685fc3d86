"""What is in a database of a profiler, asked from the database."""

from __future__ import annotations

import sqlite3
from typing import Any


def integer(column: str) -> str:
    """SQL of a column as a whole number: some versions keep times as text."""
    return f"CAST({column} AS INTEGER)"


class Strings(dict[Any, str]):
    """Texts of ``STRING_IDS``; a version may also keep the text itself."""

    def text(self, value: Any) -> str:
        """The text of an id; empty for NULL and for an id that is not there."""
        return value if isinstance(value, str) else self.get(value, "")


class Schema:
    """Tables and columns.

    Args:
        connection: to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        #: Names of the tables.
        self.tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self._columns: dict[str, set[str]] = {}

    def columns(self, table: str) -> set[str]:
        """Names of the columns; empty without the table."""
        if table not in self._columns:
            rows = self.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            self._columns[table] = {row[0] for row in rows}
        return self._columns[table]

    def has(self, table: str, *columns: str) -> bool:
        """Whether the table has these columns."""
        return set(columns) <= self.columns(table) and table in self.tables

    def column(self, name: str, column: str, table: str = "") -> str:
        """SQL of a column of the table ``name``, ``NULL`` where it has none; ``table``: its name in the query."""
        if column not in self.columns(name):
            return "NULL"
        return f"{table}.{column}" if table else column

    def strings(self, *columns: tuple[str, str]) -> Strings:
        """The texts that columns refer to, and no others: call stacks are texts too."""
        if not self.has("STRING_IDS", "id", "value"):
            return Strings()
        used = " UNION ".join(
            f"SELECT {column} FROM {table}"  # noqa: S608 - names from this package
            for table, column in columns
            if self.has(table, column)
        )
        query = f"SELECT id, value FROM STRING_IDS WHERE id IN ({used})" if used else ""  # noqa: S608
        return Strings((row[0], _text(row[1])) for row in self.connection.execute(query))

    def names(self, table: str) -> dict[int, str]:
        """An ``ENUM_`` table: name of each id."""
        if not self.has(table, "id", "name"):
            return {}
        return {row[0]: _text(row[1]) for row in self.connection.execute(f"SELECT id, name FROM {table}")}  # noqa: S608

    def only_device(self, table: str) -> str:
        """The device of all rows; empty where there are several or none."""
        if not self.has(table, "deviceId"):
            return ""
        low, high = self.connection.execute(f"SELECT min(deviceId), max(deviceId) FROM {table}").fetchone()  # noqa: S608
        return str(low) if low is not None and low == high else ""

    def last_row(self, table: str) -> int:
        """The highest row id, at least 1."""
        return self.connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 1  # noqa: S608


def _text(value: Any) -> str:
    """What should be a text; empty for what is none."""
    return value if isinstance(value, str) else ""
