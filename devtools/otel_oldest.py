"""The vLLM environment with the oldest OpenTelemetry that this package supports laid over it.

``python3 -m devtools.otel_oldest`` builds what is missing and prints the path of its Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devtools import _env, vllm_env

LOCK = _env.LOCKS / "otel-oldest.txt"

_COMMAND = """\
#!{python}
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":  # spawned processes import it
    sys.exit(main())
"""


def ensure() -> vllm_env.VllmEnv:
    """Builds the environment where it is missing, with this checkout installed editable.

    Raises:
        BuildError: a step failed.
    """
    below = vllm_env.build()
    folder = _env.cache_dir() / f"otel-oldest-{_env.digest(LOCK, _COMMAND, str(below.python))}"
    _env.build_once(folder, lambda target: _steps(target, below))
    _env.install_repository(folder)
    return vllm_env.VllmEnv(_env.python_of(folder), below.model)


def _steps(target: Path, below: vllm_env.VllmEnv) -> None:
    _env.install_lock(target, LOCK, "installing the oldest OpenTelemetry")
    python = _env.python_of(target)
    packages = next(target.glob("venv/lib/python3*/site-packages"))
    others = next(below.python.parents[1].glob("lib/python3*/site-packages"))
    # found after its own: the rest comes from below
    (packages / "vllm-environment.pth").write_text(f"{others}\n")
    command = python.with_name("vllm")
    command.write_text(_COMMAND.format(python=python))
    command.chmod(0o755)


if __name__ == "__main__":
    sys.exit(_env.print_path(lambda: ensure().python))
