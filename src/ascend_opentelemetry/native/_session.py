"""The profile session: one date folder for all processes of a service."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

from ascend_opentelemetry.native._upstream import others_write

#: ``<MMDD-HHMM>,<pid of the owner>``; set by the first process of a service, inherited by its children.
SESSION_VARIABLE = "_ASCEND_OTEL_PROFILE_SESSION"

_FORMAT = re.compile(r"(\d{4}-\d{4}),(\d{1,10})", re.ASCII)


class ProfileSession(NamedTuple):
    """Date folder (``MMDD-HHMM``, local time) and pid of the process that chose it."""

    folder: str
    owner: int

    @classmethod
    def join(cls) -> ProfileSession:
        """The session of this service; the first process to ask starts it.

        What is not below the owner, because that has ended or the variable was copied elsewhere, starts its own.
        Services that one instrumented process starts share its session, as they share its variables.
        """
        found = _FORMAT.fullmatch(os.environ.get(SESSION_VARIABLE, ""))
        if found and _descends_from(int(found[2])):
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
        """Absolute path that the file of this process should have; see ``claim``.

        Where the plugin of ms_service_profiler writes too, its name is left to it.
        """
        # the analyzer takes only these characters
        host = re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())
        beside = "-1" if others_write(os.environ) else ""
        return self.date_folder(prof_dir) / "Trace_Service" / f"ms_service_{host}-{os.getpid()}{beside}.db"


def _descends_from(pid: int) -> bool:
    """Whether ``pid`` is this process or one of its ancestors."""
    current = os.getpid()
    while current not in (0, pid):
        current = _parent(current)
    return current == pid


def _parent(pid: int) -> int:
    """Parent of a process; 0 where it is hidden, or outside of this pid namespace."""
    if pid == os.getpid():
        return os.getppid()
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])  # the name before it may hold anything
