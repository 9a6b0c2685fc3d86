"""The profile session: one date folder for all processes of a service."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

#: ``<MMDD-HHMM>,<pid of the owner>``; set by the first process of a service, inherited by its children.
SESSION_VARIABLE = "_ASCEND_OTEL_PROFILE_SESSION"

_FORMAT = re.compile(r"(\d{4}-\d{4}),(\d{1,10})", re.ASCII)


class ProfileSession(NamedTuple):
    """Date folder (``MMDD-HHMM``, local time) and pid of the process that chose it."""

    folder: str
    owner: int

    @classmethod
    def join(cls) -> ProfileSession:
        """The session of this service; the first process to ask starts it."""
        found = _FORMAT.fullmatch(os.environ.get(SESSION_VARIABLE, ""))
        if found:
            return cls(found[1], int(found[2]))
        session = cls(time.strftime("%m%d-%H%M"), os.getpid())
        os.environ[SESSION_VARIABLE] = f"{session.folder},{session.owner}"
        return session

    @property
    def is_owner(self) -> bool:
        """Whether this process chose the folder."""
        return self.owner == os.getpid()

    def date_folder(self, prof_dir: str) -> Path:
        """Absolute path of the date folder."""
        return Path(prof_dir).absolute() / self.folder

    def file(self, prof_dir: str) -> Path:
        """Absolute path of the file of this process."""
        # the analyzer takes only these characters
        host = re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())
        return self.date_folder(prof_dir) / "Trace_Service" / f"ms_service_{host}-{os.getpid()}.db"


def make_private(path: Path) -> None:
    """Make a file of mode 0640 and its missing folders of mode 0750; an existing file is not touched.

    Raises:
        OSError: it cannot be made.
    """
    _make_folders(path.parent)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    except FileExistsError:  # opening and closing it here would let go of the locks of another connection to it
        return
    os.fchmod(file, 0o640)
    os.close(file)


def _make_folders(path: Path) -> None:
    if not path.is_dir():
        _make_folders(path.parent)
        path.mkdir(0o750, exist_ok=True)  # another process of the service may be faster
