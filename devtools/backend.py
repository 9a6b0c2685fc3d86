"""Starting and stopping a trace backend: what Jaeger and the Collector share."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from devtools._env import REPO
from devtools.process import start, wait_ready

CONFIG = REPO / "collector-config"
#: What the shell that runs the tests may have set and a backend must not see.
_FOREIGN = re.compile(r"(OTEL|JAEGER|COLLECTOR)_")

Self = TypeVar("Self", bound="Backend")


class BackendError(RuntimeError):
    """A backend refused a configuration or a query; the message is its own."""


class Backend:
    """A backend that runs while the ``with`` block does, and no longer than the thread that started it.

    Args:
        binary: its command.
        configs: its configuration files, each on top of those before it.
        variables: environment variables that the files read.
        health_url: URL that answers once it is ready.
        log_path: file that gets its stdout and stderr.
        ready_timeout: seconds to wait for ``health_url``.

    Attributes:
        ready_seconds: time from the start until ``health_url`` answered.
        stop_seconds: time from SIGTERM to the end.
        exit_status: of the process that ended; -9 when it had to be killed.
    """

    def __init__(
        self,
        binary: Path,
        *,
        configs: Sequence[Path],
        variables: Mapping[str, str],
        health_url: str,
        log_path: Path,
        ready_timeout: float = 30,
    ) -> None:
        self.name = binary.name
        self.log_path = log_path
        self.ready_seconds = self.stop_seconds = 0.0
        self.exit_status: int | None = None
        self._command = [str(binary), *config_arguments(configs)]
        self._environment = environment(variables)
        self._health_url = health_url
        self._ready_timeout = ready_timeout
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self: Self) -> Self:
        self._process = start(self._command, self.log_path, self._environment)
        try:
            self.ready_seconds = wait_ready(
                self._process, self._health_url, self.name, self.log_path, self._ready_timeout
            )
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def stop(self, timeout: float = 30) -> None:
        """Sends SIGTERM and waits; SIGKILL after ``timeout`` seconds."""
        process = self._process
        if process is None or self.exit_status is not None:
            return
        started = time.monotonic()
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
        self.exit_status = process.wait()
        self.stop_seconds = time.monotonic() - started

    def log(self) -> str:
        """What it printed so far."""
        return self.log_path.read_text(errors="replace")


def validate(binary: Path, *configs: Path, variables: Mapping[str, str] | None = None) -> None:
    """Has the command check configuration files without running them.

    Args:
        binary: of Jaeger or the Collector.
        configs: files, each on top of those before it.
        variables: environment variables that the files read.

    Raises:
        BackendError: it refuses them; the message is the command's own.
    """
    command = [str(binary), "validate", *config_arguments(configs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(variables or {}), timeout=60)
    if done.returncode:
        names = ", ".join(config.name for config in configs)
        raise BackendError(f"{binary.name} refuses {names}: {done.stderr.strip() or done.stdout.strip()}")


def config_arguments(configs: Sequence[Path]) -> list[str]:
    """The arguments that name configuration files."""
    return [argument for config in configs for argument in ("--config", str(config))]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Our environment less what would change a backend, with ``variables``."""
    return {key: value for key, value in os.environ.items() if not _FOREIGN.match(key)} | dict(variables)


def free_ports(count: int) -> list[int]:
    """Different TCP ports on 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
