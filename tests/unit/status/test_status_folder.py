from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ascend_opentelemetry.status import candidates, open_folder, read_all, remove_stale, start_ticks
from ascend_opentelemetry.status._reader import KEYS


def put(folder: Path, pid: int, ticks: int | None, name: str | None = None) -> Path:
    path = folder / (name or f"{pid}.json")
    path.write_text(json.dumps({"pid": pid, "start_ticks": ticks, **dict.fromkeys(KEYS)}))
    return path


def test_the_folder_is_in_the_runtime_directory(folder, tmp_path) -> None:
    assert candidates()[:2] == [folder, tmp_path / "tmp" / f"ascend-otel-{os.geteuid()}"]


def test_without_a_runtime_directory_it_is_in_the_temporary_one(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert candidates()[0] == tmp_path / "tmp" / f"ascend-otel-{os.geteuid()}"


def test_it_is_made_for_this_user_only(folder) -> None:
    before = os.umask(0)
    try:
        assert open_folder() == folder
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_that_others_may_read_is_closed_to_them(folder) -> None:
    folder.mkdir(0o755)
    open_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_is_refused(folder, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="not a folder of this user"):
        open_folder()


def test_a_folder_of_others_is_refused_and_not_read(folder, monkeypatch) -> None:
    folder.mkdir(0o700)
    put(folder, os.getpid(), start_ticks(os.getpid()))
    monkeypatch.setattr("os.geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="not a folder of this user"):
        open_folder()
    assert read_all() == []


def test_files_of_processes_that_have_ended_are_removed(folder, dead_pid) -> None:
    folder.mkdir()
    parent = os.getppid()
    ended = put(folder, dead_pid, 1)
    half = put(folder, dead_pid, 1, f"{dead_pid}.tmp")
    reused = put(folder, parent, (start_ticks(parent) or 0) + 1)
    remove_stale(folder)
    assert [path.exists() for path in (ended, half, reused)] == [False, False, False]


def test_files_of_processes_that_run_and_foreign_files_stay(folder, dead_pid) -> None:
    folder.mkdir()
    kept = [
        put(folder, os.getpid(), start_ticks(os.getpid())),
        put(folder, os.getppid(), start_ticks(os.getppid())),
        put(folder, os.getppid(), None, f"{os.getppid()}.tmp"),
        put(folder, dead_pid, 1, "notes.json"),
        put(folder, dead_pid, 1, f"{dead_pid}.txt"),
    ]
    remove_stale(folder)
    assert [path.exists() for path in kept] == [True] * 5


def test_reading_takes_all_folders_and_the_order_of_the_starts(folder) -> None:
    other = candidates()[1]
    own, parent = os.getpid(), os.getppid()
    for place, pid in ((folder, own), (other, parent)):
        place.mkdir(parents=True)
        put(place, pid, start_ticks(pid))
    assert [status["pid"] for status in read_all()] == [parent, own]


def test_the_status_of_another_version_is_left_out_and_stays(folder) -> None:
    folder.mkdir()
    path = put(folder, os.getpid(), start_ticks(os.getpid()))
    content = json.loads(path.read_text())
    del content["records"]
    path.write_text(json.dumps(content))
    assert read_all() == []
    assert path.exists()


def test_without_the_runtime_directory_the_next_place_is_taken(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no" / "such"))
    assert open_folder() == tmp_path / "tmp" / f"ascend-otel-{os.geteuid()}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "start_ticks": 1}'])
def test_what_is_no_status_is_not_read(folder, text) -> None:
    folder.mkdir()
    (folder / f"{os.getpid()}.json").write_text(text)
    assert read_all() == []


def test_reading_removes_what_is_stale(folder, dead_pid) -> None:
    folder.mkdir()
    ended = put(folder, dead_pid, 1)
    assert read_all() == []
    assert not ended.exists()
