"""The light environment for lint, types and unit tests: ``python3 -m devtools.dev_env`` prints its Python."""

from __future__ import annotations

import sys
from pathlib import Path

from devtools import _env

LOCK = _env.LOCKS / "dev.txt"


def ensure() -> Path:
    """Builds the environment where it is missing, with this checkout installed editable, and returns its Python.

    Raises:
        BuildError: a step failed.
    """
    folder = _env.cache_dir() / f"dev-{_env.digest(LOCK)}"
    _env.build_once(folder, lambda target: _env.install_lock(target, LOCK, "installing the development tools"))
    _env.install_repository(folder)
    return _env.python_of(folder)


if __name__ == "__main__":
    sys.exit(_env.print_path(ensure))
