from __future__ import annotations

import os
from pathlib import Path

import pytest

from ascend_opentelemetry.npu.recordings._content import Content
from ascend_opentelemetry.npu.recordings._info import Info, info
from ascend_opentelemetry.npu.recordings._sink import OperatorTotal, SampleKey
from ascend_opentelemetry.npu.recordings._state import ImportState, default_path, stamp
from ascend_opentelemetry.npu.recordings._telemetry import BOUNDS, Histogram, events, points

SECOND = 10**9
BEGIN = 1_736_410_576 * SECOND
ADD = ("aclnnAdd_AddAiCore_Add", "Add", "AI_VECTOR_CORE", "3")
MUL = ("Mul", None, "AI_CORE", "3")
ADD_ATTRIBUTES = (("npu.operator.type", "Add"), ("npu.core.type", "AI_VECTOR_CORE"), ("hw.id", "npu-3"))


def content(*, steps=None) -> Content:
    """Two additions in the first second, one in the third; a multiplication in the first."""
    made = Content()
    starts = [BEGIN + 5, BEGIN + 10, BEGIN + 2 * SECOND + 7, BEGIN + 20]
    made.operators([ADD, ADD, ADD, MUL], starts, [1000, 3000, 2000, 500], steps)
    return made


def of(name, made, **options):
    return [point for point in points(made, **options) if point.metric.name == name]


def test_counters_add_up_from_the_beginning_of_the_recording() -> None:
    found = [one for one in of("npu.operator.count", content()) if one.attributes == ADD_ATTRIBUTES]
    assert [(one.start_ns, one.time_ns, one.value) for one in found] == [
        (BEGIN + 5, BEGIN + SECOND, 2),
        (BEGIN + 5, BEGIN + 2 * SECOND + 2007, 3),
    ]
    assert [one.value for one in of("npu.operator.time", content()) if one.attributes == ADD_ATTRIBUTES] == [4e-6, 6e-6]


def test_with_delta_temporality_each_window_stands_for_itself() -> None:
    found = [one for one in of("npu.operator.count", content(), delta=True) if one.attributes == ADD_ATTRIBUTES]
    assert [(one.start_ns, one.value) for one in found] == [(BEGIN + 5, 2), (BEGIN + 2 * SECOND, 1)]


def test_durations_are_a_histogram_in_seconds() -> None:
    first, second = [one for one in of("npu.operator.duration", content()) if one.attributes == ADD_ATTRIBUTES]
    assert BOUNDS[:3] == (1e-6, 2e-6, 5e-6)
    assert BOUNDS[-1] == 0.1
    assert first.value == Histogram(2, 4e-6, 1e-6, 3e-6, (1, 0, 1, *[0] * 14))
    assert second.value == Histogram(3, 6e-6, 1e-6, 3e-6, (1, 1, 1, *[0] * 14))


def test_an_event_names_the_operators_of_a_window() -> None:
    first, second, session = events(content(), "kernel_details.csv")
    assert (first.name, first.time_ns) == ("npu.operator.window", BEGIN + 5)
    assert dict(first.attributes) == {
        "hw.id": "npu-3",
        "npu.window.duration": 3005e-9,
        "npu.operator.count": 3,
        "npu.operator.time": 4.5e-6,
    }
    assert first.body == {
        "operators": [
            {"type": "Add", "core": "AI_VECTOR_CORE", "count": 2, "time": 4e-6, "max": 3e-6},
            {"type": "Mul", "core": "AI_CORE", "count": 1, "time": 5e-7, "max": 5e-7},
        ]
    }
    assert second.time_ns == BEGIN + 2 * SECOND + 7
    assert (session.name, session.time_ns) == ("npu.profiling.session", BEGIN + 5)
    assert dict(session.attributes)["npu.recording.operators"] == 4
    assert dict(session.attributes)["npu.recording.file"] == "kernel_details.csv"


