from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import ConfigError, ProfileConfig, parse
from ascend_opentelemetry.native._config import default_text, specs
from ascend_opentelemetry.native._fields import TaskTimeLevel

GUIDE = """{
  "enable": 1,
  "prof_dir": "vllm_prof",
  "profiler_level": "INFO",
  "host_system_usage_freq": -1,
  "npu_memory_usage_freq": -1,
  "acl_task_time": 0,
  "acl_prof_task_time_level": "",
  "api_filter": "",
  "kernel_filter": "",
  "timelimit": 0,
  "domain": ""
}"""


def value(field: str, written: Any) -> Any:
    config, problems = parse(json.dumps({field: written}), "c.json")
    assert problems == []
    return next(getattr(config, attribute) for attribute, spec, _ in specs() if spec.name == field)


def test_example_of_the_guide() -> None:
    config, problems = parse(GUIDE, "c.json")
    assert problems == []
    assert config == ProfileConfig(enable=True, prof_dir="vllm_prof")


def test_defaults(tmp_path: Path) -> None:
    assert parse("{}", "c.json") == (ProfileConfig(), [])
    assert ProfileConfig() == ProfileConfig(
        enable=False,
        prof_dir=f"{tmp_path}/home/.ms_server_profiler",
        profiler_level=20,
        timelimit=0,
        domain=frozenset(),
        host_system_usage_freq=-1,
        npu_memory_usage_freq=-1,
        acl_task_time=0,
        acl_prof_task_time_level=TaskTimeLevel("L0", None),
        api_filter=(),
        kernel_filter=(),
        metric_enable=False,
        acl_data_type_config=(),
        aclprof_aicore_metrics="ACL_AICORE_PIPE_UTILIZATION",
        torch_prof_stack=False,
        torch_prof_modules=False,
        torch_prof_step_num=0,
        profiler_step_num=-1,
    )


@pytest.mark.parametrize(
    ("field", "written", "read"),
    [
        ("enable", 1, True),
        ("enable", 0, False),
        ("prof_dir", "a/b", "a/b"),
        ("profiler_level", "error", 10),
        ("profiler_level", "Detailed", 30),
        ("profiler_level", "VERBOSE", 40),
        ("profiler_level", "L0", 10),
        ("profiler_level", "l1", 20),
        ("profiler_level", "L2", 30),
        ("profiler_level", "LEVEL_CORE_TRACE", 10),
        ("profiler_level", "LEVEL_OUTLIER_ENENT", 10),
        ("profiler_level", "LEVEL_NORMAL_TRACE", 20),
        ("profiler_level", "LEVEL_DETAILED_TRACE", 30),
        ("profiler_level", 35, 35),
        ("profiler_level", 0, 0),
        ("timelimit", 7200, 7200),
        ("timelimit", -5, 0),
        ("domain", " ; ", frozenset()),
        ("domain", "Request; KVCache", frozenset({"Request", "Engine", "KVCache", "Schedule.KVCache"})),
        ("domain", "ModelExecute\uff1bBatchSchedule", frozenset({"ModelExecute", "Execute", "BatchSchedule", "Schedule"})),
        ("domain", "Communication;Schedule.KVCache;engine", frozenset({"Communication", "Schedule.KVCache", "engine"})),
        ("host_system_usage_freq", 50, 50),
        ("npu_memory_usage_freq", 1, 1),
        ("acl_task_time", 3, 3),
        ("acl_prof_task_time_level", "L1", TaskTimeLevel("L1", None)),
        ("acl_prof_task_time_level", "L1,10", TaskTimeLevel("L1", 10)),
        ("acl_prof_task_time_level", "L0; 999", TaskTimeLevel("L0", 999)),
        ("api_filter", "matmul\uff1badd;", ("matmul", "add")),
        ("kernel_filter", "a b", ("a b",)),
        ("metric_enable", True, True),
        ("metric_enable", 1, True),
        ("aclDataTypeConfig", "ACL_PROF_AICPU, ACL_PROF_MSPROFTX", ("ACL_PROF_AICPU", "ACL_PROF_MSPROFTX")),
        ("aclprofAicoreMetrics", "acl_aicore_l2_cache", "ACL_AICORE_L2_CACHE"),
        ("torch_prof_stack", True, True),
        ("torch_prof_modules", False, False),
        ("torch_prof_step_num", -3, 0),
        ("profiler_step_num", 10, 10),
    ],
)  # fmt: skip
def test_accepted(field: str, written: Any, read: Any) -> None:
    assert value(field, written) == read


