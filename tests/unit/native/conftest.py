from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import NativeSink, ProfileConfig
from ascend_opentelemetry.native._session import SESSION_VARIABLE
from ascend_opentelemetry.recorder._record import RecordType

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"


@pytest.fixture
def golden() -> Path:
    path = SHARED / "data" / "native" / "native_golden"
    if not path.is_dir():
        pytest.skip("the golden native files are not beside this checkout")
    return path


@pytest.fixture(autouse=True)
def _own_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, "")
    monkeypatch.delenv(SESSION_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Profile:
    """A sink, its config file, and what became of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "config.json"
        self.changes: list[ProfileConfig | None] = []
        self.sink: NativeSink

    def config(self, enable: Any = 1, **fields: Any) -> None:
        self.path.write_text(json.dumps({"enable": enable, "prof_dir": str(self.folder / "prof"), **fields}, indent=4))

    def start(self, enable: Any = 1, **fields: Any) -> NativeSink:
        self.config(enable, **fields)
        self.sink = NativeSink(str(self.path), on_change=self.changes.append)
        return self.sink

    def tick(self) -> None:
        """A commit that looks at the file whatever the clock says."""
        self.sink._window._due = 0.0
        self.sink.commit()

    def record(self, record_type: RecordType, *values: Any, start: int = 0, duration: int = 5) -> None:
        start = start or time.time_ns()
        end = start + duration
        self.sink.write([(record_type, start, end, threading.get_ident(), None, values, None)])

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("ms_service_*.db"))

    def rows(self, query: str = "SELECT name FROM slice ORDER BY id", file: Path | None = None) -> list[Any]:
        connection = sqlite3.connect(file or self.files[0])
        try:
            found = connection.execute(query).fetchall()
        finally:
            connection.close()
        return [row[0] if len(row) == 1 else row for row in found]


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile(tmp_path)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait
