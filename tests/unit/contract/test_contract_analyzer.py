"""The real analyzer, where there is one, agrees with the recorded output and with the contract."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.support.analyzer import COMMAND, PARSE_TABLES, SUMMARIES, Kind, run_analyzer
from tests.support.contract.example import API_DB, CORE_DB, WORKER_DB, Change, add, build_service, drop, set_column, sql

SAMPLE = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "native" / "native_sample"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no shared/data/native beside the repository")
@pytest.mark.parametrize("kind", ["analyze", "parse"])
def test_the_sample(tmp_path: Path, kind: Kind) -> None:
    tables = run_analyzer(kind, SAMPLE / "input_slice", tmp_path / "output")
    recorded = SAMPLE / f"out_{kind}_slice"
    assert tables.keys() == {*PARSE_TABLES, *(SUMMARIES if kind == "analyze" else ())}
    for name, table in tables.items():
        with (recorded / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            assert table == list(csv.DictReader(file)), name
    trace = json.loads((tmp_path / "output" / "chrome_tracing.json").read_text())
    assert trace == json.loads((SAMPLE / "out_analyze_slice" / "chrome_tracing.json").read_text())


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return build_service(tmp_path / "1009-0853")


def test_a_folder_without_violations(trace: Path, tmp_path: Path) -> None:
    tables = run_analyzer("parse", trace.parent, tmp_path / "output")
    assert [
        (row["http_rid"], row["recv_token_size"], row["reply_token_size"], row["cache_hit_rate"])
        for row in tables["request"]
    ] == [("cmpl-a", "8.0", "2.0", "0.5"), ("cmpl-b", "5.0", "2.0", "N/A")]
    # httpReq to detokenize, Enqueue to Dequeue; the analyzer counts in steps of 0.25 us
    for column, expected in (("first_token_latency(ms)", [11, 21]), ("queue_wait_time(ms)", [1.5, 8.5])):
        assert [float(row[column]) for row in tables["request"]] == pytest.approx(expected, abs=0.0005), column
    assert [row["batch_type"] for row in tables["batch"] if row["name"] == "modelExec"] == [
        "Prefill",
        "Prefill, Decode",
        "Decode",
    ]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(add(API_DB, 1, depth=3), id="trap_01"),
        pytest.param(add(API_DB, 1, event="x"), id="trap_02"),
        pytest.param(add(API_DB, 1, **{"from": "x"}), id="trap_03"),
        pytest.param(drop(CORE_DB, 6, "rid"), id="trap_04"),
        pytest.param(set_column(WORKER_DB, 4, "args", "NULL"), id="trap_08"),
    ],
)
def test_a_fatal_trap_is_told_by_the_missing_files(trace: Path, tmp_path: Path, change: Change) -> None:
    change(trace)
    with pytest.raises(AssertionError, match=r"^parse wrote no chrome_tracing.json, request.csv"):
        run_analyzer("parse", trace.parent, tmp_path / "output")


def test_fewer_tables_where_a_file_is_ignored(trace: Path, tmp_path: Path) -> None:
    sql(WORKER_DB, "DROP TABLE Meta")(trace)
    with pytest.raises(AssertionError, match=r"^parse wrote no forward.csv:"):
        run_analyzer("parse", trace.parent, tmp_path / "output")
    tables = run_analyzer("parse", trace.parent, tmp_path / "again", expected=["request", "batch"])
    assert "forward" not in tables
    assert len(tables["request"]) == 2


def test_without_the_command_a_test_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{COMMAND} does not name"):
        run_analyzer("parse", tmp_path, tmp_path)


def test_a_wrong_command_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(COMMAND, str(tmp_path / "nothing"))
    with pytest.raises(pytest.fail.Exception, match=f"{COMMAND}=.*nothing is no executable file"):
        run_analyzer("parse", tmp_path, tmp_path)
