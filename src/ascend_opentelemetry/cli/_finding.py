"""What doctor has found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_EXIT_CODES: dict[Severity, int] = {"error": 2, "warning": 1, "note": 0}


class Finding(NamedTuple):
    """One thing: a line of cause, a line of what to do."""

    severity: Severity
    cause: str
    action: str


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; each finding once."""
    return sorted(dict.fromkeys(findings), key=lambda finding: _ORDER.index(finding.severity))


def exit_code(findings: Iterable[Finding]) -> int:
    """2 where there is an error, 1 where there is a warning, else 0."""
    return max((_EXIT_CODES[finding.severity] for finding in findings), default=0)
