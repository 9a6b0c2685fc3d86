"""Stand-ins of libraries, compiled once a run."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_SOURCES = Path(__file__).parent
_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
_LANGUAGES = {
    ".c": ("C", ("cc", "gcc", "clang"), "-std=gnu11"),
    ".cpp": ("C++", ("c++", "g++", "clang++"), "-std=gnu++17"),
}


@functools.cache
def _compiled(sources: tuple[str, ...], flags: tuple[str, ...]) -> bytes:
    language, compilers, standard = _LANGUAGES[Path(sources[0]).suffix]
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        pytest.skip(f"no {language} compiler for the stand-ins of Ascend's libraries")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        paths = [str(_SOURCES / name) for name in sources]
        done = subprocess.run(
            [compiler, standard, *_FLAGS, *flags, "-o", str(library), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return library.read_bytes()


def build(library: Path, *sources: str, flags: tuple[str, ...] = ()) -> Path:
    """The library, of its own state; skips the test where the machine has no compiler.

    Args:
        library: its path.
        sources: names of files of this folder, or absolute paths; of one language.
        flags: for the compiler, beside those of all.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_bytes(_compiled(sources, flags))
    return library
