from __future__ import annotations

import errno
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from ascend_opentelemetry.native import ProfileConfig, _watch
from ascend_opentelemetry.native._config import default_text
from ascend_opentelemetry.native._watch import ConfigFile

LOGGER = "ascend_opentelemetry.native._watch"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.json"


def age(path: Path, seconds: int) -> None:
    """Make the time stamp old enough to be trusted."""
    then = path.stat().st_mtime_ns - seconds * 1_000_000_000
    os.utime(path, ns=(then, then))


def test_missing_file_is_made(path: Path) -> None:
    file = ConfigFile(str(path))
    assert path.read_text() == default_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    config = file.poll()
    assert config is not None
    assert not config.enable
    assert config.prof_dir.endswith("/home/.ms_server_profiler/")


def test_existing_file_is_never_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text('{"enable": 1}')
    # the race: another process made the file after this one looked
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: False)
        file = ConfigFile(str(path))
    assert path.read_text() == '{"enable": 1}'
    assert list(path.parent.iterdir()) == [path]
    assert file.poll() == ProfileConfig(enable=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c.yaml", "does not exist, and is not made as its name does not end in .json; profiling stays off"),
        ("none/c.json", "cannot be made: No such file or directory; profiling stays off"),
    ],
)
def test_file_that_cannot_be_made(name: str, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = ConfigFile(str(tmp_path / name))
    for _ in range(3):
        assert file.poll() is None
    assert caplog.messages == [f"{tmp_path / name}: {message}"]
    assert list(tmp_path.iterdir()) == []


def test_dangling_link_is_made_at_its_target(path: Path) -> None:
    path.symlink_to(path.with_name("real.json"))
    ConfigFile(str(path))
    assert path.is_symlink()
    assert path.read_text() == default_text()


def test_relative_path_is_fixed_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text('{"enable": 1}')
    monkeypatch.chdir(path.parent)
    file = ConfigFile(path.name)
    monkeypatch.chdir("/")
    assert file.poll() == ProfileConfig(enable=True)


def test_only_changes_of_the_content_count(path: Path) -> None:
    path.write_text('{"enable": 0}')
    file = ConfigFile(str(path))
    assert file.poll() == ProfileConfig()
    assert file.poll() is None
    path.touch()
    assert file.poll() is None
    path.write_text('{"enable": 1}')
    assert file.poll() == ProfileConfig(enable=True)
    assert file.changed_ns == path.stat().st_mtime_ns


def test_two_edits_within_one_time_stamp_are_seen(path: Path) -> None:
    path.write_text('{"enable": 0}')
    file = ConfigFile(str(path))
    file.poll()
    stamp = path.stat().st_mtime_ns
    for enable in (1, 0, 1):
        path.write_text(f'{{"enable": {enable}}}')
        os.utime(path, ns=(stamp, stamp))
        config = file.poll()
        assert config is not None
        assert config.enable is (enable == 1)


def test_settled_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text('{"enable": 0}')
    age(path, 60)
    file = ConfigFile(str(path))
    file.poll()
    reads: list[int] = []
    monkeypatch.setattr(_watch, "read", lambda _: reads.append(1))
    assert file.poll() is None
    assert reads == []


def test_replaced_file_of_equal_size_and_time_is_seen(path: Path) -> None:
    path.write_text('{"enable": 0}')
    age(path, 60)
    stamp = path.stat().st_mtime_ns
    file = ConfigFile(str(path))
    file.poll()
    other = path.with_name("new")
    other.write_text('{"enable": 1}')
    os.utime(other, ns=(stamp, stamp))
    other.rename(path)
    assert file.poll() == ProfileConfig(enable=True)


def test_broken_file_is_one_warning_and_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text('{"enable": 1}')
    file = ConfigFile(str(path))
    file.poll()
    path.write_text('{"enable" 1}')
    for _ in range(4):
        assert file.poll() is None
    assert caplog.messages == [
        f"{path}:1:11: no valid JSON: Expecting ':' delimiter; its last good content stays in force"
    ]
    path.write_text('{"enable": 0}')
    assert file.poll() == ProfileConfig()


def test_broken_file_at_the_start_is_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("nonsense")
    age(path, 60)
    file = ConfigFile(str(path))
    for _ in range(4):
        assert file.poll() is None
    assert caplog.messages == [f"{path}:1:1: no valid JSON: Expecting value; profiling stays off"]


def test_half_written_file_is_no_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text('{"enable": 0}')
    file = ConfigFile(str(path))
    file.poll()
    path.write_text("")
    assert file.poll() is None
    path.write_text('{"enable": 1}')
    assert file.poll() == ProfileConfig(enable=True)
    assert caplog.messages == []


def test_vanished_file_is_one_warning_each_time(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text('{"enable": 1}')
    age(path, 60)
    file = ConfigFile(str(path))
    file.poll()
    for _ in range(2):
        path.rename(path.with_name("away"))
        for _ in range(4):
            assert file.poll() is None
        path.with_name("away").rename(path)
        assert file.poll() is None
    assert caplog.messages == [f"{path}: is gone; its last good content stays in force"] * 2
    assert not path.with_name("away").exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "large", "binary"])
def test_what_is_no_text_file_is_refused(kind: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b" " * ((1 << 20) + 1))
    else:
        path.write_bytes(b'{"a": "\xff"}')
    file = ConfigFile(str(path))
    for _ in range(3):
        assert file.poll() is None
    expected = "is no UTF-8 text (byte 7)" if kind == "binary" else "is no regular file of at most 1 MiB"
    assert caplog.messages == [f"{path}: {expected}; profiling stays off"]


