from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ascend_opentelemetry.cli import main

TRY = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_ascend_otel
for reply in "${COMPREPLY[@]}"; do echo "$reply"; done
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script.bash"
    with pytest.MonkeyPatch.context() as patch, path.open("w") as out:
        patch.setattr("sys.stdout", out)
        assert main(["completion", "bash"]) == 0
    return path


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        ([""], ["doctor", "config", "symbols", "npu", "completion"]),
        (["con"], ["config"]),
        (["--v"], ["--version"]),
        (["config", ""], ["init", "show", "enable", "disable", "set"]),
        (["config", "set", "tim"], ["timelimit="]),
        (["config", "set", "enable=1", "domain=a", "host"], ["host_system_usage_freq="]),
        (["config", "set", "--file", ""], []),
        (["config", "set", "--file", "config", "tim"], ["timelimit="]),
        (["doctor", "--protocol", ""], ["grpc", "http/protobuf"]),
        (["symbols", "check", "--j"], ["--json"]),
        (["symbols", "check", ""], []),
        (["npu", ""], ["import", "top"]),
        (["npu", "top", "--by", ""], ["type", "name", "core"]),
        (["npu", "import", "--a"], ["--again"]),
        (["completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes(words, replies, script) -> None:
    arguments = ["bash", "-uc", f"source {script}{TRY}", "bash", "ascend-otel", *words]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == replies
    assert done.stderr == ""


def test_zsh_takes_the_same_script_with_its_bash_completion(script, capsys) -> None:
    assert main(["completion", "zsh"]) == 0
    first, second, rest = capsys.readouterr().out.split("\n", 2)
    assert [first.split()[-1], second.split()[-1]] == ["-u", "bashcompinit"]
    assert rest == script.read_text()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_the_script(tmp_path, capsys) -> None:
    assert main(["completion", "zsh"]) == 0
    path = tmp_path / "script.zsh"
    path.write_text(capsys.readouterr().out)
    program = f"source {path} && whence -w _ascend_otel"
    done = subprocess.run(["zsh", "-fc", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "_ascend_otel: function\n"
