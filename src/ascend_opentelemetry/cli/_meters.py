"""Where metrics go, a line for the processes that say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ascend_opentelemetry.cli import _table

_COLUMNS = ("metrics", "processes", "readers")
#: Whose a meter provider is.
_ORIGINS = {"own": "of this distribution", "given": "given to VLLMInstrumentor", "global": "set by the program"}


def render(statuses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each meter provider and what reads it."""
    roles: dict[tuple[str, str], list[str]] = {}
    for status in statuses:
        if said := status.get("metrics"):
            roles.setdefault(_line(said), []).append(status["role"])
    if roles:
        yield ""
        yield from _table.lines(
            [_COLUMNS, *((provider, _table.counted(who), readers) for (provider, readers), who in roles.items())]
        )


def _line(said: Mapping[str, Any]) -> tuple[str, str]:
    if not said["read"]:
        return "none", "nobody reads metrics: nothing is measured"
    return f"{said['provider']}, {_ORIGINS[said['origin']]}", ", ".join(said["readers"]) or "not known"
