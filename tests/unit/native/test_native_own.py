from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_opentelemetry.native._own import claim

CLAIM = """
import sys
from pathlib import Path
from ascend_opentelemetry.native._own import claim
sys.stdin.readline()
print(claim(Path(sys.argv[1])).path.name)
"""


def others(path: Path, count: int) -> list[str]:
    """Names that as many other processes get for a path at the same time."""
    command = [sys.executable, "-c", CLAIM, str(path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sorted(process.communicate()[0].strip() for process in processes)


def test_modes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = claim(tmp_path / "a" / "0304-0506" / "Trace_Service" / "x.db").path
        assert [stat.S_IMODE(item.stat().st_mode) for item in (path, *path.parents[:3])] == [0o640] + [0o750] * 3
    finally:
        os.umask(old)


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        claim(tmp_path / "a" / "x.db")


def test_processes_that_race_for_a_name_get_files_of_their_own(tmp_path: Path) -> None:
    names = others(tmp_path / "d" / "ms_service_a.b-7.db", 6)
    expected = [f"ms_service_a.b-7{number}.db" for number in ("", "-1", "-2", "-3", "-4", "-5")]
    assert names == sorted(expected)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == sorted(expected)


def test_a_file_left_is_taken_again(tmp_path: Path) -> None:
    own = claim(tmp_path / "x.db")
    own.path.write_text("row")
    own.leave()
    assert claim(tmp_path / "x.db") is own
    assert own.users == 1


def test_two_writers_of_a_process_share_the_file(tmp_path: Path) -> None:
    first, second = claim(tmp_path / "x.db"), claim(tmp_path / "x.db")
    assert first is second
    first.leave()
    os.utime(first.path, ns=(1, 1))  # the other one wrote
    assert claim(tmp_path / "x.db") is first


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.db").symlink_to(tmp_path / "elsewhere.db")
    assert claim(tmp_path / "x.db").path == tmp_path / "x-1.db"
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    own = claim(tmp_path / "x.db")
    own.leave()
    own.path.unlink()
    again = claim(tmp_path / "x.db")
    assert again is not own
    assert again.path == own.path


def test_a_file_of_the_same_inode_that_another_process_made_is_not_taken(tmp_path: Path) -> None:
    own = claim(tmp_path / "x.db")
    own.leave()
    before = own.path.stat()
    own.path.unlink()
    own.path.write_text("of another")
    os.utime(own.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    own._inode = own.path.stat().st_dev, own.path.stat().st_ino  # as file systems that give it again soon do
    assert not own.is_there()
    assert claim(tmp_path / "x.db").path == tmp_path / "x-1.db"


def test_a_forked_child_owns_nothing(tmp_path: Path) -> None:
    claim(tmp_path / "x.db")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if claim(tmp_path / "x.db").path == tmp_path / "x-1.db" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert claim(tmp_path / "x.db").path == tmp_path / "x.db"
