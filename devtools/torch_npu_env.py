"""The vLLM environment with the real torch_npu laid over it, for tests of what reads it; no CANN, no NPU.

``python3 -m devtools.torch_npu_env`` builds what is missing and prints the path of its Python. Once torch_npu is
installed, a plain ``import torch`` loads it and fails without CANN: hence an environment of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devtools import _env, vllm_env

LOCK = _env.LOCKS / "torch-npu.txt"


def ensure() -> Path:
    """Builds the environment where it is missing, with this checkout installed editable, and returns its Python.

    Raises:
        BuildError: a step failed.
    """
    below = vllm_env.build().python
    folder = _env.cache_dir() / f"torch-npu-{_env.digest(LOCK, below)}"
    _env.build_once(folder, lambda target: _steps(target, below))
    _env.install_repository(folder)
    return _env.python_of(folder)


def _steps(target: Path, below: Path) -> None:
    _env.install_lock(target, LOCK, "installing torch_npu (44 MB to download the first time)")
    packages = next(target.glob("venv/lib/python3*/site-packages"))
    others = next(below.parents[1].glob("lib/python3*/site-packages"))
    # torch and the rest come from below
    (packages / "vllm-environment.pth").write_text(f"{others}\n")


if __name__ == "__main__":
    sys.exit(_env.print_path(ensure))
