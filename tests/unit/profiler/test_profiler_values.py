"""Attributes of any kind, as native args and as OTel attributes."""

from __future__ import annotations

import enum
import json
from fractions import Fraction
from typing import Any

import pytest

from ascend_opentelemetry.native import _args
from ascend_opentelemetry.profiler import Level, Profiler, _types
from ascend_opentelemetry.profiler._values import copy_value, text
from ascend_opentelemetry.recorder import recorder


class Color(enum.Enum):
    RED = 1


class Text(str):
    __slots__ = ()


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenList(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("no items")

    def __str__(self) -> str:
        return "b" * 1000


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "native", "otel"),
    [
        ("é\"'\ud800", '"\\u00e9\\"\'\\ud800"', "é\"'\ud800"),
        (True, "true", True),
        (7, "7", 7),
        (-(2**63), "-9223372036854775808", -(2**63)),
        (2**63, '"9223372036854775808"', "9223372036854775808"),
        (10**5000, '"<int>"', "<int>"),
        (0.1, "0.1", 0.1),
        (float("nan"), "null", None),
        (float("-inf"), "null", None),
        (None, "null", None),
        (Level.L2, "30", 30),
        (Color.RED, '"Color.RED"', "Color.RED"),
        (Text("t"), '"t"', "t"),
        (Fraction(1, 2), "0.5", 0.5),
        (b"\x00", "\"b'\\\\x00'\"", "b'\\x00'"),
        ([], "[]", ()),
        (["a", "b"], '["a", "b"]', ("a", "b")),
        ((1, 2), "[1, 2]", (1, 2)),
        ({3}, "[3]", (3,)),
        ([True, 1], "[true, 1]", "[true, 1]"),
        ([1.5, float("nan")], "[1.5, null]", "[1.5, null]"),
        ([{"rid": "r", 1: (2,)}], '[{"rid": "r", "1": [2]}]', '[{"rid": "r", "1": [2]}]'),
        ({"a": {"b": None}}, '{"a": {"b": null}}', '{"a": {"b": null}}'),
        ("x" * 1000, json.dumps("x" * 1000), "x" * 1000),
        (Broken(), '"<Broken>"', "<Broken>"),
        ([Broken()], '["<Broken>"]', ("<Broken>",)),
        (BrokenList(), json.dumps("b" * 256), "b" * 256),
        (range(10**6), '"range(0, 1000000)"', "range(0, 1000000)"),
        (CIRCLE, '[[[[[[[["[[...]]"]]]]]]]]', '[[[[[[[["[[...]]"]]]]]]]]'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value(recording, value, native, otel) -> None:
    recording.native()
    recording.traces()
    Profiler(Level.INFO).attr("a", value).event("e")
    (record,) = recording.records()
    ((*_, args),) = record[0].rows(record)
    assert args == f'{{"a": {native}, "type": 0}}'
    found = list(record[0].attributes(record))
    assert found == ([] if otel is None else [("a", otel)])
    assert [type(content) for _, content in found] == ([] if otel is None else [type(otel)])


def test_a_long_text_of_an_unknown_object_is_cut() -> None:
    assert copy_value(ValueError("y" * 1000)) == "y" * 256


def test_numbers_of_other_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    copies = [copy_value(numpy.int64(3)), copy_value(numpy.float32(0.5)), copy_value(numpy.float64("nan"))]
    assert copies == [3, 0.5, None]
    assert [type(copy) for copy in copies] == [int, float, type(None)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("plain", "plain"), ("é\ud800", "é?"), (None, ""), (3, "3"), (Broken(), "<Broken>"), (Text("t"), "t")],
)
def test_names_are_texts_that_a_file_can_hold(value, expected) -> None:
    assert text(value) == expected
    assert type(text(value)) is str


def test_names_of_any_kind(native) -> None:
    Profiler(Level.INFO).domain(Broken()).attr(1, "a").attr([], "b").metric(2, 3).event(None)
    assert native.row() == ("", "<Broken>", '{"1": "a", "[]": "b", "2=": 3, "type": 0}')


def test_a_value_that_changes_afterwards_is_recorded_as_it_was(native) -> None:
    ids, inner = [{"rid": "a"}], {"k": [1]}
    Profiler(Level.INFO).res(ids).attr("inner", inner).event("e")
    ids[0]["rid"] = "b"
    ids.clear()
    inner["k"].append(2)
    assert native.row()[2] == '{"rid": [{"rid": "a"}], "inner": {"k": [1]}, "type": 0}'


def test_otel_names_carry_no_marks_of_the_native_format(recording) -> None:
    recording.traces()
    profiler = Profiler(Level.INFO).res("r").metric("m", 1).metric_inc("m", 2).metric_scope("s", "v")
    profiler.metric_scope_as_req_id().attr("a", "b").span_start("x").span_end()
    (record,) = recording.records()
    assert list(record[0].attributes(record)) == [
        ("rid", "r"), ("m", 1), ("m.increment", 2), ("scope.s", "v"), ("scope", "req"), ("a", "b"),
    ]  # fmt: skip


def test_the_names_that_end_an_analysis_are_those_of_the_native_files() -> None:
    assert _types.RESERVED | {"type"} == _args._COLUMNS
    assert _types._BATCHES == _args._BATCHES


def test_attributes_that_would_end_an_analysis_get_another_name(recording, caplog) -> None:
    recording.native()
    recording.traces()
    recorder.meta["dp"] = "1"
    for _ in range(2):
        Profiler(Level.INFO).attr("name", 1).attr("dp", 2).attr("from", 3).attr("status", 4).event("e")
    record, again = recording.records()
    ((*_, args),) = record[0].rows(record)
    again[0].rows(again)
    assert args == '{"name_": 1, "dp_": 2, "from_": 3, "status": 4, "type": 0}'
    assert list(record[0].attributes(record)) == [("name", 1), ("dp", 2), ("from", 3), ("status", 4)]
    assert [message.partition(" is called")[0] for message in caplog.messages] == [
        f'Profiler: attribute "{name}"' for name in ("name", "dp", "from")
    ]


@pytest.mark.parametrize("name", ["batchFrameworkProcessing", "BatchSchedule"])
def test_a_batch_without_requests_would_end_an_analysis(native, name, caplog) -> None:
    for profiler in (Profiler(Level.INFO), Profiler(Level.INFO).res([])):
        profiler.span_start(name).span_end()
    assert [row[2] for row in native.rows()] == [f"{name}_", name]
    assert caplog.messages == [f'Profiler: {name} without res(...) is called "{name}_": msserviceprofiler would fail']


def test_names_without_end_share_one(recording, monkeypatch, caplog) -> None:
    monkeypatch.setattr(_types, "MAX_NAMES", 2)
    monkeypatch.setattr(_types, "MAX_DOMAINS", 1)
    recording.native()
    recording.traces()
    for number in range(4):
        Profiler(Level.INFO).domain("D").attr("a", 0).event(f"step-{number}")
    Profiler(Level.INFO).domain("E").event("too many domains")
    records = recording.records()
    assert [record[0].name for record in records] == ["step-0", "step-1", "other", "other"]
    assert records[2][0] is records[3][0]
    assert [record[0].rows(record)[0][2] for record in records] == [f"step-{number}" for number in range(4)]
    assert list(records[1][0].attributes(records[1])) == [("a", 0)]
    assert list(records[3][0].attributes(records[3])) == [("a", 0), ("name", "step-3")]
    assert recorder.dropped == 1
    (message,) = caplog.messages
    assert message == (
        'Profiler: more than 2 names: further spans are called "other"; put what changes, such as the number in'
        " 'step-2', into an attribute"
    )
