from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ascend_opentelemetry.cli import main
from ascend_opentelemetry.native import default_text, parse
from ascend_opentelemetry.native._watch import ConfigFile

TEXT = """{
  "mine" : {"enable": 7, "x": [1,  2]},
  "enable":0 ,
\t"prof_dir": "out", "timelimit": 5
}

"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ms.json"
    path.write_text(TEXT)
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", str(path))
    return path


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that fails, and give what it says."""

    def run(*arguments: str) -> str:
        assert main(["config", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("ascend-otel: ")
        return err.removeprefix("ascend-otel: ").rstrip("\n")

    return run


def test_init_makes_the_file_that_a_service_would_make(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "new.json"
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", str(path))
    assert main(["config", "init"]) == 0
    assert path.read_text() == default_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capsys.readouterr().out == f"{path}: made, with profiling off\n"


def test_init_leaves_a_file_that_is_there(file, refuse) -> None:
    assert refuse("init") == f"{file}: exists already; it is left as it is"
    assert file.read_text() == TEXT


def test_init_in_a_folder_that_is_missing(tmp_path, refuse) -> None:
    path = tmp_path / "none" / "ms.json"
    assert refuse("init", "--file", str(path)) == f"{path}: cannot be made: No such file or directory"


def test_init_makes_the_target_of_a_symlink(tmp_path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert main(["config", "init", "--file", str(tmp_path / "link.json")]) == 0
    assert (tmp_path / "real.json").read_text() == default_text()


@pytest.mark.parametrize("command", [["show"], ["enable"], ["disable"], ["set", "timelimit=1"]])
def test_a_file_that_is_missing_broken_or_not_named(command, tmp_path, refuse) -> None:
    path = tmp_path / "ms.json"
    assert refuse(*command) == "no file is named: give --file, or set SERVICE_PROF_CONFIG_PATH"
    assert refuse(*command, "--file", str(path)) == f"{path}: does not exist; ascend-otel config init makes it"
    unfit = "is no regular file of at most 1 MiB"
    assert refuse(*command, "--file", str(tmp_path)) == f"{tmp_path}: {unfit}"
    os.mkfifo(tmp_path / "pipe.json")
    assert refuse(*command, "--file", str(tmp_path / "pipe.json")) == f"{tmp_path / 'pipe.json'}: {unfit}"
    path.write_bytes(b'{"a": "\xff"}')
    assert refuse(*command, "--file", str(path)) == f"{path}: is no UTF-8 text (byte 7)"
    path.write_text('{"enable": 0,}')
    assert refuse(*command, "--file", str(path)).startswith(f"{path}:1:")
    path.write_text("[]")
    assert refuse(*command, "--file", str(path)) == f"{path}:1:1: no JSON object"
    assert path.read_text() == "[]"


def test_enable_and_disable_change_one_byte(file, capsys) -> None:
    assert main(["config", "enable"]) == 0
    assert file.read_text() == TEXT.replace('"enable":0', '"enable":1')
    assert capsys.readouterr().out == f"{file}\nenable: 0 -> 1\n"
    assert main(["config", "disable"]) == 0
    assert file.read_text() == TEXT


def test_a_service_takes_the_change_over(file) -> None:
    watched = ConfigFile(str(file))
    before = watched.poll()
    assert main(["config", "enable"]) == 0
    after = watched.poll()
    assert before is not None
    assert after is not None
    assert (before.enable, after.enable) == (False, True)


def test_the_argument_comes_before_the_variable(file, tmp_path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert main(["config", "enable", "--file", str(other)]) == 0
    assert (file.read_text(), other.read_text()) == (TEXT, '{"enable": 1}')


def test_what_is_so_already_is_not_written(file) -> None:
    before = file.stat()
    assert main(["config", "disable"]) == 0
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("value", ["true", "1.0", '"1"'])
def test_a_value_of_another_type_is_replaced(value, file) -> None:
    file.write_text(f'{{"enable": {value} }}')
    assert main(["config", "enable"]) == 0
    assert file.read_text() == '{"enable": 1 }'


def test_of_a_key_that_is_there_twice_the_last_one_counts(file) -> None:
    file.write_text('{"enable": 0, "enable": 0}')
    assert main(["config", "enable"]) == 0
    assert file.read_text() == '{"enable": 0, "enable": 1}'


def test_set_changes_values_and_nothing_else(file, capsys) -> None:
    assert main(["config", "set", "timelimit=60", "prof_dir=/data/ä"]) == 0
    assert file.read_text() == TEXT.replace('"timelimit": 5', '"timelimit": 60').replace('"out"', '"/data/ä"')
    assert capsys.readouterr().out == f"{file}\ntimelimit: 5 -> 60\nprof_dir: out -> /data/ä\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{"domain": "Engine", "timelimit": 3}'),
        ("{\n}\n", '{"domain": "Engine", "timelimit": 3}\n'),
        ('{"enable":0}', '{"enable":0, "domain": "Engine", "timelimit": 3}'),
        (
            '{\n    "enable": 0,\n    "x": [1]\n}',
            '{\n    "enable": 0,\n    "x": [1],\n    "domain": "Engine",\n    "timelimit": 3\n}',
        ),
        ('{\r\n\t"enable": 0\r\n}', '{\r\n\t"enable": 0,\r\n\t"domain": "Engine",\r\n\t"timelimit": 3\r\n}'),
        ('{"a": 1, "timelimit":9}', '{"a": 1, "timelimit":3, "domain": "Engine"}'),
    ],
)
def test_new_fields_are_added_in_the_spacing_of_the_file(before, after, file) -> None:
    file.write_bytes(before.encode())
    assert main(["config", "set", "domain=Engine", "timelimit=3"]) == 0
    assert file.read_bytes() == after.encode()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("timelimit=7200", 7200),
        ("profiler_level=detailed", "detailed"),
        ("profiler_level=30", 30),
        ("domain=Engine; Schedule", "Engine; Schedule"),
        ("domain=", ""),
        ("prof_dir=123", "123"),
        ('prof_dir="a=b"', "a=b"),
        ("acl_prof_task_time_level=L1;10", "L1;10"),
        ("metric_enable=true", True),
        ("metric_enable=1", 1),
        ("torch_prof_stack=false", False),
        ("host_system_usage_freq=-1", -1),
        ("aclDataTypeConfig=ACL_PROF_AICPU,ACL_PROF_L2CACHE", "ACL_PROF_AICPU,ACL_PROF_L2CACHE"),
        ("prof_dir=\udcff", "\udcff"),
    ],
)
def test_values_are_read_as_the_field_wants_them(argument, value, file) -> None:
    assert main(["config", "set", argument]) == 0
    stored = json.loads(file.read_text())[argument.partition("=")[0]]
    assert (type(stored), stored) == (type(value), value)
    assert [problem.field for problem in parse(file.read_text(), "")[1]] == ["mine"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("enable=2", "enable: '2' is neither 0 nor 1; accepted: 0, 1"),
        ("enable=true", "enable: 'true' is neither 0 nor 1; accepted: 0, 1"),
        ("timelimit=7201", "timelimit: '7201' is higher than 7200; accepted: integer 0 to 7200, in seconds"),
        ("timelimit=1.5", "timelimit: '1.5' is not an integer; accepted: integer 0 to 7200, in seconds"),
        (
            "acl_task_time=4",
            "acl_task_time: '4' is not one of 0, 1, 2, 3; accepted: 0 off, 1 msprof, 2 MSPTI, 3 torch profiler",
        ),
        ("timelimt=1", "timelimt: is no known field; is timelimit meant?"),
        ("enable", "'enable' is not FIELD=VALUE"),
    ],
)
def test_a_value_that_the_table_refuses_changes_nothing(argument, message, file, refuse) -> None:
    assert refuse("set", "prof_dir=new", argument) == message
    assert file.read_text() == TEXT


