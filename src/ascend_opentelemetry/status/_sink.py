"""The sink that keeps the status file of this process up to date."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ascend_opentelemetry.status._folder import open_folder, remove_stale
from ascend_opentelemetry.status._process import role, start_ticks
from ascend_opentelemetry.status._versions import installed_versions

_logger = logging.getLogger(__name__)

#: Seconds between two writes at least.
INTERVAL = 1.0


class StatusSink:
    """Counts records and writes ``<folder>/<pid>.json``, of mode 0600; a ``recorder`` sink, the last one.

    Nobody is told when the file cannot be written (but at debug level): the program does not need it.

    Args:
        describe: gives the fields that this stage knows nothing of; the one argument is the number of records taken.
    """

    def __init__(self, describe: Callable[[int], Mapping[str, object]]) -> None:
        self._describe = describe
        self._versions: dict[str, str] = {}
        self._failed = False
        self._reset()

    def _reset(self) -> None:
        self.taken = 0
        self._due = 0.0
        self._folder: Path | None = None
        self._text = ""

    def write(self, records: Sequence[Any]) -> None:
        self.taken += len(records)

    def commit(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + INTERVAL
        try:
            self._update()
        except OSError as error:
            self._folder, self._text = None, ""  # somebody may have removed it
            self._tell(error)

    def _update(self) -> None:
        if self._folder is None:
            self._versions = self._versions or installed_versions()
            folder = open_folder()
            remove_stale(folder)
            self._folder = folder
        text = json.dumps(self._content())
        path = self._path(self._folder)
        if text != self._text or not path.exists():
            _replace(path, text)
            self._text = text

    def _content(self) -> dict[str, object]:
        pid = os.getpid()
        return {
            "pid": pid,
            "start_ticks": start_ticks(pid),
            "ppid": os.getppid(),
            "role": role(),
            "versions": self._versions,
            **self._describe(self.taken),
        }

    @staticmethod
    def _path(folder: Path) -> Path:
        return folder / f"{os.getpid()}.json"

    def request_flush(self) -> None:
        """Do nothing: there is nothing to send."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, timeout: float) -> None:  # noqa: ARG002
        """Remove the file, for good: the drain may still be in its last round."""
        self._due = float("inf")
        try:
            if self._folder is not None:
                self._path(self._folder).unlink(missing_ok=True)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            _logger.debug("the status of this process that ascend-otel doctor sees is missing or old: %s", error)

    def after_fork(self) -> None:
        """In the child: the file is the parent's; the next commit makes another."""
        self._reset()


def _replace(path: Path, text: str) -> None:
    """Write a file of mode 0600 so that a reader sees the old or the new content."""
    temporary = path.with_suffix(".tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as stream:
            os.fchmod(file, 0o600)
            stream.write(text)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
