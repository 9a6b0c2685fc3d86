"""Files as other versions write them, made by hand."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._statistics import Operator, by_key
from ascend_opentelemetry.npu.operators._windows import KEY
from ascend_opentelemetry.npu.recordings import _csv, _db, _json
from ascend_opentelemetry.npu.recordings._content import Collective, Content
from tests.unit.npu.recordings import (
    HEAD,
    INFO,
    RECORDINGS,
    ROW,
    START,
    STRINGS,
    TASK,
    needs_recordings,
    tasks,
    write_csv,
)

ADD = Operator("Add", "AI_VECTOR_CORE", "")


def read(path: Path, skip=()) -> Content:
    content = Content(skip)
    reader = {".db": _db.read, ".csv": _csv.read, ".json": _json.read}[path.suffix]
    reader(path, content, lambda share: None)
    return content


def operators(content: Content) -> dict[Operator, list[int]]:
    """Count and total ns of each."""
    rows = by_key(content.by_window.rows())[:, [KEY, columns.COUNT, columns.TOTAL]].tolist()
    return {content.operator_keys.keys_by_number[key]: numbers for key, *numbers in rows}


@pytest.mark.parametrize("block", ["blockDim", "blockNum", "block_dim"])
def test_columns_of_no_interest_may_have_any_name(block, write_database) -> None:
    info = (*INFO[:2], block, *INFO[3:])
    path = write_database({"TASK": (TASK, tasks(7)), "COMPUTE_TASK_INFO": (info, [(0, 7, 8, 1, 3)])}, STRINGS)
    assert operators(read(path)) == {Operator("MatMulV3", "AI_CORE", "3"): [1, 50]}


def test_columns_may_stand_in_any_order_and_more_may_be_there(write_database) -> None:
    info = ("hf32Eligible", "opType", "taskType", "opState", "globalTaskId", "name")
    task = ("depth", *reversed(TASK))
    path = write_database(
        {
            "TASK": (task, [(0, *reversed(row)) for row in tasks(7)]),
            "COMPUTE_TASK_INFO": (info, [(1, 3, 1, 2, 7, 0)]),
            "A_TABLE_OF_TOMORROW": (("x",), [(1,)]),
        },
        STRINGS,
    )
    assert operators(read(path)) == {Operator("MatMulV3", "AI_CORE", "3"): [1, 50]}


def test_level0_has_no_types_and_takes_them_from_the_names(write_database) -> None:
    path = write_database(
        {"TASK": (TASK, tasks(7, 8)), "COMPUTE_TASK_INFO": (INFO, [(0, 7, 1, 1, 2), (0, 8, 1, 1, None)])}, STRINGS
    )
    assert operators(read(path)) == {Operator("MatMulV3", "AI_CORE", "3"): [2, 100]}


def test_times_may_be_text_and_columns_missing(write_database) -> None:
    rows = [(str(START), str(START + 5), 9)]
    path = write_database(
        {
            "TASK": (("startNs", "endNs", "globalTaskId"), rows),
            "COMPUTE_TASK_INFO": (("name", "globalTaskId"), [(3, 9)]),
        },
        STRINGS,
    )
    assert operators(read(path)) == {Operator("MatMulV3", "", ""): [1, 5]}


def test_a_database_may_have_one_table_of_what_is_known(write_database) -> None:
    assert read(write_database({"COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3)])}, STRINGS)).kinds == set()
    memory = ("component", "timestamp", "totalReserved", "deviceId")
    path = write_database({"MEMORY_RECORD": (memory, [(3, START, 77, 0)])}, STRINGS, name="msprof_2.db")
    content = read(path)
    assert content.kinds == {"allocator"}
    (key,) = content.sample_keys.keys_by_number
    assert dict(key.attributes) == {
        "npu.memory.component": "MatMulV3",
        "npu.memory.state": "reserved",
        "hw.id": "npu-0",
    }


def test_rows_without_a_time_are_counted(write_database) -> None:
    path = write_database(
        {
            "TASK": (TASK, [*tasks(7), (None, 5, 3, 8, 1)]),
            "COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3), (0, 8, 8, 1, 3)]),
        },
        STRINGS,
    )
    content = read(path)
    assert content.left_out == 1
    assert operators(content) == {Operator("MatMulV3", "AI_CORE", "3"): [1, 50]}


@pytest.mark.parametrize("enumeration", [True, False])
def test_the_data_type_is_an_id_of_its_enumeration_where_there_is_one(enumeration, write_database) -> None:
    operation = ("opName", "startNs", "endNs", "groupName", "dataType", "count", "deviceId")
    tables = {"COMMUNICATION_OP": (operation, [(4, START, START + 9, 5, 6, 100, 2)])}
    if enumeration:
        tables["ENUM_HCCL_DATA_TYPE"] = ("id", "name"), [(4, "INT8"), (6, "FP32")]
    content = read(write_database(tables, STRINGS))
    (key,) = content.collective_keys.keys_by_number
    assert key == Collective("allReduce", "FP32" if enumeration else "FP16", key.group, "2")
    assert content.collectives.rows()[0, columns.AMOUNT] == (400 if enumeration else 200)


def test_bandwidth_without_a_direction_is_a_series_too(write_database) -> None:
    bandwidth = ("deviceId", "timestampNs", "bandwidth", "hbmId", "type")
    content = read(write_database({"HBM": (bandwidth, [(0, START, 5, 1, 3), (0, START, 5, 1, None)])}, STRINGS))
    directions = [dict(key.attributes).get("npu.memory.io.direction") for key in content.sample_keys.keys_by_number]
    assert directions == ["MatMulV3", ""]


def test_bytes_that_are_no_utf8_do_not_stop_a_database(write_database) -> None:
    path = write_database({"TASK": (TASK, tasks(7)), "COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3)])}, STRINGS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE STRING_IDS SET value = CAST(x'4DFF' AS TEXT) WHERE id = 3")
        connection.commit()
    assert [key.type for key in operators(read(path))] == ["M\ufffd"]


def test_cells_hold_quotes_commas_and_newlines(tmp_path) -> None:
    row = [*ROW[:-1], '"1,2;\n3,4;\r\n""5""']
    content = read(write_csv(tmp_path / "kernel_details.csv", HEAD, row, ROW))
    assert operators(content) == {ADD: [2, 107482]}
    assert content.by_window.rows()[0, columns.FIRST] == 1736408883704643212


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_of_a_csv_are_found_by_name(end, tmp_path) -> None:
    order = [4, 6, 3, 0, 5, 2, 1]
    rows = [["Device_id", *(row[index] for index in order), "cube_utilization(%)"] for row in (HEAD, ROW)]
    rows[1][0] = "5"
    content = read(write_csv(tmp_path / "kernel_details.csv", *rows, end=end))
    assert operators(content) == {Operator("Add", "AI_VECTOR_CORE", "5"): [1, 53741]}


def test_op_summary_has_names_of_its_own_and_units_count(tmp_path) -> None:
    head = ["Device_id", "Op Name", "OP Type", "Task Type", "Task Start Time(ms)", "Task Duration(ns)"]
    row = ["2", "MatMulV3_0f3a9c5d7e1b2a4c6d8e_1", "N/A", "AI_CORE", "1736408883704.643212", "53741"]
    content = read(write_csv(tmp_path / "op_summary_1.csv", ["\ufeff" + head[0], *head[1:]], row))
    assert operators(content) == {Operator("MatMulV3", "AI_CORE", "2"): [1, 53741]}
    assert content.by_window.rows()[0, columns.FIRST] == 1736408883704643212


def test_a_row_without_times_is_left_out_and_one_with_a_missing_cell_at_its_end_is_read(tmp_path) -> None:
    short, without = ROW[:-1], [*ROW[:3], "N/A", *ROW[4:]]
    content = read(write_csv(tmp_path / "kernel_details.csv", HEAD, short, without, ROW))
    assert content.left_out == 1
    assert operators(content) == {ADD: [2, 107482]}


def test_steps_of_a_csv_are_windows_of_their_own(tmp_path) -> None:
    rows = [["Step Id", *HEAD], ["4", *ROW], ["5", *ROW], ["", *ROW], ["5", *ROW]]
    rows = read(write_csv(tmp_path / "kernel_details.csv", *rows)).by_step.rows()
    assert rows[:, [0, columns.COUNT]].tolist() == [[4, 1], [5, 2]]


def test_a_kind_that_is_skipped_is_not_read(tmp_path) -> None:
    hcom = ["hcom_allReduce__1_0_1", "hcom_allReduce_", "HCCL", *ROW[3:]]
    path = write_csv(tmp_path / "kernel_details.csv", HEAD, ROW, hcom)
    assert read(path, ["operators"]).kinds == {"communication"}
    assert read(path, ["communication"]).kinds == {"operators"}


def test_a_trace_may_be_an_object_and_its_numbers_decimals(tmp_path) -> None:
    event = {"ph": "X", "name": "aclnnAdd_AddAiCore_Add", "ts": 0, "dur": 53.741, "args": {"Task Type": "AI_CORE"}}
    text = json.dumps({"schemaVersion": 1, "traceEvents": [{"ph": "M"}, event, event], "end": {"a": []}})
    path = tmp_path / "msprof_1.json"
    path.write_text(text.replace('"ts": 0', '"ts": 1736408883704643.212'))
    content = read(path)
    assert operators(content) == {Operator("Add", "AI_CORE", ""): [2, 107482]}
    assert content.by_window.rows()[0, columns.FIRST] == 1736408883704643212


def test_values_longer_than_a_chunk_are_read_whole(tmp_path) -> None:
    event = {
        "ph": "X",
        "name": "Add",
        "ts": "1.5",
        "dur": 2,
        "args": {"Task Type": "AI_CORE", "stack": "x" * 3_000_000},
    }
    path = tmp_path / "trace_view.json"
    path.write_text(json.dumps([event, event]))
    assert operators(read(path)) == {Operator("Add", "AI_CORE", ""): [2, 4000]}


@needs_recordings
def test_a_database_and_a_csv_of_one_run_agree(tmp_path) -> None:
    """The csv is written from the real database as torch_npu does it: us with 3 decimals."""
    path = RECORDINGS / "torch_npu_level1/db/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/ascend_pytorch_profiler_0.db"
    query = (
        "SELECT n.value, o.value, c.value, t.startNs, t.endNs - t.startNs FROM TASK t "
        "JOIN COMPUTE_TASK_INFO i USING (globalTaskId) JOIN STRING_IDS n ON n.id = i.name "
        "JOIN STRING_IDS o ON o.id = i.opType JOIN STRING_IDS c ON c.id = i.taskType"
    )
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    table = write_csv(
        tmp_path / "kernel_details.csv",
        [*HEAD[:5], "Device_id"],
        *([*row[:3], f"{row[3] // 1000}.{row[3] % 1000:03}\t", f"{row[4] / 1000:.3f}", "0"] for row in rows),
    )
    one, other = read(path), read(table)
    assert operators(one) == operators(other)
    assert len(operators(one)) == 33
    assert one.by_window.rows()[:, columns.FIRST :].tolist() == other.by_window.rows()[:, columns.FIRST :].tolist()
