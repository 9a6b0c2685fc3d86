"""``ascend-otel npu``: recordings of NPU profilers."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.cli import _npu_import, _table
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
    importer.set_defaults(run=_ending_well(run_import))
    top = actions.add_parser(
        "top",
        help="print operators by time",
        description="Operators and collectives of all files, longest first. Exit code: 0 all is read, 2 a file could "
        "not be read.",
    )
    top.add_argument("--by", choices=_BY, default="type", help="what is summed up (default: type)")
    top.add_argument("--limit", type=_count, default=_LIMIT, help=f"number of lines (default: {_LIMIT}; 0: all)")
    top.add_argument("--json", action="store_true", help="print JSON")
    top.set_defaults(run=_ending_well(run_top))
    for action in (importer, top):
        action.add_argument("path", metavar="PATH", type=Path, help="a folder, which is searched, or a file")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _ending_well(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that says nothing more when its reader has gone, or when it is interrupted."""

    def guarded(options: argparse.Namespace) -> int:
        try:
            code = run(options)
            sys.stdout.flush()
        except BrokenPipeError:  # of `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            sys.stderr.write("ascend-otel: interrupted\n")
            return 128 + signal.SIGINT
        return code

    return guarded


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
    sys.stdout.write("\n".join([*text, f"{kinds}{total} operators in {files} file{'s' * (files != 1)}"]) + "\n")


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
