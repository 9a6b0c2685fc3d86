"""Every field of the config file: good, wrong, at its limits, missing. A new field fails here until it has its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from ascend_opentelemetry.native import ProfileConfig, parse, specs
from ascend_opentelemetry.native._fields import TaskTimeLevel

HOME: Final = "HOME"
L0 = TaskTimeLevel("L0", None)
SWITCHES = [(True, True), (False, False), (1, True), (0, False)]


@dataclass
class Row:
    """What becomes of a field's values.

    Attributes:
        missing: used without the field.
        good: written, read; one warning for none of them.
        limits: the same, for the ends of what is accepted.
        bad: written, used; one warning each.
        beyond: the same, for what is just outside.
    """

    missing: Any
    good: list[tuple[Any, Any]]
    limits: list[tuple[Any, Any]]
    bad: list[tuple[Any, Any]]
    beyond: list[tuple[Any, Any]]


PARTS = Row(
    missing=(),
    good=[
        ("matmul", ("matmul",)), ("matmul;add", ("matmul", "add")), ("matmul\uff1badd", ("matmul", "add")),
        ("matmul, add", ("matmul", "add")), ("a b", ("a b",)),
    ],
    limits=[("", ()), (" ;, \uff1b", ()), (";a", ("a",)), ("a" * 5000, ("a" * 5000,))],
    bad=[(1, ()), (["a"], ())],
    beyond=[(False, ())],
)  # fmt: skip
FREQUENCY = Row(
    missing=-1,
    good=[(10, 10)],
    limits=[(1, 1), (50, 50), (-1, -1)],
    bad=[("5", -1), (2.0, -1), (True, -1)],
    beyond=[(0, -1), (51, -1), (-2, -1)],
)
MODEL_EXECUTE = {"ModelExecute", "Execute", "ModelForward", "Multimodal", "Sample", "SpecDecode"}

TABLE: dict[str, Row] = {
    "enable": Row(
        missing=False,
        good=[(1, True)],
        limits=[(0, False), (1, True)],
        bad=[(True, False), ("1", False), (1.0, False)],
        beyond=[(2, False), (-1, False)],
    ),
    "prof_dir": Row(
        missing=HOME,
        good=[("a/b", "a/b"), ("/prof", "/prof"), ("a/~/x", "a/~/x"), ("~b/x", "~b/x"), ("$HOMES/x", "$HOMES/x")],
        limits=[("p", "p"), ("p" * 5000, "p" * 5000)],
        bad=[(3, HOME), (["a"], HOME), ("a\0b", HOME), ("\ud800", HOME)],
        beyond=[("", HOME), (" ", HOME)],
    ),
    "profiler_level": Row(
        missing=20,
        good=[
            ("error", 10), ("INFO", 20), ("Detailed", 30), ("VERBOSE", 40), ("L0", 10), ("l1", 20), (" L2 ", 30),
            ("LEVEL_CORE_TRACE", 10), ("LEVEL_OUTLIER_ENENT", 10), ("LEVEL_NORMAL_TRACE", 20),
            ("LEVEL_DETAILED_TRACE", 30), (35, 35),
        ],
        limits=[(0, 0), (10**12, 10**12)],
        bad=[("LOUD", 20), (20.0, 20), (True, 20), ("", 20)],
        beyond=[(-1, 20)],
    ),
    "timelimit": Row(
        missing=0,
        good=[(60, 60)],
        limits=[(0, 0), (7200, 7200), (-1, 0)],
        bad=[("10", 0), (1.5, 0), (True, 0)],
        beyond=[(7201, 7200)],
    ),
    "domain": Row(
        missing=frozenset(),
        good=[
            ("Request; KVCache", {"Request", "Engine", "OpenAI", "KVCache", "Schedule.KVCache"}),
            ("ModelExecute\uff1bBatchSchedule", {*MODEL_EXECUTE, "BatchSchedule", "Schedule", "Scheduler"}),
            ("Communication,Schedule.KVCache", {"Communication", "KVTransfer", "Schedule.KVCache"}),
            ("Engine;engine", {"Engine", "engine"}),
        ],
        limits=[("", frozenset()), (" ; ", frozenset()), ("a", {"a"})],
        bad=[(["Request"], frozenset()), (7, frozenset())],
        beyond=[(False, frozenset())],
    ),
    "host_system_usage_freq": FREQUENCY,
    "npu_memory_usage_freq": FREQUENCY,
    "acl_task_time": Row(
        missing=0,
        good=[(1, 1), (2, 2)],
        limits=[(0, 0), (3, 3)],
        bad=[("1", 0), (1.0, 0), (True, 0)],
        beyond=[(4, 0), (-1, 0)],
    ),
    "acl_prof_task_time_level": Row(
        missing=L0,
        good=[
            ("L1", TaskTimeLevel("L1", None)), ("L1,10", TaskTimeLevel("L1", 10)), ("L1;10", TaskTimeLevel("L1", 10)),
            ("L1\uff1b10", TaskTimeLevel("L1", 10)), ("L0; 7", TaskTimeLevel("L0", 7)), ("5", TaskTimeLevel("L0", 5)),
        ],
        limits=[("", L0), ("L1,1", TaskTimeLevel("L1", 1)), ("L0,999", TaskTimeLevel("L0", 999))],
        bad=[(1, L0), ("L2", L0), ("L1,x", L0), ("L1,1.5", L0), ("l1", L0), ("L1,\u0661", L0)],
        beyond=[("L1,0", L0), ("L1,1000", L0), ("L1,-1", L0)],
    ),
    "api_filter": PARTS,
    "kernel_filter": PARTS,
    "metric_enable": Row(
        missing=False,
        good=SWITCHES,
        limits=[(0, False), (1, True)],
        bad=[("true", False), (1.0, False)],
        beyond=[(2, False), (-1, False)],
    ),
    "aclDataTypeConfig": Row(
        missing=(),
        good=[
            (f"ACL_PROF_AICPU{separator} ACL_PROF_MSPROFTX", ("ACL_PROF_AICPU", "ACL_PROF_MSPROFTX"))
            for separator in (",", ";", "\uff1b")
        ],
        limits=[("", ()), ("ACL_PROF_TASK_TIME", ("ACL_PROF_TASK_TIME",))],
        bad=[(1, ()), ("AICPU", ()), ("acl_prof_aicpu", ())],
        beyond=[("ACL_PROF_AICPU,x", ("ACL_PROF_AICPU",))],
    ),
    "aclprofAicoreMetrics": Row(
        missing="ACL_AICORE_PIPE_UTILIZATION",
        good=[("acl_aicore_l2_cache", "ACL_AICORE_L2_CACHE"), (" ACL_AICORE_NONE ", "ACL_AICORE_NONE")],
        limits=[("ACL_AICORE_PIPE_UTILIZATION", "ACL_AICORE_PIPE_UTILIZATION"), ("ACL_AICORE_NONE", "ACL_AICORE_NONE")],
        bad=[(1, "ACL_AICORE_PIPE_UTILIZATION"), ("x", "ACL_AICORE_NONE")],
        beyond=[("", "ACL_AICORE_NONE")],
    ),
    "torch_prof_stack": Row(False, [(True, True)], [(False, False), (True, True)], [("true", False)], [(1, False)]),
    "torch_prof_modules": Row(False, [(True, True)], [(False, False), (True, True)], [("x", False)], [(0, False)]),
    "torch_prof_step_num": Row(
        missing=0, good=[(3, 3)], limits=[(0, 0), (1, 1), (-1, 0)], bad=[("3", 0), (3.0, 0)], beyond=[(True, 0)]
    ),
    "profiler_step_num": Row(
        missing=-1,
        good=[(10, 10)],
        limits=[(1, 1), (-1, -1)],
        bad=[("3", -1), (3.0, -1), (True, -1)],
        beyond=[(0, -1), (-2, -1)],
    ),
}  # fmt: skip


def cases(*kinds: str) -> list[tuple[str, Any, Any]]:
    return [(field, *case) for field, row in TABLE.items() for kind in kinds for case in getattr(row, kind)]


def value(field: str, config: ProfileConfig) -> Any:
    return next(getattr(config, attribute) for attribute, spec, _ in specs() if spec.name == field)


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> str:
    return f"{tmp_path}/home/.ms_server_profiler"


def test_every_field_has_its_rows_in_the_order_of_the_table() -> None:
    assert list(TABLE) == [spec.name for _, spec, _ in specs()]
    for field, row in TABLE.items():
        assert row.good, field
        assert row.limits, field
        assert row.bad, field
        assert row.beyond, field


@pytest.mark.parametrize("field", TABLE)
def test_a_missing_field_has_its_default_and_no_warning(field: str, home: str) -> None:
    expected = TABLE[field].missing
    config, problems = parse("{}", "c.json")
    assert value(field, config) == (home if expected == HOME else expected)
    assert type(value(field, config)) is type(home if expected == HOME else expected)
    assert problems == []


@pytest.mark.parametrize(("field", "written", "read"), cases("good", "limits"))
def test_what_is_accepted_is_read_without_a_warning(field: str, written: Any, read: Any) -> None:
    config, problems = parse(json.dumps({field: written}), "c.json")
    assert problems == []
    assert value(field, config) == read
    assert type(value(field, config)) is type(TABLE[field].missing)


@pytest.mark.parametrize(
    ("field", "written", "used"),
    [
        *cases("bad", "beyond"),
        *[(field, written, row.missing) for field, row in TABLE.items() for written in (None, {"a": 1}, [])],
    ],
)
def test_what_is_wrong_is_one_warning_with_its_line_and_what_is_used(
    field: str, written: Any, used: Any, home: str
) -> None:
    used = home if used == HOME else used
    text = f'{{"x": {{"{field}": 0}},\n "{field}": {json.dumps(written)},\n "timelimit": 5}}'
    config, problems = parse(text, "dir/c.json")
    if field == "timelimit":
        text = text.replace(',\n "timelimit": 5}', "}")
        config, problems = parse(text, "dir/c.json")
    else:
        assert config.timelimit == 5, "the rest of the file counts"
    assert value(field, config) == used
    unknown, problem = sorted(problems, key=lambda item: item.line)
    assert (problem.path, problem.line, problem.field, problem.value) == ("dir/c.json", 2, field, written)
    assert problem.used == used
    assert str(problem).startswith(f'dir/c.json:2: "{field}": ')
    assert str(problem).endswith(" is used")
    assert (unknown.field, unknown.line, unknown.used) == ("x", 1, None)
