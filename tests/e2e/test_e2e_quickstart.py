"""The service profiling guide's quick start, by its script, without ``opentelemetry-instrument``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from devtools.server import DEFAULT_ENV, free_port
from tests.support.contract import check, read_rows

pytestmark = pytest.mark.vllm

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart.sh"
GUIDE = Path(__file__).parents[3] / "shared" / "reference" / "service-profiling-guide.md"


@pytest.fixture(scope="module")
def quickstart(
    vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Home folder of the run, which is its current folder too, and its output."""
    home = tmp_path_factory.mktemp("quickstart")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTHON", "VLLM_"))}
    env |= DEFAULT_ENV | {
        "HOME": str(home),
        "PATH": f"{vllm_python.parent}{os.pathsep}{env['PATH']}",
        "MODEL": str(tiny_model),
        "PORT": str(free_port()),
        "VLLM_ARGS": "--host 127.0.0.1 --max-model-len 256 --enforce-eager",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT)], cwd=home, env=env, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=300
    )
    return home, done


def test_it_runs_the_commands_of_the_guide() -> None:
    if not GUIDE.exists():
        pytest.skip("the guide is not here")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    script = SCRIPT.read_text()
    assert "export SERVICE_PROF_CONFIG_PATH=ms_service_profiler_config.json" in blocks[0]
    assert "export SERVICE_PROF_CONFIG_PATH=ms_service_profiler_config.json" in script
    assert blocks[1].strip() in script  # the sed command
    assert "opentelemetry-instrument" not in script


def test_it_leaves_a_default_config_that_is_on(quickstart: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, done = quickstart
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((home / "ms_service_profiler_config.json").read_text()) == {
        "enable": 1,
        "prof_dir": f"{home}/.ms_server_profiler/",
        "profiler_level": "INFO",
        "acl_task_time": 0,
        "acl_prof_task_time_level": "L0",
        "timelimit": 0,
        "domain": "",
    }
    assert "Profiler Enabled Successfully!" in done.stderr


def test_it_leaves_native_files_of_all_three_processes(
    quickstart: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, done = quickstart
    files = list(home.glob(".ms_server_profiler/*/Trace_Service/ms_service_*.db"))
    assert len(files) == 3, done.stderr[-3000:]
    assert len({file.parent for file in files}) == 1
    assert re.fullmatch(r"\d{4}-\d{4}", files[0].parents[1].name)
    profile = home / ".ms_server_profiler"
    assert check(profile, complete=True) == []
    rows = read_rows(profile)
    answer = json.loads(re.search(r"^\{.*?^\}", done.stdout, re.DOTALL | re.MULTILINE)[0])  # pyright: ignore
    (response,) = [row for row in rows if row.name == "httpRes"]
    assert response.args["rid"] == f"{answer['id']}-0"
    assert response.args["recvTokenSize="] == answer["usage"]["prompt_tokens"]
    assert response.args["replyTokenSize="] == answer["usage"]["completion_tokens"] == 5
    assert len([row for row in rows if row.name == "batchFrameworkProcessing"]) == 5
    assert len([row for row in rows if row.name == "forward"]) == 5
