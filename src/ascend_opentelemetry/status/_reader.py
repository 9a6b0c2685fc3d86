"""Reading the status files."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.status._folder import candidates, check, load, remove_stale


def read_all() -> list[dict[str, Any]]:
    """The status of every process of this user that runs, in the order of their start; stale files are removed."""
    found: dict[int, dict[str, Any]] = {}
    for folder in candidates():
        try:
            check(folder)
            remove_stale(folder)
            paths = sorted(folder.glob("*.json"))
        except OSError:
            continue
        for path in paths:
            content = load(path)
            if content is not None:
                found.setdefault(content["pid"], content)
    return sorted(found.values(), key=lambda content: (content["start_ticks"], content["pid"]))
