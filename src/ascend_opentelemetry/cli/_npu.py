"""``ascend-otel npu``: recordings of NPU profilers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.cli import _npu_import, _npu_output, _table
from ascend_opentelemetry.cli._npu_output import counted
from ascend_opentelemetry.cli._npu_reading import Reading

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.recordings._top import Line

_LIMIT = 20
_BY = ("type", "name", "core")


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser("npu", help="read recordings of NPU profilers")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    importer = actions.add_parser(
        "import",
        help="send recordings as metrics and events with their original times",
        description="Sends to the endpoint of the OTEL_EXPORTER_OTLP_ variables. A file that was sent there is not sent "
        "again. Exit code: 0 all is sent, 2 a file could not be read or sent.",
    )
    importer.add_argument("--json", action="store_true", help="print JSON lines, send nothing")
    importer.add_argument("--again", action="store_true", help="send files again that were sent")
    importer.set_defaults(run=_npu_output.ending_well(run_import))
    top = actions.add_parser(
        "top",
        help="print operators by time",
        description="Operators and collectives of all files, longest first. Exit code: 0 all is read, 2 a file could "
        "not be read.",
    )
    top.add_argument("--by", choices=_BY, default="type", help="what is summed up (default: type)")
    top.add_argument("--limit", type=_count, default=_LIMIT, help=f"number of lines (default: {_LIMIT}; 0: all)")
    top.add_argument("--json", action="store_true", help="print JSON")
    top.set_defaults(run=_npu_output.ending_well(run_top))
    for action in (importer, top):
        action.add_argument("path", metavar="PATH", type=_path, help="a folder, which is searched, or a file")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines; 0 prints all")
    return int(text)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty: name a folder or a file")
    return Path(text)


def run_import(options: argparse.Namespace) -> int:
    """Send, or print, what the recordings hold."""
    return _npu_import.run(options.path, as_json=options.json, again=options.again)


def run_top(options: argparse.Namespace) -> int:
    """Print the operators."""
    from ascend_opentelemetry.npu.recordings._top import Top

    reading = Reading(options.path)
    whole = Top(options.by)
    files: list[str] = []
    for source, hidden in reading.sources():
        top = Top(options.by, hidden)
        if reading.read(source, top):
            reading.gave(source, top.kinds)
            whole.update(top)
            files += [str(source.path)] if top.kinds else []
    lines = whole.lines()
    shown = lines[: options.limit or None]
    if options.json:
        report = {
            "by": options.by,
            "files": files,
            "left_out": whole.left_out,
            "problems": [{"file": str(problem.path), "reason": problem.reason} for problem in reading.problems],
            "operators": [_as_json(line, options.by) for line in shown],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    elif files or not reading.problems:
        _print(lines, shown, options.by, len(files))
    return reading.exit_code


def _print(lines: Sequence[Line], shown: Sequence[Line], by: str, files: int) -> None:
    cores = [] if by == "core" else ["core type"]
    header = [
        by if by != "core" else "core type",
        *cores,
        "count",
        "total ms",
        "share",
        "min us",
        "median us",
        "max us",
    ]
    rows = [header]
    for line in shown:
        median = "-" if line.median is None else f"{line.median / 1e3:.3f}"
        numbers = [str(line.count), f"{line.total / 1e6:.3f}", f"{line.share:.1%}", f"{line.min / 1e3:.3f}", median]
        label = [line.label] if by == "core" else [line.label, ", ".join(line.cores)]
        rows.append([*label, *numbers, f"{line.max / 1e3:.3f}"])
    text = [*_table.lines(rows)] if lines else []
    total = sum(line.count for line in lines)
    kinds = f"{len(shown)} of {len(lines)} lines, " if len(shown) < len(lines) else ""
    sys.stdout.write("\n".join([*text, f"{kinds}{counted(total, 'operator')} in {counted(files, 'file')}"]) + "\n")


def _as_json(line: Line, by: str) -> dict[str, Any]:
    return {
        by: line.label,
        "core_types": list(line.cores),
        "count": line.count,
        "total_ns": line.total,
        "share": round(line.share, 6),
        "min_ns": line.min,
        "median_ns": line.median,
        "max_ns": line.max,
    }
