"""Whose the native files are, where the plugin of ms_service_profiler is installed beside ours.

It is called for the same ``SERVICE_PROF_CONFIG_PATH`` and writes files of the same names.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_NATIVE, SERVICE_PROF_CONFIG_PATH

#: Its plugin; the wheel ``msserviceprofiler`` has one of the same name.
_GROUP, _PLUGIN = "vllm.general_plugins", "msserviceprofiler"
#: What writes for both: the package, through its library. Without the library all its calls do nothing.
_PACKAGE, _LIBRARY = "ms_service_profiler", "libms_service_profiler.so"
_MODES = ("auto", "on", "off")
#: Where the dynamic loader looks at last.
_SYSTEM_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_LOADER_CACHE = Path("/etc/ld.so.cache")


class NativeChoice(NamedTuple):
    """What this process does about native files.

    Attributes:
        path: config file of the files that it writes; None: it writes none.
        left_to: who writes them in its place, name and version.
        messages: for the user, to be said once a service.
    """

    path: str | None
    left_to: str | None = None
    messages: tuple[str, ...] = ()


def choose(environ: Mapping[str, str]) -> NativeChoice:
    """What ``OTEL_PYTHON_VLLM_NATIVE``, and in its absence the plugin of ms_service_profiler, make of native files.

    Args:
        environ: the environment; nothing of that package is imported.
    """
    given = environ.get(OTEL_PYTHON_VLLM_NATIVE, "").strip()
    mode, path = given.lower() or "auto", environ.get(SERVICE_PROF_CONFIG_PATH)
    messages: list[str] = []
    if mode not in _MODES:
        messages.append(f"{OTEL_PYTHON_VLLM_NATIVE}={given!r} is none of {', '.join(_MODES)}: auto is used")
        mode = "auto"
    if not path:
        if mode == "on":
            messages.append(
                f"{OTEL_PYTHON_VLLM_NATIVE}=on writes no native files: {SERVICE_PROF_CONFIG_PATH} is not set"
            )
        return NativeChoice(None, None, tuple(messages))
    if mode == "off":
        return NativeChoice(None)
    writer = _writer(environ)
    if writer is None:
        return NativeChoice(path, None, tuple(messages))
    if mode == "on":
        messages.append(
            f"native files are written twice, by us and by the plugin of {writer}: analyze only one ms_service_*.db of"
            f" a process, or leave {_PLUGIN} out of VLLM_PLUGINS"
        )
        return NativeChoice(path, None, tuple(messages))
    messages.append(
        f"native files, and handlers of your own in the symbols file, are left to the plugin of {writer};"
        f" {OTEL_PYTHON_VLLM_NATIVE}=on writes ours too"
    )
    return NativeChoice(None, writer, tuple(messages))


def others_write(environ: Mapping[str, str]) -> bool:
    """Whether the plugin of ms_service_profiler writes native files in this process."""
    return bool(environ.get(SERVICE_PROF_CONFIG_PATH)) and _writer(environ) is not None


def _writer(environ: Mapping[str, str]) -> str | None:
    """Name and version of the distribution whose plugin writes in the processes of vLLM, if there is one."""
    plugins = environ.get("VLLM_PLUGINS")
    if plugins is not None and _PLUGIN not in plugins.split(","):
        return None
    if not _has_library(environ.get("ASCEND_HOME_PATH", ""), environ.get("LD_LIBRARY_PATH", "")):
        return None
    return _installed_plugin()


@functools.cache
def _installed_plugin() -> str | None:
    for point in entry_points(group=_GROUP, name=_PLUGIN):
        if all(_is_there(name) for name in (_top_package(point), _PACKAGE)):
            return f"{point.dist.name} {point.dist.version}" if point.dist is not None else _PLUGIN
    return None


def _top_package(point: EntryPoint) -> str:
    return point.value.partition(":")[0].strip().partition(".")[0]


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _has_library(ascend_home: str, library_path: str) -> bool:
    """Whether the package finds its library: in the toolkit, else where the dynamic loader looks."""
    if any(os.access(path, os.R_OK) for path in _library_files(ascend_home, library_path)):
        return True
    try:
        return _LIBRARY.encode() in _LOADER_CACHE.read_bytes()
    except OSError:
        return False


def _library_files(ascend_home: str, library_path: str) -> Iterator[Path]:
    if ascend_home:
        yield Path(ascend_home) / "aarch64-linux" / "lib64" / _LIBRARY
    for folder in (*library_path.replace(";", ":").split(":"), *_SYSTEM_FOLDERS):
        if folder:
            yield Path(folder) / _LIBRARY
