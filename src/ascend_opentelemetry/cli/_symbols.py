"""``ascend-otel symbols``: what a symbols file records, and whether it fits what is installed."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from ascend_opentelemetry import symbols
from ascend_opentelemetry.cli import _table
from ascend_opentelemetry.cli._check import Checker, Status, Verdict, bounds

_PACKAGES = ("vllm", "vllm_ascend")


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser("symbols", help="show or check a symbols file")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="compare a symbols file with what is installed",
        description="Looks each symbol up in the source of the installed vLLM and vllm-ascend; imports neither. "
        "Exit code: 0 ok, 1 something is not recorded as written, 2 nothing could be checked.",
    )
    check.set_defaults(run=run_check)
    show = actions.add_parser("list", help="show what a symbols file records")
    show.set_defaults(run=run_list)
    for action in (check, show):
        action.add_argument(
            "file", nargs="?", metavar="FILE", help="a symbols file; without it, the one that a service would use"
        )
        action.add_argument("--json", action="store_true", help="print JSON")


def run_check(options: argparse.Namespace) -> int:
    """Check each symbol, print, and return the exit code."""
    path, found, problems = _load(options.file)
    checker = Checker()
    with _keeping_garbage():
        verdicts = [checker.check(symbol) for symbol in found]
    versions = {
        name: symbols.installed_version(name) or "unknown version" for name in _PACKAGES if checker.is_installed(name)
    }
    counts = Counter(verdict.status for verdict in verdicts)
    report = {status: counts[status] for status in get_args(Status)}
    if options.json:
        _print_json(
            {
                "file": path,
                "versions": versions,
                "counts": report,
                "symbols": [verdict._asdict() for verdict in verdicts],
                "problems": _as_json(problems),
            }
        )
    else:
        total = ", ".join(f"{count} {status}" for status, count in report.items())
        found_in = ", ".join(f"{name} {versions.get(name, 'not installed')}" for name in _PACKAGES)
        _print([*_verdict_lines(verdicts), *map(str, problems), f"{len(verdicts)} symbols: {total}; {found_in}"])
    if not versions:
        sys.stderr.write("ascend-otel: vLLM is not installed here; run this in the environment of the service\n")
    if not versions or not found:
        return 2
    wrong = counts["unresolved"] + counts["refused"] + len(problems)
    return 1 if wrong or any(verdict.warnings for verdict in verdicts) else 0


def run_list(options: argparse.Namespace) -> int:
    """Print the symbols; the exit code is that of the file: 0 ok, 1 problems, 2 no symbols."""
    path, found, problems = _load(options.file)
    if options.json:
        _print_json({"file": path, "symbols": list(map(_describe, found)), "problems": _as_json(problems)})
    else:
        _print([*_table.lines([("line", "symbol", "records", "versions"), *map(_row, found)]), *map(str, problems)])
    return 2 if not found else 1 if problems else 0


@contextmanager
def _keeping_garbage() -> Generator[None, None, None]:
    """The syntax trees of hundreds of files all stay: looking for garbage among them takes three quarters of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _load(file: str | None) -> tuple[str, list[symbols.Symbol], list[symbols.Problem]]:
    path = file if file is not None else symbols.find(os.environ)
    return str(path), *symbols.load(path)


def _verdict_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    header = ("line", "status", "symbol", "")
    rows = [(str(verdict.line), verdict.status, verdict.symbol, verdict.reason) for verdict in verdicts]
    table = _table.lines([header, *rows])
    yield next(table)
    for line, verdict in zip(table, verdicts, strict=True):
        yield line
        if verdict.nearest:
            yield f"      is {verdict.nearest} meant?"
        yield from (f"      warning: {warning}" for warning in verdict.warnings)
        yield from (f"      note: {note}" for note in verdict.notes)


def _row(symbol: symbols.Symbol) -> tuple[str, str, str, str]:
    entry = _describe(symbol)
    records = f"{entry['kind']} {entry['handler']}"
    if entry["kind"] == "timer":
        records = ": ".join(["timer " + entry["handler"], *filter(None, [", ".join(entry["attributes"])])])
    return str(symbol.line), symbol.target, records, bounds(symbol)


def _describe(symbol: symbols.Symbol) -> dict[str, Any]:
    """A symbol as JSON; ``handler`` of a timer is domain and name of what it records."""
    handler = symbols.resolve_handler(symbol)
    entry: dict[str, Any] = {"line": symbol.line, "symbol": symbol.target}
    if isinstance(handler, symbols.Timer):
        entry |= {"kind": "timer", "handler": f"{handler.domain}/{handler.name}"}
    elif isinstance(handler, symbols.Builtin):
        entry |= {"kind": "built-in", "handler": handler.name}
    else:
        entry |= {"kind": "function", "handler": f"{handler.module}:{handler.function}"}
    return entry | {
        "min_version": symbol.min_version,
        "max_version": symbol.max_version,
        "attributes": {attribute.name: attribute.expr.text for attribute in symbol.attributes},
    }


def _as_json(problems: Sequence[symbols.Problem]) -> list[dict[str, Any]]:
    return [{"line": one.line, "field": one.field, "message": one.message} for one in problems]


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _print(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