WRONG: dict[str, list[tuple[Any, Any]]] = {
    "enable": [(True, False), ("1", False), (1.0, False), (2, False), (-1, False)],
    "prof_dir": [("", "DEFAULT"), (" ", "DEFAULT"), (3, "DEFAULT"), ("a\0b", "DEFAULT"), ("\ud800", "DEFAULT")],
    "profiler_level": [("LOUD", 20), (-1, 20), (20.0, 20), (True, 20)],
    "timelimit": [(7201, 7200), ("10", 0), (1.5, 0), (True, 0)],
    "domain": [(["Request"], frozenset()), (7, frozenset())],
    "host_system_usage_freq": [(0, -1), (51, -1), (-2, -1), ("5", -1), (True, -1)],
    "npu_memory_usage_freq": [(0, -1), (51, -1), (2.0, -1)],
    "acl_task_time": [(4, 0), (-1, 0), ("1", 0)],
    "acl_prof_task_time_level": [
        (1, TaskTimeLevel()), ("L2", TaskTimeLevel()), ("L1,0", TaskTimeLevel()), ("L1,1000", TaskTimeLevel()),
        ("L1,x", TaskTimeLevel()),
    ],
    "api_filter": [(1, ())],
    "kernel_filter": [(["a"], ())],
    "metric_enable": [(2, False), ("true", False)],
    "aclDataTypeConfig": [("ACL_PROF_AICPU,x", ("ACL_PROF_AICPU",)), (1, ())],
    "aclprofAicoreMetrics": [("x", "ACL_AICORE_NONE"), (1, "ACL_AICORE_PIPE_UTILIZATION")],
    "torch_prof_stack": [(1, False)],
    "torch_prof_modules": [("false", False)],
    "torch_prof_step_num": [("3", 0)],
    "profiler_step_num": [(0, -1), (-2, -1), ("3", -1)],
}  # fmt: skip


def test_wrong_values_cover_the_table() -> None:
    assert list(WRONG) == [spec.name for _, spec, _ in specs()]


@pytest.mark.parametrize(
    ("field", "written", "used"),
    [(field, written, used) for field, cases in WRONG.items() for written, used in [*cases, (None, cases[-1][1]), ({"a": 1}, cases[-1][1])]],
)  # fmt: skip
def test_wrong_value(field: str, written: Any, used: Any, tmp_path: Path) -> None:
    used = f"{tmp_path}/home/.ms_server_profiler" if used == "DEFAULT" else used
    text = f'{{"x": {{"{field}": 0}},\n "{field}": {json.dumps(written)}}}'
    config, problems = parse(text, "dir/c.json")
    assert next(getattr(config, attribute) for attribute, spec, _ in specs() if spec.name == field) == used
    unknown, problem = sorted(problems, key=lambda item: item.line)
    assert (problem.path, problem.line, problem.field, problem.value) == ("dir/c.json", 2, field, written)
    assert problem.used == used
    assert str(problem).startswith(f'dir/c.json:2: "{field}": ')
    assert str(problem).endswith(" is used")
    assert (unknown.field, unknown.line, unknown.used) == ("x", 1, None)


def test_message() -> None:
    _, [problem] = parse('{\n"timelimit": 9000}', "/etc/c.json")
    assert str(problem) == '/etc/c.json:2: "timelimit": 9000 is higher than 7200; 7200 is used'


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("enable", "0"),
        ("prof_dir", "$HOME/.ms_server_profiler"),
        ("profiler_level", "INFO"),
        ("acl_prof_task_time_level", "L0"),
        ("domain", '""'),
        ("api_filter", '""'),
        ("timelimit", "0"),
        ("torch_prof_stack", "false"),
    ],
)
def test_the_default_is_shown_as_it_would_be_written(name: str, shown: str) -> None:
    _, (problem,) = parse(json.dumps({name: None}), "c.json")
    assert str(problem).endswith(f"; {shown} is used")


def test_unknown_field_is_one_problem_and_the_rest_works() -> None:
    config, problems = parse('{"enabel": 1,\n\n"timelimit": 3}', "c.json")
    assert config == ProfileConfig(timelimit=3)
    assert [str(problem) for problem in problems] == ['c.json:1: "enabel": 1 is no known field and is ignored']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"enable": 1,', "c.json:1:14: no valid JSON: Expecting property name enclosed in double quotes"),
        ('{\n "enable" 1}', "c.json:2:11: no valid JSON: Expecting ':' delimiter"),
        ("", "c.json:1:1: no valid JSON: Expecting value"),
        ("[]", "c.json:1:1: no JSON object"),
        ("1", "c.json:1:1: no JSON object"),
    ],
)
def test_broken(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.json")
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["[" * 100_000, '{"timelimit": ' + "9" * 5000 + "}"])
def test_extreme_text_is_an_error_of_its_own(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^c\.json: no valid JSON: "):
        parse(text, "c.json")


def test_last_of_two_equal_keys_counts() -> None:
    config, [problem] = parse('{"timelimit": 5,\n"timelimit": "x"}', "c.json")
    assert (config.timelimit, problem.line) == (0, 2)


def test_selects() -> None:
    config = parse('{"domain": "Request", "profiler_level": "INFO"}', "c.json")[0]
    assert config.selects("Engine", 20)
    assert not config.selects("Engine", 21)
    assert not config.selects("Schedule", 10)
    assert config.selects("", 10)
    assert ProfileConfig().selects("Anything", 20)


def test_generated_default_equals_the_golden_file(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    assert default_text() == (golden / "default_generated_config.json").read_text()
