"""Virtual environments in the user's cache, built once from a lock file: what dev_env and vllm_env share."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
LOCKS = REPO / "devtools" / "locks"
UV_VERSION = "0.13.9"
PYTHON = (3, 11)
COMPLETE = ".complete"


class BuildError(RuntimeError):
    """A step of a build failed; the message holds the end of its output and what to do."""


def cache_dir() -> Path:
    """Folder of everything built here: ``$XDG_CACHE_HOME/ascend-opentelemetry``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ascend-opentelemetry"


def say(text: str) -> None:
    """Prints a line of progress to stderr; stdout is for the result."""
    print(text, file=sys.stderr, flush=True)


def digest(*parts: object) -> str:
    """Twelve hex digits that change when a part (a file's content, or ``str`` of anything else) changes."""
    content = hashlib.sha256()
    for part in parts:
        content.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
        content.update(b"\0")
    return content.hexdigest()[:12]


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Holds a file lock, so that two builds of one environment do not run at once.

    The commands of ``run`` inherit it: of a killed build, one that still works keeps the next build waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(title: str, argv: Sequence[object], *, log: Path, env: dict[str, str] | None = None, every: float = 10) -> None:
    """Runs one build step, with a line of progress each ``every`` seconds.

    Args:
        title: what the step does, as the user reads it.
        argv: the command.
        log: file that gets the output of the command.
        env: its environment, by default ours.
        every: seconds between lines of progress.

    Raises:
        BuildError: the command failed.
    """
    started = time.monotonic()
    say(f"{title} ...")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            close_fds=False,
        )
        done = threading.Event()

        def report() -> None:
            while not done.wait(every):
                last = tail(log, 1) or "no output yet"
                say(f"  {time.monotonic() - started:4.0f} s  {last[:100]}")

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
            done.set()
            reporter.join()
    if status:
        raise BuildError(
            f"{title}: exit status {status} after {time.monotonic() - started:.0f} s. The end of {log}:\n"
            f"{tail(log, 25)}\n"
            "Packages come from the package index that pip is configured for, and about 6 GB of disk are needed in "
            f"{cache_dir()}. Mend what the lines above say and run the same command again; it starts afresh."
        )
    say(f"  done in {time.monotonic() - started:.0f} s")


def tail(path: Path, lines: int) -> str:
    """The last non-empty lines of a file, "" when it does not exist."""
    if not path.exists():
        return ""
    return "\n".join([line for line in path.read_text(errors="replace").splitlines() if line.strip()][-lines:])


def base_python() -> str:
    """Command of a Python 3.11 with its ``venv`` module.

    Raises:
        BuildError: there is none.
    """
    probe = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != {PYTHON})"
    for command in (sys.executable, "python3.11", "/usr/bin/python3.11"):
        with contextlib.suppress(OSError):
            if subprocess.run([command, "-c", probe], capture_output=True, check=False).returncode == 0:
                return command
    raise BuildError(
        "no Python 3.11 with the venv module found. Install it (Debian: apt-get install python3.11 python3.11-venv) "
        "or put a python3.11 on PATH."
    )


def index_environment() -> dict[str, str]:
    """Our environment, with pip's own index and certificates handed on to uv, which does not read pip's settings."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for key, option in (("UV_DEFAULT_INDEX", "index-url"), ("SSL_CERT_FILE", "cert")):
        value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}") or _pip_config(option)
        if value:
            env.setdefault(key, value)
    return env


def _pip_config(option: str) -> str:
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{option}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def uv() -> Path:
    """The ``uv`` command, installed from the package index into a small environment of its own."""
    folder = cache_dir() / f"uv-{UV_VERSION}"
    command = folder / "bin" / "uv"
    with locked(cache_dir() / f"uv-{UV_VERSION}.lock"):
        if not (folder / COMPLETE).exists() or not command.exists():
            shutil.rmtree(folder, ignore_errors=True)
            log = cache_dir() / f"uv-{UV_VERSION}.log"
            run("creating an environment for uv", [base_python(), "-m", "venv", folder], log=log)
            install = [folder / "bin" / "python", "-m", "pip", "install", "-q", f"uv=={UV_VERSION}"]
            run(f"installing uv {UV_VERSION}", install, log=log)
            (folder / COMPLETE).touch()
    return command


def build_once(folder: Path, steps: Callable[[Path], None]) -> None:
    """Fills ``folder`` by ``steps`` unless it is complete; what a killed build left is removed first.

    Raises:
        BuildError: a step failed.
    """
    if is_complete(folder):
        return
    started = time.monotonic()
    with locked(folder.with_suffix(".lock")):
        if is_complete(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        steps(folder)
        (folder / COMPLETE).touch()
    say(f"{folder} is complete after {time.monotonic() - started:.0f} s")


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` was built to the end and its Python is still there."""
    return (folder / COMPLETE).exists() and python_of(folder).exists()


def python_of(folder: Path) -> Path:
    """The Python of an environment; gone when the Python that it was made from is."""
    return folder / "venv" / "bin" / "python"


def install_lock(folder: Path, lock: Path, title: str) -> None:
    """Makes ``folder/venv`` and installs all that ``lock`` pins into it, byte-compiled."""
    command, env = uv(), index_environment()
    log = folder / "build.log"
    run("creating the environment", [command, "venv", "--python", base_python(), folder / "venv"], log=log, env=env)
    options = ["--python", python_of(folder), "--no-deps", "--compile-bytecode", "-r", lock]
    run(title, [command, "pip", "install", *options], log=log, env=env)


def install_repository(folder: Path) -> None:
    """Installs this checkout editable into ``folder/venv``, when it is another one or its pyproject changed."""
    stamp, mark = folder / ".installed", f"{REPO} {digest(REPO / 'pyproject.toml')}"
    with locked(folder.with_suffix(".lock")):
        if stamp.exists() and stamp.read_text() == mark:
            return
        options = ["--no-deps", "--no-build-isolation", "--offline", "--editable", REPO]
        command = [uv(), "pip", "install", "--python", python_of(folder), *options]
        run("installing this checkout", command, log=folder / "install.log", env=index_environment())
        stamp.write_text(mark)


def print_path(ensure: Callable[[], Path]) -> int:
    """Prints the path that ``ensure`` returns; 1, with the reason on stderr, when its build failed."""
    try:
        print(ensure())
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0
