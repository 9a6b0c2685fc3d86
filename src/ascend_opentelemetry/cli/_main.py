"""The parser; each command is a module with an ``add`` that gives it its options and its function."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ascend_opentelemetry.cli import _completion, _config, _doctor, _npu, _symbols
from ascend_opentelemetry.version import __version__

_COMMANDS = (_doctor, _config, _symbols, _npu, _completion)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ascend-otel", description="Tools of ascend-opentelemetry, the OpenTelemetry distribution for vLLM."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    parser.set_defaults(parser=parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; None: of this process.

    Returns:
        The exit code of the command.
    """
    options = build_parser().parse_args(argv)
    return options.run(options)
