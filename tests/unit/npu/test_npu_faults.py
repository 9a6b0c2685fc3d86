"""Files that cannot be read give one error that names them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from ascend_opentelemetry.npu.recordings._content import Content
from ascend_opentelemetry.npu.recordings._search import Plan
from ascend_opentelemetry.npu.recordings._sink import RecordingError
from tests.unit.npu.recordings import HEAD, INFO, ROW, STRINGS, TASK, tasks, write_csv


def error(path: Path) -> str:
    """What is wrong, without the path that it must begin with."""
    plan = Plan(path)
    if plan.problems:
        (problem,) = plan.problems
    else:
        (source,) = plan.sources
        with pytest.raises(RecordingError) as raised:
            source.read(source.path, Content(), lambda share: None)
        problem = raised.value
    assert problem.path == path
    assert str(problem) == f"{path}: {problem.reason}"
    return problem.reason


@pytest.fixture
def database(write_database) -> Path:
    many = range(2000)
    return write_database(
        {"TASK": (TASK, tasks(*many)), "COMPUTE_TASK_INFO": (INFO, [(0, number, 8, 1, 3) for number in many])}, STRINGS
    )


@pytest.mark.parametrize("suffix", [".db", ".csv", ".json"])
def test_an_empty_file(suffix, tmp_path) -> None:
    path = tmp_path / f"x{suffix}"
    path.touch()
    assert error(path) == "is empty"


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99])
def test_a_database_that_is_cut_off(share, database) -> None:
    os.truncate(database, max(1, int(database.stat().st_size * share)))
    assert "is cut off" in error(database)


def test_a_database_with_damaged_pages(database) -> None:
    content = bytearray(database.read_bytes())
    content[4096 * 2 : -4096] = b"\xa5" * len(content[4096 * 2 : -4096])
    database.write_bytes(content)
    assert error(database).startswith("is damaged (")


def test_a_file_that_is_no_database(tmp_path) -> None:
    path = tmp_path / "msprof_1.db"
    path.write_text("not a database" * 100)
    assert error(path) == "is no SQLite database"


def test_a_database_of_something_else(write_database) -> None:
    path = write_database({"slice": (("id", "ts"), [(1, 2)])})
    assert error(path) == "is a database, but none with operators or memory of an NPU"


def test_a_database_that_is_being_written(database) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert error(database) == "is locked by a program that writes it; try again when it has ended"
        writer.execute("ROLLBACK")
    (source,) = Plan(database).sources
    content = Content()
    source.read(database, content, lambda share: None)
    assert content.kinds == {"operators"}


def test_a_database_whose_write_ahead_log_is_whole_needs_no_file_beside_it(database, tmp_path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    before = sorted(tmp_path.iterdir())
    (source,) = Plan(database).sources
    source.read(database, Content(), lambda share: None)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_and_a_file_that_are_not_there(tmp_path) -> None:
    assert error(tmp_path / "nothing") == "does not exist"
    assert error(tmp_path) == "holds no recording of an NPU"


def test_a_file_of_another_kind(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("x")
    assert error(path) == "is no recording: give a folder, or a .db, .csv or .json file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(database) -> None:
    database.chmod(0)
    assert error(database) == "cannot be read: Permission denied"


def test_a_csv_that_is_cut_off(tmp_path) -> None:
    path = write_csv(tmp_path / "kernel_details.csv", HEAD, ROW, ROW)
    text = path.read_bytes().decode()
    path.write_bytes(text[: text.rindex(',"""32')].encode())
    assert error(path) == "is cut off at line 3; copy or export it again"
    path.write_bytes(text[: text.rindex("1736")].encode())
    assert error(path).startswith("is cut off")
    path.write_bytes(text[: text.rindex("4,4")].encode())
    assert error(path) == "is cut off inside a quoted cell"
    path.write_bytes(text[: text.rindex("AI_VECTOR")].encode() + b"\n")
    assert error(path) == "is cut off: line 3 has fewer cells than the header"


