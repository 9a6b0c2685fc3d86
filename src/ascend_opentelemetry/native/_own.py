"""Files that this process made, which no other process writes."""

from __future__ import annotations

import os
from pathlib import Path


class OwnFile:
    """A file that this process made.

    Args:
        path: where it was made.
        status: of the new file.
    """

    def __init__(self, path: Path, status: os.stat_result) -> None:
        self.path = path
        #: Writers of this process that have it open.
        self.users = 0
        self._inode = status.st_dev, status.st_ino
        self._left_ns = status.st_mtime_ns

    def _status(self) -> os.stat_result | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status if (status.st_dev, status.st_ino) == self._inode else None

    def is_there(self) -> bool:
        """Whether the path still leads to this file, as this process left it."""
        status = self._status()
        # a new file may get the inode of one that was removed, unless somebody has that open
        return status is not None and (self.users > 0 or status.st_mtime_ns == self._left_ns)

    def leave(self) -> None:
        """A writer has done its last write and is about to close the file."""
        status = self._status()
        if status is not None:
            self._left_ns = status.st_mtime_ns
        self.users -= 1


_made: dict[Path, OwnFile] = {}
os.register_at_fork(after_in_child=_made.clear)


def claim(wanted: Path) -> OwnFile:
    """The file of this process for a name; its writer calls ``leave``.

    The one made for this name before is taken again. Otherwise it is made, of mode 0640, and its missing folders of
    mode 0750. What exists already belongs to a process of the same host name and pid (in another container, or before
    a restart), and is not touched: then the name gets ``-1``, ``-2``, ... before its suffix.

    Raises:
        OSError: it cannot be made.
    """
    own = _made.get(wanted)
    if own is None or not own.is_there():
        own = _made[wanted] = _make(wanted)
    own.users += 1
    return own


def _make(wanted: Path) -> OwnFile:
    _make_folders(wanted.parent)
    path, number = wanted, 0
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
            break
        except FileExistsError:
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    try:
        os.fchmod(file, 0o640)
        return OwnFile(path, os.fstat(file))
    finally:
        os.close(file)


def _make_folders(path: Path) -> None:
    if not path.is_dir():
        _make_folders(path.parent)
        path.mkdir(0o750, exist_ok=True)  # another process of the service may be faster