def test_wrong_values_are_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text('{"enable": 0, "timelimit": [1], "zz": {}}')
    file = ConfigFile(str(path))
    file.poll()
    path.write_text('{"enable": 1, "timelimit": [1], "zz": {}}')
    assert file.poll() == ProfileConfig(enable=True)
    assert caplog.messages == [
        f'{path}:1: "timelimit": [1] is not an integer; 0 is used',
        f'{path}:1: "zz": {{}} is no known field and is ignored',
    ]


def test_a_file_that_is_all_wrong_does_not_flood_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = ConfigFile(str(path))
    for enable in (0, 1):
        path.write_text(json.dumps({"enable": enable} | {f"k{number}": 0 for number in range(500)}))
        assert file.poll() == ProfileConfig(enable=bool(enable))
    assert len(caplog.messages) == 21
    assert caplog.messages[20] == f"{path}: 480 more problems: ascend-otel config show --file {path}"


def test_only_one_process_of_a_service_warns(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text('{"enable": "yes"}')
    other = ConfigFile(str(path), lambda: False)
    assert other.poll() == ProfileConfig()
    path.write_text("{")
    assert (other.poll(), other.poll()) == (None, None)
    assert caplog.messages == []


def test_the_mark_of_editors_on_windows_stays_in_the_file(path: Path) -> None:
    path.write_text('\ufeff{"enable": 1}')
    file = ConfigFile(str(path))
    assert file.poll() == ProfileConfig(enable=True)
    assert file.disable()
    assert path.read_text() == '\ufeff{"enable": 0}'


ODD = '{\r\n\t"other" : {"enable": 1},\r\n  "caf\u00e9":"\\"enable\\": 1",\r\n   "enable"  :   1 , "prof_dir":"x"}\n\n'


def test_disable_changes_one_byte(path: Path) -> None:
    path.write_bytes(ODD.encode())
    path.chmod(0o646)
    inode = path.stat().st_ino
    file = ConfigFile(str(path))
    config = file.poll()
    assert config is not None
    assert config.enable
    assert file.disable()
    assert path.read_bytes() == ODD.replace('"enable"  :   1', '"enable"  :   0').encode()
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o646, inode)
    config = file.poll()
    assert config is not None
    assert not config.enable


def test_disable_follows_links(path: Path) -> None:
    real = path.with_name("real")
    real.write_text('{"enable": 1}')
    path.symlink_to(real)
    assert ConfigFile(str(path)).disable()
    assert path.is_symlink()
    assert real.read_text() == '{"enable": 0}'


def mount(folder: Path, version: str, text: str) -> Path:
    """Publish a version as Kubernetes does with a ConfigMap: ``c.json -> ..data/c.json``, ``..data -> <version>``."""
    (folder / version).mkdir()
    (folder / version / "c.json").write_text(text)
    age(folder / version / "c.json", 60)
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")
    path = folder / "c.json"
    if not path.is_symlink():
        path.symlink_to("..data/c.json")
    return path


def test_config_map_that_is_swapped_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = mount(tmp_path, "..2026_01", '{"enable": 0}')
    file = ConfigFile(str(path))
    assert file.poll() == ProfileConfig()
    assert file.poll() is None
    for version, enable in (("..2026_02", 1), ("..2026_03", 0)):
        mount(tmp_path, version, f'{{"enable": {enable}}}')
        assert file.poll() == ProfileConfig(enable=enable == 1)
        assert file.poll() is None
    assert caplog.messages == []


def test_config_map_on_a_writable_volume_is_rewritten_where_it_lies(tmp_path: Path) -> None:
    path = mount(tmp_path, "..2026_01", '{"enable": 1, "timelimit": 3}')
    assert ConfigFile(str(path)).disable()
    assert path.is_symlink()
    assert (tmp_path / "..2026_01" / "c.json").read_text() == '{"enable": 0, "timelimit": 3}'


def test_disable_of_a_config_map_on_a_read_only_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    path = mount(tmp_path, "..2026_01", '{"enable": 1}')
    really = os.open

    def mounted(name: Path, flags: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(name))
        return really(name, flags)

    monkeypatch.setattr(os, "open", mounted)
    file = ConfigFile(str(path))
    assert file.poll() == ProfileConfig(enable=True)
    assert not file.disable()
    assert path.read_text() == '{"enable": 1}'
    assert caplog.messages == [f'{path}: "enable" stays 1: Read-only file system']


def test_disable_leaves_a_read_only_file_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    path.write_text('{"enable": 1}')
    path.chmod(0o444)
    assert not ConfigFile(str(path)).disable()
    assert path.read_text() == '{"enable": 1}'
    assert caplog.record_tuples == [(LOGGER, logging.INFO, f'{path}: "enable" stays 1: it is read-only')]


@pytest.mark.parametrize("text", ['{"enable": 0}', '{"enable": 10}', '{"enable": true}', '{"enable": 1', "{}", ""])
def test_disable_touches_nothing_else(text: str, path: Path) -> None:
    path.write_text(text)
    assert not ConfigFile(str(path)).disable()
    assert path.read_text() == text


def test_disable_of_a_vanished_file(path: Path) -> None:
    path.write_text('{"enable": 1}')
    file = ConfigFile(str(path))
    path.unlink()
    assert not file.disable()
    assert not path.exists()