def test_a_csv_of_something_else(tmp_path) -> None:
    path = write_csv(tmp_path / "kernel_details.csv", ["a", "b"], ["1", "2"])
    assert error(path) == "is a csv, but none with operators or memory of an NPU: its columns are a, b, ..."


def test_a_cell_that_is_no_number(tmp_path) -> None:
    path = write_csv(tmp_path / "kernel_details.csv", HEAD, ROW, [*ROW[:4], "soon", *ROW[5:]])
    assert error(path) == "cannot be read at line 3: 'soon' is no number"


def test_a_csv_that_is_binary(tmp_path) -> None:
    path = tmp_path / "kernel_details.csv"
    path.write_bytes(struct.pack("<8d", *range(8)) + b"\xff\xfe")
    assert "cannot be read" in error(path) or error(path) == "is no text in UTF-8; save it as UTF-8, or export it again"


def test_a_unit_that_is_not_known(tmp_path) -> None:
    path = write_csv(tmp_path / "kernel_details.csv", [*HEAD[:3], "Start Time(min)", *HEAD[4:]], ROW)
    assert error(path) == "cannot be read at line 1: the unit 'min' of a column is not known"


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_json_that_is_cut_off(share, tmp_path) -> None:
    path = tmp_path / "trace_view.json"
    event = {"ph": "X", "name": "Add", "ts": "1.5", "dur": 2, "args": {"Task Type": "AI_CORE"}}
    text = json.dumps([event] * 100)
    path.write_text(text[: int(len(text) * share)])
    assert error(path) == "is cut off; copy or export it again"