def test_each_profiled_step_has_an_event() -> None:
    found = [event for event in events(content(steps=[7, 7, 8, -1]), "x") if "npu.step.id" in dict(event.attributes)]
    assert [(dict(one.attributes)["npu.step.id"], dict(one.attributes)["npu.operator.count"]) for one in found] == [
        (7, 2),
        (8, 1),
    ]


def test_a_recording_has_a_hundred_series_and_one_more() -> None:
    made = Content()
    raw = [(f"Op{number}", f"Op{number}", "AI_CORE", "0") for number in range(150)]
    made.operators(raw, [BEGIN] * 150, list(range(1000, 1150)))
    found = {dict(one.attributes)["npu.operator.type"]: one for one in of("npu.operator.count", made)}
    assert len(found) == 101
    assert found["__other__"].value == 50
    assert found["__other__"].attributes == (("npu.operator.type", "__other__"), ("hw.id", "npu-0"))
    assert "Op149" in found
    assert "Op0" not in found


def test_collectives_have_bytes_and_bandwidth_where_the_payload_is_known() -> None:
    made = Content()
    raw = [("hcom_allReduce__1_0_1", "FP32", "10.0.0.1%eth0_60000_0_1", "0")] * 2
    made.communications(raw, [BEGIN, BEGIN + SECOND], [1000, 4000], [8000, 8000])
    made.communications([("hcom_broadcast__1_0_1", "", "", "")], [BEGIN], [10], [0])
    (first, second), bandwidth = of("npu.communication.io", made), of("npu.communication.bandwidth", made)
    assert [first.value, second.value] == [8000, 16000]
    assert [one.value for one in bandwidth] == [8e9, 2e9]
    attributes = dict(first.attributes)
    assert attributes.pop("npu.communication.group") not in ("", "10.0.0.1%eth0_60000_0_1")
    assert attributes == {
        "npu.communication.operation": "allReduce",
        "npu.communication.data_type": "FP32",
        "hw.id": "npu-0",
    }
    broadcast = of("npu.communication.duration", made)[1]
    assert broadcast.attributes == (("npu.communication.operation", "broadcast"),)


def test_samples_are_points_of_the_last_value_and_the_peak() -> None:
    made = Content()
    key = SampleKey("npu.allocator.memory", (("npu.memory.component", "PTA"), ("npu.memory.state", "reserved")))
    made.samples("allocator", [key] * 3, [BEGIN + 1, BEGIN + 9, BEGIN + SECOND], [5, 3, 4])
    found = [(one.metric.name, one.start_ns, one.time_ns, one.value) for one in points(made)]
    assert found == [
        ("npu.allocator.memory", BEGIN + 1, BEGIN + 9, 3),
        ("npu.allocator.peak", BEGIN + 1, BEGIN + 9, 5),
        ("npu.allocator.memory", BEGIN + 1, BEGIN + SECOND, 4),
        ("npu.allocator.peak", BEGIN + 1, BEGIN + SECOND, 4),
    ]


def test_bandwidth_is_the_mean_of_a_window() -> None:
    made = Content()
    key = SampleKey("npu.memory.bandwidth", (("npu.memory.channel", "0"), ("npu.memory.io.direction", "read")))
    made.samples("bandwidth", [key] * 3, [BEGIN + 1, BEGIN + 9, BEGIN + SECOND], [27_000, 12, 4])
    made.samples("bandwidth", [key], [BEGIN + 5], [3])
    found = [(one.start_ns, one.time_ns, one.value) for one in of("npu.memory.bandwidth", made)]
    assert found == [(BEGIN + 1, BEGIN + 9, 9005), (BEGIN + 1, BEGIN + SECOND, 4)]


