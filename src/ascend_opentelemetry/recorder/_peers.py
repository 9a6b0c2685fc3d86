"""The other processes of the service: asking them to flush before they are killed."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Name of the service, inherited by all its processes.
SERVICE_VARIABLE = "_ASCEND_OTEL_SERVICE"

#: Seconds at most for the thread to end: it may be flushing for another process.
_ENDING = 0.5

_FLUSH, _DONE = b"flush", b"done"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Peers:
    """Datagram sockets in Linux's abstract namespace, one a process: no file stays behind, whoever dies how.

    A process answers ``flush`` from processes of its own user, on a thread that otherwise sleeps.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @staticmethod
    def _prefix() -> str:
        return f"ascend-otel-{os.environ.setdefault(SERVICE_VARIABLE, secrets.token_hex(8))}-"

    def listen(self, flush: Callable[[], object]) -> None:
        """Answer others from now on.

        Args:
            flush: called for each request, at most once at a time; the answer is sent when it returns.

        Raises:
            OSError: no socket can be made.
        """
        if self._socket is not None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(f"\0{self._prefix()}{os.getpid()}")
        self._socket = listener
        self._thread = threading.Thread(target=_answer, args=(listener, flush), name="ascend-otel-peers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            except OSError:
                pass
            self._socket.close()
            self._socket = None
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(_ENDING)  # it keeps the name taken

    def after_fork(self, flush: Callable[[], object]) -> None:
        """In a forked child: leave the parent's socket to it, and listen on one of its own."""
        if self._socket is not None:
            self._socket.close()  # the child's descriptor only
            self._socket = None
            self.listen(flush)

    def flush_others(self, timeout: float) -> bool:
        """Have every other process of the service flush.

        Args:
            timeout: seconds to wait for the last answer.

        Returns:
            Whether all have answered.
        """
        deadline = time.monotonic() + timeout
        names = self._others()
        if not names:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            asking.bind("")  # a name of its own, for the answers
            waiting = sum([_ask(asking, name) for name in names])
            while waiting:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                asking.settimeout(left)
                try:
                    message, allowed, _ = _receive(asking)
                except TimeoutError:
                    return False
                waiting -= allowed and message == _DONE
        return True

    def _others(self) -> list[str]:
        """Names of the sockets of the service but ours, from the kernel's list."""
        prefix = self._prefix()
        own = f"{prefix}{os.getpid()}"
        try:
            lines = Path("/proc/net/unix").read_text().splitlines()
        except OSError:
            return []
        names = {line.rpartition(" @")[2] for line in lines if f" @{prefix}" in line}
        return sorted(names - {own})


def _ask(asking: socket.socket, name: str) -> bool:
    try:
        asking.sendto(_FLUSH, socket.MSG_DONTWAIT, f"\0{name}")
    except OSError:  # it has just ended, or too many ask it already
        return False
    return True


def _receive(listener: socket.socket) -> tuple[bytes, bool, Any]:
    """A message, whether root or a process of our own user sent it, and the sender's name."""
    message, extra, _, sender = listener.recvmsg(16, socket.CMSG_SPACE(_CREDENTIALS.size))
    allowed = any(
        level == socket.SOL_SOCKET
        and kind == socket.SCM_CREDENTIALS
        and _CREDENTIALS.unpack(data)[1] in (0, os.getuid())
        for level, kind, data in extra
    )
    return message, allowed, sender


def _answer(listener: socket.socket, flush: Callable[[], object]) -> None:
    while True:
        try:
            message, allowed, sender = _receive(listener)
        except OSError:
            return
        if not message:
            return
        if message == _FLUSH and allowed:
            flush()
            try:
                listener.sendto(_DONE, sender)
            except OSError:  # it waits no more
                continue