def test_a_json_that_is_damaged(tmp_path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text('[{"ph": "X"}, {"ph": X}, ' + '{"ph": "X"}, ' * 10)
    assert error(path).startswith("cannot be read: no JSON: ")


@pytest.mark.parametrize("text", ['{"a": {"b": {"c": 1}}}', "[1, 2]", "[]", "{}"])
def test_a_json_of_something_else(text, tmp_path) -> None:
    path = tmp_path / "communication.json"
    path.write_text(text)
    assert error(path) == "is JSON, but no trace and no communication of an NPU"


@pytest.mark.parametrize(
    "text",
    [
        '{"s": {"collective": {"hcom@1": {"Communication Time Info": []}}}}',
        '{"s": {"collective": {"hcom@1": {"Communication Time Info": {"Start Timestamp(us)": [], "Elapse Time(ms)": 1}}}}}',
        "[" + "[" * 100_000,
    ],
)
def test_a_json_with_values_of_another_shape(text, tmp_path) -> None:
    path = tmp_path / "communication.json"
    path.write_text(text)
    assert error(path).startswith(("cannot be read: ", "is cut off"))


def test_an_event_without_a_duration(tmp_path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text(json.dumps([{"ph": "X", "name": "Add", "ts": "1", "args": {"Task Type": "AI_CORE"}}]))
    assert error(path) == "cannot be read: 'dur' is missing"


RAW = "PROF_000001_20251126030000000_ABCDEF"


@pytest.fixture
def raw(tmp_path) -> Path:
    folder = tmp_path / RAW
    (folder / "device_0" / "data").mkdir(parents=True)
    (folder / "host").mkdir()
    return folder


def test_a_raw_folder_without_msprof_says_what_to_run(raw, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert error(raw) == (
        f"is raw, and msprof is not on PATH: where CANN is, run `msprof --export=on --type=db --output={raw}`"
    )


def test_a_raw_folder_is_exported_by_msprof(raw, database, tmp_path, monkeypatch) -> None:
    program = tmp_path / "bin" / "msprof"
    program.parent.mkdir()
    shutil.move(database, tmp_path / "exported")
    program.write_text(f'#!/bin/sh\nfor a; do :; done\n/bin/cp {tmp_path}/exported "${{a#--output=}}/msprof_1.db"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    plan = Plan(tmp_path)
    assert plan.problems == []
    assert [source.path for source in plan.sources] == [raw / "msprof_1.db"]
    assert plan.sources[0].recording == raw


@pytest.mark.parametrize(
    ("script", "reason"), [("echo no licence >&2; exit 3", "exit code 3: no licence"), ("exit 0", "it made no file")]
)
def test_an_export_that_fails_is_told(script, reason, raw, tmp_path, monkeypatch) -> None:
    program = tmp_path / "bin" / "msprof"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert error(raw) == f"is raw, and `msprof --export=on --type=db --output={raw}` did not export it: {reason}"


def test_a_raw_folder_beside_its_result_is_not_exported(raw, monkeypatch) -> None:
    (raw / "mindstudio_profiler_output").mkdir()
    write_csv(raw / "mindstudio_profiler_output" / "op_summary_1.csv", HEAD, ROW)
    monkeypatch.setenv("PATH", "/nowhere")
    plan = Plan(raw)
    assert plan.problems == []
    assert [source.recording for source in plan.sources] == [raw]


def test_a_better_file_that_is_damaged_hides_nothing(database, tmp_path) -> None:
    folder = tmp_path / "x_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    folder.mkdir(parents=True)
    (folder / "ascend_pytorch_profiler_0.db").write_text("broken")
    write_csv(folder / "kernel_details.csv", HEAD, ROW)
    first, second = Plan(tmp_path / "x_ascend_pt").sources
    with pytest.raises(RecordingError):
        first.read(first.path, Content(), lambda share: None)
    plan = Plan(tmp_path / "x_ascend_pt")
    assert plan.hidden(second) == frozenset()
    plan.gave(first, {"operators"})
    assert plan.hidden(second) == {"operators"}
    assert plan.hidden(first) == frozenset()


def test_files_of_other_recordings_are_not_hidden(tmp_path) -> None:
    for name in ("a_ascend_pt", "b_ascend_pt"):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "kernel_details.csv", HEAD, ROW)
        write_csv(tmp_path / name / "op_summary_1.csv", HEAD, ROW)
    plan = Plan(tmp_path)
    assert [(source.recording.name, source.path.name) for source in plan.sources] == [
        (folder, name)
        for folder in ("a_ascend_pt", "b_ascend_pt")
        for name in ("kernel_details.csv", "op_summary_1.csv")
    ]
    plan.gave(plan.sources[0], {"operators", "communication"})
    hidden = [plan.hidden(source) for source in plan.sources]
    assert hidden == [frozenset(), {"operators", "communication"}, frozenset(), frozenset()]


def test_of_exports_by_msprof_the_newest_of_each_thing_counts(tmp_path, monkeypatch) -> None:
    raw = tmp_path / "PROF_000001_20251126030000000_ABC"
    output = raw / "mindstudio_profiler_output"
    output.mkdir(parents=True)
    for name in (
        "op_summary_slice_0_20251126030100.csv", "op_summary_slice_1_20251126030107.csv",
        "op_summary_slice_0_20251126050100.csv", "op_summary_slice_1_20251126050107.csv", "op_statistic_1.csv",
    ):  # fmt: skip
        write_csv(output / name, HEAD, ROW)
    for name in ("msprof_20251126050000.db", "msprof_20251126030000.db"):
        (raw / name).write_text("")
    kept = [
        "msprof_20251126050000.db",
        "op_summary_slice_0_20251126050100.csv", "op_summary_slice_1_20251126050107.csv", "op_statistic_1.csv",
    ]  # fmt: skip
    plan = Plan(tmp_path)
    assert [source.path.name for source in plan.sources] == kept
    assert {older.name: newer.name for older, newer in plan.replaced.items()} == {
        "msprof_20251126030000.db": "msprof_20251126050000.db",
        "op_summary_slice_0_20251126030100.csv": "op_summary_slice_0_20251126050100.csv",
        "op_summary_slice_1_20251126030107.csv": "op_summary_slice_1_20251126050107.csv",
    }
    monkeypatch.chdir(raw)
    assert [source.path.name for source in Plan(Path()).sources] == kept


def test_files_with_times_in_a_folder_of_ones_own_are_recordings_of_their_own(tmp_path) -> None:
    for name in ("msprof_20251126030000.db", "msprof_20251126050000.db"):
        (tmp_path / name).write_text("")
    plan = Plan(tmp_path)
    assert (len(plan.sources), plan.replaced) == (2, {})
