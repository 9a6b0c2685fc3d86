"""The table of ``docs/reliability.md``: what each fault test injected, what went in and what came out.

``make reliability`` runs the tests that note something and writes the page anew; any other run checks that the page
names the fault.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Folder that gets a file for each note; set by ``make reliability``.
FOLDER = "ASCEND_OTEL_TEST_RELIABILITY"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_HEADER = "| fault | what was done | records in | records out | lost and counted |\n|---|---|---|---|---|\n"


def note(fault: str, done: str, records_in: int, records_out: int, counted: str = "") -> None:
    """Note the outcome of a fault test; call it after the assertions.

    Args:
        fault: a name of its own, e.g. ``collector: absent``.
        done: what the test did, in a few words.
        records_in: spans or rows that an independent count says were made.
        records_out: spans or rows that arrived.
        counted: how the difference was counted and told.
    """
    if folder := os.environ.get(FOLDER):
        row = {"fault": fault, "done": done, "in": records_in, "out": records_out, "counted": counted}
        (Path(folder) / f"{re.sub(r'[^a-z0-9]+', '-', fault.lower())}.json").write_text(json.dumps(row))
        return
    assert f"\n| {fault} |" in PAGE.read_text(), f"{PAGE.name} lacks the fault {fault!r}: run `make reliability`"


def render(rows: Iterable[Mapping[str, object]]) -> str:
    """The table, sorted by fault."""
    lines = sorted(
        f"| {row['fault']} | {row['done']} | {row['in']} | {row['out']} | {row['counted'] or 'nothing'} |\n"
        for row in rows
    )
    return _HEADER + "".join(lines)


def main() -> None:
    """Write the table from the notes of ``$ASCEND_OTEL_TEST_RELIABILITY`` into the page."""
    notes = [json.loads(path.read_text()) for path in Path(os.environ[FOLDER]).glob("*.json")]
    head, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    PAGE.write_text(head + _BEGIN + render(notes) + _END + tail)
    print(f"{PAGE.name}: {len(notes)} faults")


if __name__ == "__main__":
    sys.exit(main())