def test_an_unknown_field_that_is_like_none_is_told_with_all(file, refuse) -> None:
    assert refuse("set", "zzz=1").startswith("zzz: is no known field; there are enable, prof_dir, ")


def test_set_says_that_a_running_profile_does_not_change(file, capsys) -> None:
    main(["config", "enable"])
    capsys.readouterr()
    assert main(["config", "set", "timelimit=9"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "profiling is on: this counts when it is turned on the next time"
    )


def test_set_as_json(file, capsys) -> None:
    assert main(["config", "set", "timelimit=9", "domain=Engine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(file),
        "changed": {"timelimit": {"before": 5, "after": 9}, "domain": {"before": None, "after": "Engine"}},
    }


def test_mode_and_symlink_stay_and_the_content_changes_at_once(file, tmp_path) -> None:
    file.chmod(0o664)
    link = tmp_path / "link.json"
    link.symlink_to(file.name)
    with file.open() as reader:  # whoever has the old file open reads it whole
        assert main(["config", "enable", "--file", str(link)]) == 0
        assert reader.read() == TEXT
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    assert '"enable":1' in file.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "ms.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_stays(file) -> None:
    os.chown(file, 1234, 4321)
    assert main(["config", "enable"]) == 0
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)


def test_a_file_that_no_rename_can_replace_is_written_in_place(file, monkeypatch) -> None:
    def busy(self: Path, target: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    before = file.stat().st_ino
    file.write_text(TEXT.replace('"out"', '"a long name that goes"'))
    assert main(["config", "set", "prof_dir=out", "enable=1"]) == 0
    assert file.read_text() == TEXT.replace('"enable":0', '"enable":1')
    assert file.stat().st_ino == before
    assert [path.name for path in file.parent.iterdir()] == ["ms.json"]


def test_a_full_disk_costs_nothing(file, monkeypatch, refuse) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert refuse("enable") == f"{file}: cannot be written: No space left on device"
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == ["ms.json"]


def test_a_read_only_file_is_left_alone(file, refuse) -> None:
    file.chmod(0o444)
    assert refuse("enable") == f"{file}: cannot be written: it is read-only"
    assert file.read_text() == TEXT


def test_show_gives_what_is_in_force_and_where_it_comes_from(file, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file.write_text(
        '{"enable": 1, "timelimit": 9000, "profiler_level": "l2", "domain": "KVCache",\n'
        ' "acl_prof_task_time_level": "L1,7", "torch_prof_stack": 1, "api_filter": "a; b", "no": 1}'
    )
    assert main(["config", "show"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        str(file),
        "enable                    1                             file",
        "prof_dir                  /home/me/.ms_server_profiler  default",
        "profiler_level            DETAILED                      file",
        "timelimit                 7200                          file",
        "domain                    KVCache;Schedule.KVCache      file",
        "host_system_usage_freq    -1                            default",
    ]
    assert lines[-3:] == [
        f'warning: {file}:1: "timelimit": 9000 is higher than 7200; 7200 is used',
        f'warning: {file}:2: "torch_prof_stack": 1 is neither true nor false; false is used',
        f'warning: {file}:2: "no": 1 is no known field and is ignored',
    ]


def test_show_as_json(file, capsys) -> None:
    file.write_text(
        '{"enable": 1, "timelimit": 9000, "profiler_level": 30, "domain": "Request;Engine", "torch_prof_stack": 1,\n'
        ' "acl_prof_task_time_level": "L1,7", "api_filter": "a; b", "aclDataTypeConfig": "ACL_PROF_AICPU,'
        'ACL_PROF_L2CACHE"}'
    )
    assert main(["config", "show", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    home = str(Path("~").expanduser())
    assert report["fields"] == {
        "enable": {"value": 1, "source": "file"},
        "prof_dir": {"value": f"{home}/.ms_server_profiler", "source": "default"},
        "profiler_level": {"value": "DETAILED", "source": "file"},
        "timelimit": {"value": 7200, "source": "file"},
        "domain": {"value": "Engine;OpenAI;Request", "source": "file"},
        "host_system_usage_freq": {"value": -1, "source": "default"},
        "npu_memory_usage_freq": {"value": -1, "source": "default"},
        "acl_task_time": {"value": 0, "source": "default"},
        "acl_prof_task_time_level": {"value": "L1;7", "source": "file"},
        "api_filter": {"value": "a;b", "source": "file"},
        "kernel_filter": {"value": "", "source": "default"},
        "metric_enable": {"value": False, "source": "default"},
        "aclDataTypeConfig": {"value": "ACL_PROF_AICPU,ACL_PROF_L2CACHE", "source": "file"},
        "aclprofAicoreMetrics": {"value": "ACL_AICORE_PIPE_UTILIZATION", "source": "default"},
        "torch_prof_stack": {"value": False, "source": "default"},
        "torch_prof_modules": {"value": False, "source": "default"},
        "torch_prof_step_num": {"value": 0, "source": "default"},
        "profiler_step_num": {"value": -1, "source": "default"},
    }
    assert report["file"] == str(file)
    assert len(report["warnings"]) == 2


def test_show_without_warnings(file) -> None:
    file.write_text(default_text())
    assert main(["config", "show"]) == 0


def test_the_command_imports_neither_vllm_nor_torch_nor_the_sdk(file) -> None:
    program = (
        "import json, sys\nfrom ascend_opentelemetry.cli import main\nmain(['config', 'enable'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    heavy = ("vllm", "torch", "torch_npu", "grpc", "requests", "opentelemetry.sdk", "opentelemetry.exporter")
    assert [name for name in loaded for prefix in heavy if name == prefix or name.startswith(f"{prefix}.")] == []
