"""Starting and stopping the real vLLM server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from devtools.exposition import samples, total
from devtools.process import start, wait_ready

DEFAULT_ENV = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
DEFAULT_ARGS = ["--max-model-len", "256", "--enforce-eager", "--max-num-seqs", "8", "--served-model-name", "tiny"]
#: What the shell that runs the tests may have set and the server must not see.
_FOREIGN = re.compile(r"OTEL_|VLLM_|PYTHONPATH$|SERVICE_PROF_CONFIG_PATH$|PROFILING_SYMBOLS_PATH$|traceparent$")


class VllmServer:
    """A ``vllm serve`` that runs while the ``with`` block does.

    Args:
        python: the Python of the vLLM environment.
        model: folder of the model.
        port: port on 127.0.0.1; None for a free one.
        args: arguments of ``vllm serve`` after the default ones; the last of two wins.
        env: environment variables on top of ours (less ``OTEL_*`` and the like) and of ``DEFAULT_ENV``.
        instrument: start it by ``opentelemetry-instrument``.
        log_path: file that gets stdout and stderr of all its processes.
        cwd: its working directory; None for ours.
        ready_timeout: seconds to wait for ``/health``.

    Attributes:
        url: ``http://127.0.0.1:port``.
        ready_seconds: time from the start until ``/health`` answered.
        stop_seconds: time from the signal to the end of the API server.
    """

    def __init__(
        self,
        python: Path,
        model: Path,
        port: int | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        instrument: bool = True,
        *,
        log_path: Path,
        cwd: Path | None = None,
        ready_timeout: float = 180,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = Path(log_path)
        self.ready_seconds = self.stop_seconds = 0.0
        tools = Path(python).parent
        launcher = [str(tools / "opentelemetry-instrument")] if instrument else []
        self.command = [*launcher, str(tools / "vllm"), "serve", str(model), "--host", "127.0.0.1"]
        self.command += ["--port", str(self.port), *DEFAULT_ARGS, *args]
        inherited = clean_environment()
        path = {"PATH": f"{tools}{os.pathsep}{inherited.get('PATH', os.defpath)}"}
        self.env = inherited | path | DEFAULT_ENV | dict(env or {})
        self._cwd = cwd
        self._ready_timeout = ready_timeout
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VllmServer:
        self._process = start(self.command, self.log_path, self.env, self._cwd)
        try:
            self.ready_seconds = wait_ready(
                self._process, f"{self.url}/health", "vllm serve", self.log_path, self._ready_timeout
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
        """Process id of the API server."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def running(self) -> bool:
        """Whether the API server is alive."""
        return self._process is not None and self._process.poll() is None

    def stop(
        self, timeout: float = 60, grace: float = 5, *, number: signal.Signals = signal.SIGTERM, everyone: bool = False
    ) -> None:
        """Sends a signal and waits; what is left of the server's process group is killed.

        Args:
            timeout: seconds to wait for the API server.
            grace: seconds that its children may outlive it.
            number: the signal.
            everyone: send it to all processes, as a terminal does for Ctrl-C; else to the API server alone.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            started = time.monotonic()
            if everyone:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
            self.stop_seconds = time.monotonic() - started
        if process.poll() is None or not self._gone(grace):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._gone(grace + 10)

    def log(self) -> str:
        """What all its processes printed so far."""
        return self.log_path.read_text(errors="replace")

    def pids(self) -> dict[int, str]:
        """Its live processes: process id -> command line or title (``VLLM::EngineCore``)."""
        assert self._process is not None, "the server was not started"
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self._process.pid and state not in "ZX":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(folder.name)] = command.strip()
        return found

    def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics``: name with its labels, as printed there -> value."""
        return samples(self._exposition())

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples called ``name`` that have these labels; 0 when there is none."""
        return total(self._exposition(), name, labels)

    def _exposition(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            return answer.read().decode()

    def _gone(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while self.pids():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


def clean_environment() -> dict[str, str]:
    """Our environment, less what would change vLLM or its telemetry."""
    return {key: value for key, value in os.environ.items() if not _FOREIGN.match(key)}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
