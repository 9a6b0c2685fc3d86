"""The real ``msserviceprofiler`` as a judge of native files, where a developer has it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest

COMMAND: Final = "ASCEND_OTEL_TEST_ANALYZER"
PARSE_TABLES: Final = ("request", "batch", "kvcache", "forward", "request_status")
SUMMARIES: Final = ("request_summary", "batch_summary", "service_summary")

Kind: TypeAlias = Literal["analyze", "parse"]
Table: TypeAlias = "list[dict[str, str]]"


def analyzer() -> str:
    """Path of the command that ``ASCEND_OTEL_TEST_ANALYZER`` names; skips the test where it is not set."""
    command = os.environ.get(COMMAND)
    if not command:
        pytest.skip(f"{COMMAND} does not name the command msserviceprofiler")
    if not shutil.which(command):
        pytest.fail(f"{COMMAND}={command} is no executable file")
    return command


def run_analyzer(
    kind: Kind, input_path: Path, output_path: Path, *, expected: Iterable[str] | None = None
) -> dict[str, Table]:
    """Run ``msserviceprofiler analyze`` or ``parse`` and read the csv files that it wrote.

    Its exit status says nothing (trap 7), so what counts is the files.

    Args:
        kind: the subcommand; only ``analyze`` writes summaries.
        input_path: the folder with the native files.
        output_path: a folder for the results, which is made.
        expected: tables that must be there; default: all that ``kind`` writes for a service with requests.

    Returns:
        The rows of each csv file, by the name of the file without ``.csv``.

    Raises:
        AssertionError: an expected table or chrome_tracing.json was not written; the message ends with the log.
    """
    command = [analyzer(), kind, "--input-path", str(input_path), "--output-path", str(output_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    if expected is None:
        expected = PARSE_TABLES + (SUMMARIES if kind == "analyze" else ())
    names = ["chrome_tracing.json", *(f"{name}.csv" for name in expected)]
    missing = [name for name in names if not (output_path / name).is_file()]
    assert not missing, f"{kind} wrote no {', '.join(missing)}:\n{done.stdout[-4000:]}"
    return {path.stem: _read(path) for path in sorted(output_path.glob("*.csv"))}


def _read(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
