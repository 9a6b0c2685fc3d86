from __future__ import annotations

import enum
import json
from typing import Any

import pytest

from ascend_opentelemetry.native import _args, encode_args, is_reserved


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_args, "_said", set())
    monkeypatch.setattr(_args, "_own", _args._Names(_args._COLUMNS, user=False))
    monkeypatch.setattr(_args, "_users", _args._Names(_args._COLUMNS, _args._MEANINGS, user=True))


# the args of the golden file of all API forms
@pytest.mark.parametrize(
    ("pairs", "span", "text"),
    [
        ([("rid", "req-1")], False, '{"rid": "req-1", "type": 0}'),
        (
            [("rid", [{"rid": "req-1", "iter": 0, "type": 0, "num_scheduled_tokens": 7}]), ("batch_type", "Prefill")],
            True,
            '{"type": 2, "rid": [{"rid": "req-1", "iter": 0, "type": 0, "num_scheduled_tokens": 7}], "batch_type": "Prefill"}',
        ),
        (
            [("rid", ("req-1",)), ("TotalBlocks=", 100), ("FreeBlocks=", 93), ("UsagePercent=", 0.07)],
            False,
            '{"rid": ["req-1"], "TotalBlocks=": 100, "FreeBlocks=": 93, "UsagePercent=": 0.07, "type": 0}',
        ),
        (
            [("rid", "req-1"), ("WAITING+", 1), ("scope#QueueName", "WAITING"), ("scope#", "req")],
            False,
            '{"rid": "req-1", "WAITING+": 1, "scope#QueueName": "WAITING", "scope#": "req", "type": 0}',
        ),
        ([("\u4e2d\u6587", '\u00e9"quote')], False, '{"\\u4e2d\\u6587": "\\u00e9\\"quote", "type": 0}'),
        ([], False, '{"type": 0}'),
        ([], True, '{"type": 2}'),
    ],
)
def test_text_of_the_reference(pairs: list[tuple[str, Any]], span: bool, text: str) -> None:
    assert encode_args(pairs, span) == text


class Color(enum.IntEnum):
    RED = 4


class Odd:
    def __str__(self) -> str:
        return "o" * 1000


class Mute:
    def __str__(self) -> str:
        raise RuntimeError


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, True),
        (1.5, 1.5),
        (-(1 << 62), -(1 << 62)),
        (1 << 70, 1 << 70),
        (Color.RED, 4),
        ([1, float("nan"), {"a": float("inf"), 2: "b"}], [1, None, {"a": None, "2": "b"}]),
        ({"a": (1, 2), "s": frozenset({3})}, {"a": [1, 2], "s": [3]}),
        (Odd(), "o" * 256),
        ([Odd()], ["o" * 256]),
        (Mute(), "<Mute>"),
        ([10**5000], ["<int>"]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (b"ab", "b'ab'"),
        ("\ud800", "\ud800"),
    ],
)
def test_values(value: Any, read: Any) -> None:
    text = encode_args([("a", value)], True)
    text.encode("ascii")
    assert json.loads(text) == {"type": 2, "a": read}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_left_out(value: Any) -> None:
    assert encode_args([("a", value), ("b", 1)], True) == '{"type": 2, "b": 1}'


def test_endless_list() -> None:
    assert encode_args([("a", ENDLESS)], True).startswith('{"type": 2, "a": [[[')


FATAL = (
    "name domain pid tid id duration depth track_id cname flag_id start_time end_time during_time start_datetime"
    " end_datetime args message markId prof_id hostuid hostname ppid dpRankId event type"
)
MEANINGFUL = (
    "from to status batchType batch_type batch_size role res_list rid_list token_id_list dp_list blocks endFlag dp_rank"
    " rank prefill_batch_size total_blocks free_blocks UsagePercent= WAITING+"
)


@pytest.mark.parametrize("name", (FATAL + " " + MEANINGFUL).split())
def test_reserved_name_of_a_user(name: str, caplog: pytest.LogCaptureFixture) -> None:
    for value in (1, 2):
        assert encode_args([(name, value)], True, user=True) == f'{{"type": 2, "{name}_": {value}}}'
    assert caplog.messages == [
        f'attribute "{name}" is called "{name}_" in native files: msserviceprofiler keeps that name for itself'
    ]
    assert is_reserved(name)


@pytest.mark.parametrize("name", FATAL.split())
def test_name_that_ends_the_analysis_is_nobodys(name: str) -> None:
    assert encode_args([(name, 1)], True) == f'{{"type": 2, "{name}_": 1}}'


@pytest.mark.parametrize("name", MEANINGFUL.split())
def test_meaningful_name_of_a_handler_stays(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert encode_args([(name, 1)], True) == f'{{"type": 2, "{name}": 1}}'
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["timestamp", "cat", "rid", "device", "iter", "Name", "name_", ""])
def test_free_name(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert encode_args([(name, 1)], True, user=True) == f'{{"type": 2, "{name}": 1}}'
    assert not is_reserved(name)
    assert caplog.messages == []


def test_name_is_said_once_for_all(caplog: pytest.LogCaptureFixture) -> None:
    for user in (True, False):
        encode_args([("event", 1)], True, user=user)
    assert len(caplog.messages) == 1


def test_names_of_meta_rows_are_reserved() -> None:
    assert encode_args([("model", 1)], True, user=True) == '{"type": 2, "model": 1}'
    assert _args.reserve("model") == "model"
    assert encode_args([("model", 1)], True, user=True) == '{"type": 2, "model_": 1}'
    assert encode_args([("model", 1)], True) == '{"type": 2, "model_": 1}'
    assert _args.reserve("pid") == "pid_"
    assert _args.reserve("dpRankId") == "dpRankId"


def test_cache_of_names_is_bounded() -> None:
    for number in range(5000):
        encode_args([(f"k{number}", 1), (f"k{number}=", 1)], True, user=True)
    assert len(_args._users) == 4096
    assert len(_args._said) <= 4096
    assert encode_args([("k4999", 1)], True, user=True) == '{"type": 2, "k4999": 1}'
