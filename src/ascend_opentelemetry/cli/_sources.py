"""What collects beside the hooks, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ascend_opentelemetry.cli import _table

_COLUMNS = ("source", "processes", "state")


def render(statuses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each source and what it says; processes that say the same share it."""
    roles: dict[tuple[str, str], list[str]] = {}
    for status in statuses:
        for name, said in (status.get("sources") or {}).items():
            if said:
                roles.setdefault((name, _state(said)), []).append(status["role"])
    if roles:
        yield ""
        rows = [(name, _table.counted(who), text) for (name, text), who in roles.items()]
        yield from _table.lines([_COLUMNS, *sorted(rows, key=lambda row: row[0])])


def _state(said: Mapping[str, Any]) -> str:
    rest = dict(said)
    found, version, usable, reason = (rest.pop(key, None) for key in ("found", "version", "usable", "reason"))
    words = ["usable"] if usable else []
    words += [str(reason)] if reason else []
    words += [f"version {version}"] if version else []
    words += [found] if isinstance(found, str) else []
    words += [f"{key} {text}" for key, value in rest.items() if (text := _text(value))]
    return ", ".join(words) or "waiting"


def _text(value: Any) -> str:
    """A value of a status file; nothing for an empty one."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {count}" for key, count in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