def test_statistics_without_times_get_the_time_that_is_given() -> None:
    made = Content()
    made.operator_totals([OperatorTotal("Add", "AI_CORE", "", 3, 6000, 1000, 3000)])
    assert [(one.metric.name, one.time_ns, one.value) for one in points(made, fallback_ns=BEGIN)] == [
        ("npu.operator.count", BEGIN, 3),
        ("npu.operator.time", BEGIN, 6e-6),
    ]
    assert list(events(made, "op_statistic.csv")) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("profiler_info_3.json", '{"end_info": {"collectionTimeEnd": 17}}', Info(3, 17)),
        ("profiler_info.json", "{}", Info(None, 0)),
        ("profiler_info_3.json", "broken", Info(3, 0)),
        ("profiler_info_3.json", "[]", Info(3, 0)),
        ("other.json", "{}", Info(None, 0)),
    ],
)
def test_rank_and_end_lie_beside_a_recording(name, text, expected, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    assert info(tmp_path) == expected


def test_a_folder_that_is_gone_says_nothing(tmp_path) -> None:
    assert info(tmp_path / "gone") == Info(None, 0)


def test_a_file_is_known_by_its_content_and_its_target(tmp_path) -> None:
    path, file = tmp_path / "state" / "npu-import.jsonl", tmp_path / "msprof_1.db"
    file.write_text("one")
    before = stamp(file)
    state = ImportState(path, "http://a:4317")
    assert state.kinds(file, before) is None
    state.add(file, before, {"operators", "memory"})
    for known in (state, ImportState(path, "http://a:4317")):
        assert known.kinds(file, before) == {"operators", "memory"}
    assert ImportState(path, "http://b:4317").kinds(file, before) is None
    assert state.kinds(tmp_path / "other.db", before) is None
    file.write_text("two")
    assert state.kinds(file, stamp(file)) is None
    state.add(file, stamp(file), set())
    assert ImportState(path, "http://a:4317").kinds(file, stamp(file)) == set()
    assert [one.name for one in path.parent.iterdir()] == ["npu-import.jsonl"]


def test_two_imports_at_once_keep_both_lists(tmp_path) -> None:
    path = tmp_path / "npu-import.jsonl"
    one, other = ImportState(path, "http://a"), ImportState(path, "http://b")
    one.add(Path("/x"), "1", {"operators"})
    other.add(Path("/x"), "1", {"memory"})
    one.add(Path("/y"), "2", {"operators"})
    found = {target: ImportState(path, target) for target in ("http://a", "http://b")}
    assert found["http://a"].kinds(Path("/x"), "1") == found["http://a"].kinds(Path("/y"), "2") == {"operators"}
    assert found["http://b"].kinds(Path("/x"), "1") == {"memory"}


@pytest.mark.parametrize(
    "text",
    [
        "", "broken", "[]", "[" * 100_000, '{"target": "http://a", "file": "/x", "content": "stamp", "ki',
        '{"target": "http://a", "file": 3, "content": "stamp", "kinds": []}',
        '{"target": "http://a", "file": "/x", "content": "stamp", "kinds": 3}', "\ufffe\0",
    ],
)  # fmt: skip
def test_a_damaged_line_of_the_state_says_nothing_and_spoils_no_other(text, tmp_path) -> None:
    path = tmp_path / "npu-import.jsonl"
    path.write_text(text)
    state = ImportState(path, "http://a")
    assert state.kinds(Path("/x"), "stamp") is None
    state.add(Path("/x"), "stamp", {"operators"})
    assert ImportState(path, "http://a").kinds(Path("/x"), "stamp") == {"operators"}


def test_the_state_lies_where_the_user_keeps_state(tmp_path, monkeypatch) -> None:
    assert default_path({"XDG_STATE_HOME": "/s"}).as_posix() == "/s/ascend-otel/npu-import.jsonl"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path({}) == tmp_path / ".local/state/ascend-otel/npu-import.jsonl"


def test_a_user_without_a_home_has_no_state(monkeypatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    with pytest.raises(OSError, match=r"^this user has no home$"):
        default_path({})
    assert default_path({"XDG_STATE_HOME": "/s"}).as_posix() == "/s/ascend-otel/npu-import.jsonl"
