from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ascend_opentelemetry.cli import main
from ascend_opentelemetry.cli._finding import Finding, by_severity, exit_code

ERROR, WARNING, NOTE = (Finding(severity, severity, "") for severity in ("error", "warning", "note"))


def test_the_version(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ascend-otel {version('ascend-opentelemetry')}\n"


def test_help_names_the_commands(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "doctor" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["doctor", "--protocol", "http/json"]])
def test_a_wrong_command_line(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ascend-otel")


def test_the_script_is_this_function() -> None:
    lines = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text().splitlines()
    assert 'ascend-otel = "ascend_opentelemetry.cli:main"' in lines


def test_findings_are_sorted_and_said_once() -> None:
    other = Finding("error", "other", "")
    assert by_severity([NOTE, WARNING, ERROR, other, WARNING]) == [ERROR, other, WARNING, NOTE]


@pytest.mark.parametrize(
    ("findings", "code"), [([], 0), ([NOTE], 0), ([NOTE, WARNING], 1), ([WARNING, ERROR, NOTE], 2)]
)
def test_the_exit_code(findings, code) -> None:
    assert exit_code(findings) == code


def test_doctor_imports_neither_vllm_nor_torch_nor_the_sdk_before_it_sends() -> None:
    program = (
        "import json, sys\nfrom ascend_opentelemetry.cli import main\nmain(['doctor', '--no-send', '--json'])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    heavy = ("vllm", "torch", "torch_npu", "grpc", "requests", "opentelemetry.sdk", "opentelemetry.exporter")
    assert [name for name in loaded for prefix in heavy if name == prefix or name.startswith(f"{prefix}.")] == []
