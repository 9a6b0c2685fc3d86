"""The folder of the status files, one a user."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from ascend_opentelemetry.status._process import is_alive, start_ticks

_logger = logging.getLogger(__name__)

_RUNTIME_DIRECTORY = "XDG_RUNTIME_DIR"
_NAME = "ascend-otel"


def candidates() -> list[Path]:
    """Where status files may lie, the folder of this process first.

    A service and a shell often differ in ``XDG_RUNTIME_DIR``, so a reader looks into all of them.
    """
    uid = os.geteuid()
    runtime = os.environ.get(_RUNTIME_DIRECTORY)
    folders = [Path(runtime) / _NAME] if runtime else []
    folders += [Path(tempfile.gettempdir()) / f"{_NAME}-{uid}", Path(f"/run/user/{uid}") / _NAME]
    return list(dict.fromkeys(folders))


def check(folder: Path) -> None:
    """Refuse a folder that somebody else could have put there.

    Raises:
        PermissionError: it is a link, no folder, or belongs to another user.
        OSError: it cannot be looked at.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of this user")


def open_folder() -> Path:
    """Make the folder of this process, of mode 0700.

    Raises:
        OSError: it cannot be made, or is not ours (see `check`).
    """
    folder = next((folder for folder in candidates() if folder.parent.is_dir()), candidates()[0])
    folder.mkdir(0o700, exist_ok=True)
    check(folder)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


def load(path: Path) -> dict[str, Any] | None:
    """The content of a status file; None when it is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    fields = content if isinstance(content, dict) else {}
    known = fields.get("pid") == _pid(path) and isinstance(fields.get("start_ticks"), int)
    return fields if known else None


def remove_stale(folder: Path) -> None:
    """Remove the files of processes that no longer run, e.g. because they were killed."""
    for path in folder.iterdir():
        pid = _pid(path)
        if pid is None or pid == os.getpid():
            continue
        content = load(path) if path.suffix == ".json" else None
        alive = start_ticks(pid) is not None if content is None else is_alive(pid, content["start_ticks"])
        if not alive:
            try:
                path.unlink()
            except OSError as error:
                _logger.debug("%s stays: %s", path, error)


def _pid(path: Path) -> int | None:
    return int(path.stem) if path.stem.isdecimal() and path.suffix in (".json", ".tmp") else None
