"""The stand-ins of ``libmsprofiler.so`` and of ``msprof``."""

from __future__ import annotations

from pathlib import Path

from ._compiler import build

_MSPROF = """#!/bin/sh
# msprof --export=on --type=db --output=FOLDER
[ "$1 $2" = "--export=on --type=db" ] || exit 2
cp "$STAND_IN_MSPROF_DB" "${3#--output=}/msprof_1.db"
"""


def build_aclprof(home: Path) -> Path:
    """``lib64/libmsprofiler.so`` of its own state in a home of CANN; skips the test where there is no C compiler."""
    return build(home / "lib64" / "libmsprofiler.so", "aclprof.c", flags=("-Wno-format-truncation",))


def write_msprof(folder: Path) -> None:
    """``msprof``, which exports what ``STAND_IN_MSPROF_DB`` names."""
    program = folder / "msprof"
    program.write_text(_MSPROF)
    program.chmod(0o755)
