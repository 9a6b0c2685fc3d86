"""Child processes that do not outlive whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from devtools._env import tail

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class NotReadyError(RuntimeError):
    """A process ended or took too long before it answered; the message holds the end of its log."""


def end_with_parent() -> None:
    """In a new child (``preexec_fn``): get SIGTERM when the thread that started it ends, however that comes about."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(
    command: Sequence[str], log_path: Path, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a command as the leader of a session of its own.

    Args:
        command: with its arguments.
        log_path: file that gets stdout and stderr of all its processes; its folder is made.
        env: environment variables.
        cwd: working directory; None for ours.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


def wait_ready(process: subprocess.Popen[bytes], url: str, name: str, log_path: Path, timeout: float) -> float:
    """Waits until a URL answers.

    Args:
        process: that should answer.
        url: to ask.
        name: of the process in messages.
        log_path: of its log.
        timeout: seconds to wait.

    Returns:
        Seconds that it took.

    Raises:
        NotReadyError: it did not.
    """
    started = time.monotonic()
    while time.monotonic() - started < timeout:
        if process.poll() is not None:
            raise NotReadyError(f"{name} ended with status {process.returncode}; {_end_of(log_path)}")
        # URLError is an OSError, as is a connection that is reset, and a status like 503 while its parts start
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return time.monotonic() - started
        time.sleep(0.05)
    raise NotReadyError(f"{name} was not ready after {timeout:.0f} s; {_end_of(log_path)}")


def _end_of(log_path: Path) -> str:
    return f"the end of {log_path}:\n{tail(log_path, 30)}"
