"""Recordings with content that nobody would write on purpose: what can be is read, the rest is counted or refused."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.resources import Resource

from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._statistics import Operator, by_key
from ascend_opentelemetry.npu.operators._windows import KEY
from ascend_opentelemetry.npu.recordings import _csv, _db, _json
from ascend_opentelemetry.npu.recordings._content import Content
from ascend_opentelemetry.npu.recordings._info import Info, info
from ascend_opentelemetry.npu.recordings._otlp import _log_record, _metrics_data
from ascend_opentelemetry.npu.recordings._search import Plan
from ascend_opentelemetry.npu.recordings._sink import OperatorTotal, RecordingError
from ascend_opentelemetry.npu.recordings._telemetry import Histogram, events, points
from ascend_opentelemetry.npu.recordings._top import Top
from tests.unit.npu.recordings import HEAD, INFO, ROW, START, STRINGS, TASK, tasks, write_csv

READERS = {".db": _db.read, ".csv": _csv.read, ".json": _json.read}


def read(path: Path, sink: Any = None) -> Any:
    sink = sink or Content()
    READERS[path.suffix](path, sink, lambda share: None)
    return sink


def refusal(path: Path) -> str:
    with pytest.raises(RecordingError) as raised:
        read(path)
    return raised.value.reason


def operators(content: Content) -> dict[Operator, list[int]]:
    """Count and total ns of each."""
    rows = by_key(content.by_window.rows())[:, [KEY, columns.COUNT, columns.TOTAL]].tolist()
    return {content.operator_keys.keys_by_number[key]: numbers for key, *numbers in rows}


@pytest.mark.parametrize(
    ("start", "duration"),
    [
        (ROW[3], "-5"), ("0", "5"), ("-1736408883704643.212", "5"), ("9223372036854775", "5"), (ROW[3], "9007199254740.992"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_are_left_out_and_spoil_no_sum(start, duration, tmp_path) -> None:
    row = [*ROW[:3], start, duration, *ROW[5:]]
    path = write_csv(tmp_path / "kernel_details.csv", HEAD, *[row] * 3, ROW)
    content = read(path)
    assert content.left_out == 3
    assert operators(content) == {Operator("Add", "AI_VECTOR_CORE"): [1, 53741]}
    top = read(path, Top("type"))
    assert top.left_out == 3
    assert [(line.count, line.min, line.total) for line in top.lines()] == [(1, 53741, 53741)]


def test_an_operator_that_took_no_time_counts(tmp_path) -> None:
    content = read(write_csv(tmp_path / "kernel_details.csv", HEAD, [*ROW[:4], "0", *ROW[5:]]))
    assert (content.left_out, operators(content)) == (0, {Operator("Add", "AI_VECTOR_CORE"): [1, 0]})


def test_a_task_that_has_not_ended_is_left_out(write_database) -> None:
    path = write_database(
        {
            "TASK": (TASK, [*tasks(7), (START, 0, 3, 8, 1)]),
            "COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3), (0, 8, 8, 1, 3)]),
        },
        STRINGS,
    )
    content = read(path)
    assert (content.left_out, operators(content)) == (1, {Operator("MatMulV3", "AI_CORE", "3"): [1, 50]})


def test_statistics_that_cannot_be_are_left_out(tmp_path) -> None:
    head = ["OP Type", "Core Type", "Count", "Total Time(us)", "Min Time(us)", "Max Time(us)"]
    rows = [["Add\x1b[2J", "AI_CORE", "2", "3", "1", "2"], ["Mul", "AI_CORE", "-2", "3", "1", "2"],
            ["Mul", "AI_CORE", "2", f"{'9' * 30}.0", "1", "2"]]  # fmt: skip
    content = read(write_csv(tmp_path / "op_statistic.csv", head, *rows))
    assert content.totals == [OperatorTotal("Add\\x1b[2J", "AI_CORE", "", 2, 3000, 1000, 2000)]
    assert content.left_out == 2


def test_an_id_of_a_step_that_is_none_is_no_step(tmp_path) -> None:
    rows = [["Step Id", *HEAD], ["9" * 30, *ROW], ["-3", *ROW], ["4", *ROW]]
    content = read(write_csv(tmp_path / "kernel_details.csv", *rows))
    assert content.by_step.rows()[:, [0, columns.COUNT]].tolist() == [[4, 1]]
    assert content.by_window.rows()[:, columns.COUNT].sum() == 3


@pytest.mark.parametrize("number", [-1, 4294967295, None, "\x1b[m", "host"])
def test_a_device_that_is_none_has_no_name(number, write_database, tmp_path) -> None:
    row = (*tasks(7)[0][:2], number, 7, 1)
    tables = {
        "TASK": (TASK, [row]),
        "COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3)]),
        "COMMUNICATION_OP": (("opName", "startNs", "endNs"), [(4, START, START + 1)]),
        "NPU_MEM": (("type", "hbm", "timestampNs", "deviceId"), [("app", 1, START, number)]),
        "OP_MEMORY": (("size", "allocationTime", "releaseTime", "deviceId"), [(1, START, START + 1, number)]),
    }
    found = list(points(read(write_database(tables, STRINGS))))
    assert {point.metric.name for point in found} >= {
        "npu.operator.count", "npu.communication.duration", "npu.process.memory.usage", "npu.allocator.allocations",
    }  # fmt: skip
    assert [point for point in found if "hw.id" in dict(point.attributes)] == []
    path = write_csv(tmp_path / "kernel_details.csv", [*HEAD, "Device_id"], [*ROW, "" if number is None else number])
    assert [key.device for key in operators(read(path))] == [""]


def test_a_number_of_a_device_is_the_same_however_it_is_written(tmp_path) -> None:
    rows = [[*ROW, device] for device in ("3", "03", " 3\t", "NPU:3")]
    path = write_csv(tmp_path / "kernel_details.csv", [*HEAD, "Device_id"], *rows)
    assert [(key.device, numbers[0]) for key, numbers in operators(read(path)).items()] == [("3", 4)]


def test_a_payload_of_less_than_nothing_is_not_known(write_database) -> None:
    operation = ("opName", "startNs", "endNs", "groupName", "dataType", "count", "deviceId")
    rows = [(4, START, START + 9, 5, 6, count, 2) for count in (-1, 100)]
    content = read(write_database({"COMMUNICATION_OP": (operation, rows)}, STRINGS))
    assert by_key(content.collectives.rows())[0, [columns.COUNT, columns.AMOUNT]].tolist() == [2, 200]


def test_names_that_steer_a_terminal_or_are_no_unicode_are_written_out(tmp_path) -> None:
    path = write_csv(
        tmp_path / "kernel_details.csv", HEAD, ["a\nb", "\x1b]0;x\x07", "c\x9b", *ROW[3:]], ["d\ne", "N/A", *ROW[2:]]
    )
    assert set(operators(read(path))) == {
        Operator("\\x1b]0;x\\x07", "c\\x9b"), Operator("d\\ne", "AI_VECTOR_CORE"),
    }  # fmt: skip
    labels = {(line.label, *line.cores) for line in read(path, Top("name")).lines()}
    assert labels == {("a\\nb", "c\\x9b"), ("d\\ne", "AI_VECTOR_CORE")}
    path = tmp_path / "trace_view.json"
    path.write_text('[{"ph": "X", "name": "A\\ud800", "ts": "1.5", "dur": 2, "args": {"Task Type": "AI_CORE"}}]')
    assert set(operators(read(path))) == {Operator("A\\ud800", "AI_CORE")}


def test_a_line_without_an_end_is_not_taken_into_memory(tmp_path) -> None:
    path = write_csv(tmp_path / "kernel_details.csv", HEAD, ROW)
    os.truncate(path, 2**33)  # a file with a hole, as a crash leaves it
    assert refusal(path) == f"cannot be read at line 2: the line has more than {16 * 2**20} signs"


def test_a_csv_with_another_delimiter_is_refused_by_its_header(tmp_path) -> None:
    path = tmp_path / "kernel_details.csv"
    path.write_text(";".join(HEAD) + "\n" + ";".join(ROW) + "\n")
    assert refusal(path).startswith("is a csv, but none with operators or memory of an NPU: its columns are Name;Type;")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1e999999999", "9" * 5000, '"soon"', "null", "[]"])
def test_a_trace_with_a_number_that_is_none_is_refused(number, tmp_path) -> None:
    path = tmp_path / "trace_view.json"
    event = '{"ph": "X", "name": "A", "ts": "1.5", "dur": D, "args": {"Task Type": "AI_CORE"}}'
    path.write_text(f"[{event.replace('D', number)}]")
    assert refusal(path).startswith("cannot be read: ")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("profiler_info_3.json", '{"end_info": {"collectionTimeEnd": Infinity}}', Info(3, 0)),
        ("profiler_info_3.json", '{"end_info": {"collectionTimeEnd": -1}}', Info(3, 0)),
        ("profiler_info_3.json", '{"end_info": {"collectionTimeEnd": 1e30}}', Info(3, 0)),
        ("profiler_info_3.json", "[" * 100_000, Info(3, 0)),
        ("profiler_info_99999999999999999999.json", "{}", Info(None, 0)),
    ],
)
def test_what_lies_beside_a_recording_may_be_nonsense(name, text, expected, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    assert info(tmp_path) == expected


TABLES = {
    "STRING_IDS": "id value", "TASK": "startNs endNs deviceId globalTaskId taskType",
    "COMPUTE_TASK_INFO": "name globalTaskId blockDim taskType opType",
    "COMMUNICATION_OP": "opName startNs endNs groupName dataType count deviceId",
    "MEMORY_RECORD": "component timestamp totalAllocated totalReserved totalActive deviceId",
    "OP_MEMORY": "name size allocationTime releaseTime deviceId", "NPU_MEM": "type ddr hbm timestampNs deviceId",
    "NPU_MODULE_MEM": "moduleId timestampNs totalReserved deviceId",
    "HBM": "deviceId timestampNs bandwidth hbmId type", "STEP_TIME": "id startNs endNs", "RANK_DEVICE_MAP": "rankId deviceId",
    "ENUM_MODULE": "id name", "ENUM_HCCL_DATA_TYPE": "id name", "ENUM_MEMORY": "id name",
}  # fmt: skip
TIMES = {"startNs", "endNs", "timestamp", "timestampNs", "allocationTime", "releaseTime"}
ANYTHING = [
    None, 0, 2, -1, 1.5, 1e300, -1e300, float("inf"), 2**63 - 1, -(2**63), "", "x", "N/A", str(START), START,
    b"\xff\x00", b"", "\x1b[2J",
]  # fmt: skip


def write_anything(path: Path, seed: int) -> None:
    """All tables, most cells as they should be; any column may be missing, and any cell hold anything."""
    choose = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection:
        for table, names in TABLES.items():
            present = [name for name in names.split() if choose.random() < 0.95] or names.split()
            connection.execute(f"CREATE TABLE {table} ({', '.join(present)})")
            for _ in range(4):
                row = [
                    (START if name in TIMES else 1) if choose.random() < 0.6 else choose.choice(ANYTHING)
                    for name in present
                ]
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_in_the_cells_a_database_is_read_and_can_be_sent_or_is_refused(seed, tmp_path) -> None:
    path = tmp_path / "msprof_1.db"
    write_anything(path, seed)
    try:
        content, top = read(path), read(path, Top("type"))
    except RecordingError:
        return
    resource = Resource({})
    for delta in (False, True):
        found = list(points(content, delta=delta))
        encode_metrics(_metrics_data(resource, found, delta))
        values = [point.value for point in found if point.metric.instrument in ("counter", "histogram")]
        assert all((value.sum if isinstance(value, Histogram) else value) >= 0 for value in values)
    encode_logs([_log_record(resource, event) for event in events(content, path.name)])
    assert all(line.label.isprintable() and line.min >= 0 for line in top.lines())


def test_a_write_ahead_log_beside_a_database_is_read_too(write_database) -> None:
    path = write_database({"TASK": (TASK, tasks(7)), "COMPUTE_TASK_INFO": (INFO, [(0, 7, 8, 1, 3)])}, STRINGS)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.executemany(f"INSERT INTO TASK VALUES ({', '.join('?' * len(TASK))})", tasks(7, 7))
        writer.commit()
        assert Path(f"{path}-wal").stat().st_size > 0
        assert operators(read(path)) == {Operator("MatMulV3", "AI_CORE", "3"): [3, 150]}


def test_links_that_go_in_circles_are_not_followed(tmp_path) -> None:
    write_csv(tmp_path / "kernel_details.csv", HEAD, ROW)
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "op_summary.csv").symlink_to("op_summary.csv")
    first, second = Plan(tmp_path).sources
    assert first.path == tmp_path / "kernel_details.csv"
    assert refusal(second.path) == "cannot be read: Too many levels of symbolic links"
    (problem,) = Plan(tmp_path / "op_summary.csv").problems
    assert problem.reason == "does not exist"


def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_read(tmp_path, monkeypatch) -> None:
    write_csv(tmp_path / "kernel_details.csv", HEAD, ROW)
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # longer than a path may be
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    os.chdir(tmp_path)
    plan = Plan(tmp_path)
    assert [source.path.name for source in plan.sources] == ["kernel_details.csv"]
    assert [problem.reason for problem in plan.problems] == ["cannot be read: File name too long"]


def test_a_path_that_is_too_long_is_one_error(tmp_path) -> None:
    (problem,) = Plan(tmp_path / ("x" * 5000)).problems
    assert problem.reason == "cannot be read: File name too long"


def test_json_of_a_deep_object_beside_the_trace_is_refused(tmp_path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text(json.dumps([{"ph": "M"}])[:-1] + ", " + "{" + '"a": {' * 100_000)
    assert refusal(path).startswith(("cannot be read: ", "is cut off"))
