from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ascend_opentelemetry.native import ConfigError, ProfileConfig, parse
from ascend_opentelemetry.native._config import default_text
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
    assert [str(problem) for problem in problems] == [
        'c.json:1: "enabel": 1 is no known field and is ignored (is enable meant?)'
    ]


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


def test_lines_of_a_large_file_take_no_time() -> None:
    def seconds(fields: int) -> float:
        text = "{" + ",".join(f'\n"k{number}": 1' for number in range(fields)) + "}"
        begin = time.process_time()
        _, problems = parse(text, "c.json")
        assert [problem.line for problem in problems] == list(range(2, fields + 2))
        return time.process_time() - begin

    # 16 times the text takes 16 times as long; over 100 times where each line is counted from the start
    small = min(seconds(2500) for _ in range(3))
    assert min(seconds(40_000) for _ in range(2)) < small * 45


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"enable": true}', '"enable": true is neither 0 nor 1; 0 is used'),
        ('{"enable": "1"}', "\"enable\": '1' is neither 0 nor 1; 0 is used"),
        ('{"domain": null}', '"domain": null is not a string; "" is used'),
        ('{"domain": [true, null]}', '"domain": [true, null] is not a string; "" is used'),
        ('{"profiler_level": false}', '"profiler_level": false is not a level; INFO is used'),
        ('{"Enable": 1}', '"Enable": 1 is no known field and is ignored (is enable meant?)'),
        ('{"profilerLevel": 1}', '"profilerLevel": 1 is no known field and is ignored (is profiler_level meant?)'),
        ('{"x": 1}', '"x": 1 is no known field and is ignored'),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_the_file_has_it(text: str, message: str) -> None:
    _, (problem,) = parse(text, "c.json")
    assert str(problem) == f"c.json:1: {message}"


def test_the_mark_that_editors_on_windows_write_is_no_problem() -> None:
    config, problems = parse("\ufeff" + GUIDE, "c.json")
    assert (config, problems) == (ProfileConfig(enable=True, prof_dir="vllm_prof"), [])


def test_without_a_home_the_folder_for_temporary_files_counts(monkeypatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp")
    assert ProfileConfig().prof_dir == "/var/tmp/.ms_server_profiler"


@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_the_home_folder_may_stand_before_a_path(home: str, tmp_path: Path) -> None:
    for rest in ("", "/", "/.ms_service_profiler"):
        config, problems = parse(json.dumps({"prof_dir": home + rest}), "c.json")
        assert (config.prof_dir, problems) == (f"{tmp_path}/home{rest}", [])
