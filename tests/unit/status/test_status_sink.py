from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import status
from ascend_opentelemetry.status import StatusSink, _sink, installed_versions, start_ticks
from ascend_opentelemetry.status._reader import KEYS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_sink, "time", clock)
    return clock


@pytest.fixture
def sink() -> StatusSink:
    return StatusSink(lambda taken: {"records": taken})


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / f"{os.getpid()}.json"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_what_is_written(sink, path) -> None:
    sink.write([None] * 3)
    sink.write([None] * 4)
    sink.commit()
    assert read(path) == {
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "ppid": os.getppid(),
        "role": "main",
        "versions": installed_versions(),
        "records": 7,
    }
    assert list(path.parent.iterdir()) == [path]


def test_only_the_user_may_read_it(sink, path) -> None:
    before = os.umask(0)
    try:
        sink.commit()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_is_written_once_a_second_at_most(sink, path, clock) -> None:
    sink.commit()
    sink.write([None])
    clock.now += 0.99
    sink.commit()
    assert read(path)["records"] == 0
    clock.now += 0.02
    sink.commit()
    assert read(path)["records"] == 1


def test_it_is_not_written_when_nothing_has_changed(sink, path, clock) -> None:
    sink.commit()
    first = path.stat().st_ino, path.stat().st_mtime_ns
    clock.now += 2
    sink.commit()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == first
    sink.write([None])
    clock.now += 2
    sink.commit()
    assert path.stat().st_mtime_ns > first[1]


def test_a_reader_never_sees_half_of_it(sink, path, clock, monkeypatch) -> None:
    """The new content comes by a rename: until then the old one is there."""
    sink.commit()
    seen: list[int] = []
    rename = Path.rename

    def watched(source: Path, target: Path) -> Path:
        seen.append(read(path)["records"])
        assert read(source)["records"] == 1
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", watched)
    sink.write([None])
    clock.now += 2
    sink.commit()
    assert (seen, read(path)["records"]) == ([0], 1)


def test_the_end_removes_it_for_good(sink, path, clock) -> None:
    sink.commit()
    sink.shutdown(1)
    assert not path.exists()
    clock.now += 2
    sink.write([None])
    sink.commit()
    assert not path.exists()


def test_the_first_write_removes_what_killed_processes_left(sink, folder, dead_pid) -> None:
    folder.mkdir()
    stale = folder / f"{dead_pid}.json"
    stale.write_text(json.dumps({"pid": dead_pid, "start_ticks": 1}))
    sink.commit()
    assert not stale.exists()


def test_a_forked_child_has_a_file_of_its_own(sink, path) -> None:
    sink.write([None] * 5)
    sink.commit()
    pid = os.fork()
    if not pid:
        try:
            sink.after_fork()
            sink.write([None])
            sink.commit()
            own = read(path.with_name(f"{os.getpid()}.json"))
            os._exit(0 if (own["pid"], own["ppid"], own["records"]) == (os.getpid(), os.getppid(), 1) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert read(path)["records"] == 5


def test_a_folder_that_was_removed_is_made_again(sink, path, clock) -> None:
    sink.commit()
    path.unlink()
    path.parent.rmdir()
    for _ in range(2):
        clock.now += 2
        sink.write([None])
        sink.commit()
    assert read(path)["records"] == 2


def test_where_nothing_can_be_written_it_is_silent(sink, path, clock, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    path.parent.write_text("a file")
    for _ in range(3):
        sink.commit()
        clock.now += 2
    (said,) = caplog.records
    assert said.levelname == "DEBUG"
    assert said.getMessage().startswith("the status of this process that ascend-otel doctor sees is missing or old: ")
    sink.shutdown(1)
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_removed_stays(sink, path, monkeypatch, caplog) -> None:
    sink.commit()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    sink.shutdown(1)
    assert path.exists()
    assert caplog.records == []


def test_a_full_disk_leaves_the_last_content(sink, path, clock, monkeypatch, caplog) -> None:
    sink.commit()

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_sink.os, "fdopen", full)
    sink.write([None])
    clock.now += 2
    sink.commit()
    assert read(path)["records"] == 0
    assert list(path.parent.iterdir()) == [path]
    assert caplog.records == []


def test_it_has_nothing_to_flush(sink) -> None:
    sink.request_flush()
    assert sink.flush(0) is True


def test_reading_gives_what_was_written(sink, path) -> None:
    sink._describe = lambda taken: dict.fromkeys(KEYS, taken)
    sink.commit()
    (content,) = status.read_all()
    assert content == read(path)


def test_a_file_that_was_removed_comes_back(sink, path, clock) -> None:
    sink.commit()
    path.unlink()
    clock.now += 2
    sink.commit()
    assert path.exists()
