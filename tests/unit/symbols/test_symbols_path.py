from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from ascend_opentelemetry.symbols import DEFAULT_FILE, _path, find

VARIABLE = "PROFILING_SYMBOLS_PATH"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nobody."""
    home = tmp_path / "home" / "nobody"
    monkeypatch.setenv("HOME", str(home))
    return home


def users_file(home: Path, version: str) -> Path:
    path = home / ".config" / "vllm_ascend" / f"service_profiling_symbols.{version}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "  "}])
def test_the_packages_own_file(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert find(environ) == DEFAULT_FILE
    assert DEFAULT_FILE.name == "service_profiling_symbols.yaml"
    assert DEFAULT_FILE.is_file()
    assert caplog.records == []


def test_the_users_file_for_the_installed_vllm(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = users_file(home, "0.11.0rc1+cpu")
    users_file(home, "0.12.0")
    assert find({}, {"vllm": "0.11.0rc1+cpu"}.get) == path
    assert find({VARIABLE: " "}, {"vllm": "0.12.0"}.get) != path
    assert find({}, {"vllm": "0.13.0"}.get) == DEFAULT_FILE
    assert find({}, {}.get) == DEFAULT_FILE
    assert caplog.records == []
    assert len(names(path.parent)) == 2


def test_the_variable_comes_before_the_users_file(home: Path, tmp_path: Path) -> None:
    users_file(home, "0.12.0")
    path = tmp_path / "mine.yaml"
    path.write_text("[]")
    assert find({VARIABLE: str(path)}, {"vllm": "0.12.0"}.get) == path


def test_a_folder_in_place_of_the_users_file_is_none(home: Path) -> None:
    path = users_file(home, "0.12.0")
    path.unlink()
    path.mkdir()
    assert find({}, {"vllm": "0.12.0"}.get) == DEFAULT_FILE


def test_without_a_home_there_is_no_users_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert find({}, {"vllm": "0.12.0"}.get) == DEFAULT_FILE


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_an_existing_file(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    path.write_text("[]")
    assert find({VARIABLE: str(path)}) == path
    assert path.read_text() == "[]"
    assert caplog.records == []


def test_a_missing_file_is_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / "er" / "mine.yml"
    assert find({VARIABLE: str(path)}) == path
    assert path.read_bytes() == DEFAULT_FILE.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["mine.yml"]
    assert caplog.records == []


def test_home(home: Path) -> None:
    assert find({VARIABLE: "~/mine.yaml"}) == home / "mine.yaml"
    assert names(home) == ["mine.yaml"]


@pytest.mark.parametrize("name", ["mine.json", "mine", "yaml", "mine.yaml.bak"])
def test_another_ending(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    assert find({VARIABLE: str(path)}) == DEFAULT_FILE
    assert not path.exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"{VARIABLE}={path} must end in .yaml or .yml; {DEFAULT_FILE} is used"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "mine.yaml"
    assert find({VARIABLE: str(path)}) == DEFAULT_FILE
    assert [record.getMessage() for record in caplog.records] == [
        f"{VARIABLE}={path} cannot be written (File exists); {DEFAULT_FILE} is used"
    ]


def test_a_dangling_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mine.yaml"
    path.symlink_to(tmp_path / "nowhere")
    assert find({VARIABLE: str(path)}) == DEFAULT_FILE
    assert names(tmp_path) == ["mine.yaml"]
    assert len(caplog.records) == 1


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert find({}, lambda _: "0.32.0") == DEFAULT_FILE
    assert caplog.messages == []
    assert find({VARIABLE: "~/mine.yaml"}) == DEFAULT_FILE
    assert caplog.messages == [
        f"{VARIABLE}=~/mine.yaml cannot be written (Could not determine home directory.); {DEFAULT_FILE} is used"
    ]


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_path.os, "fchmod", full)
    assert find({VARIABLE: str(tmp_path / "mine.yaml")}) == DEFAULT_FILE
    assert names(tmp_path) == []
    assert "cannot be written (No space left on device)" in caplog.text


def test_a_file_made_meanwhile_by_another_process_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    link = os.link

    def late(source: str, target: Path) -> None:
        path.write_text("[theirs]")
        link(source, target)

    monkeypatch.setattr(_path.os, "link", late)
    assert find({VARIABLE: str(path)}) == path
    assert path.read_text() == "[theirs]"
    assert names(tmp_path) == ["mine.yaml"]


def test_many_at_once_see_only_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    barrier = threading.Barrier(8)
    seen: list[bytes] = []

    def run() -> None:
        barrier.wait()
        seen.append(find({VARIABLE: str(path)}).read_bytes())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [DEFAULT_FILE.read_bytes()] * 8
    assert names(tmp_path) == ["mine.yaml"]
