from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.support.contract import _attributes, _layout, _requests
from tests.support.contract._database import Database, files, load
from tests.support.contract._violation import Violation


def check(path: str | Path, *, complete: bool = False) -> list[Violation]:
    """Everything in which a native file, or all native files below a folder, break the contract.

    Args:
        path: a file, a ``MMDD-HHMM`` folder, or a ``prof_dir`` with several of them.
        complete: recording was on before the first request and until after the last one, and every process has closed
            its file; then no rid is unknown and no step lacks a half.
    """
    path = Path(path)
    violations = [*_layout.strays(path, complete)] if path.is_dir() else []
    services: dict[Path, list[Database]] = {}
    paths = files(path)
    for file in paths:
        try:
            database = load(file)
        except sqlite3.DatabaseError as error:
            violations.append(Violation("integrity", file, None, f"cannot be read: {error}"))
            continue
        services.setdefault(file.parent, []).append(database)
        for check_file in (*_layout.CHECKS, *_attributes.CHECKS):
            violations += check_file(database)
    for databases in services.values():
        for check_service in _requests.CHECKS:
            violations += check_service(_requests.Service(databases, complete))
    if not paths:
        violations.append(Violation("files", path, None, "there is no ms_service_*.db"))
    elif services and not any(database.slices for databases in services.values() for database in databases):
        violations.append(Violation(42, path, None, "no file has a row, which the analyzer cannot do without"))
    return violations
