"""Reading the status files."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.status._folder import candidates, check, load, remove_stale

#: What a reader may rely on.
KEYS = {"ppid", "role", "versions", "service", "mode", "exporters", "hooks", "records", "native"}


def read_all() -> list[dict[str, Any]]:
    """The status of every process of this user that runs, in the order of their start.

    Stale files are removed; those of another version of this package, with other keys, are left out.
    """
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
            if content is not None and content.keys() >= KEYS:
                found.setdefault(content["pid"], content)
    return sorted(found.values(), key=lambda content: (content["start_ticks"], content["pid"]))
