"""Where the symbols file of this process is."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ascend_opentelemetry.environment_variables import PROFILING_SYMBOLS_PATH
from ascend_opentelemetry.symbols._versions import installed_version

_logger = logging.getLogger(__name__)

#: The symbols file of this package.
DEFAULT_FILE = Path(__file__).with_name("service_profiling_symbols.yaml")


def find(environ: Mapping[str, str], versions: Callable[[str], str | None] = installed_version) -> Path:
    """Symbols file to load: that of ``PROFILING_SYMBOLS_PATH``, else the user's for this vLLM, else the package's own.

    A file of the variable that does not exist yet is made as a copy of the package's own, for the user to edit. What
    cannot be used is said in one warning.

    Args:
        environ: the environment.
        versions: version of a top-level package, as ``installed_version``.
    """
    text = environ.get(PROFILING_SYMBOLS_PATH, "").strip()
    if not text:
        return _users(versions("vllm")) or DEFAULT_FILE
    if not text.endswith((".yaml", ".yml")):
        _logger.warning("%s=%s must end in .yaml or .yml; %s is used", PROFILING_SYMBOLS_PATH, text, DEFAULT_FILE)
        return DEFAULT_FILE
    try:
        path = Path(text).expanduser()
        if not path.exists():
            _create(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        reason = error.strerror if isinstance(error, OSError) else error
        _logger.warning("%s=%s cannot be written (%s); %s is used", PROFILING_SYMBOLS_PATH, text, reason, DEFAULT_FILE)
        return DEFAULT_FILE
    return path


def _users(version: str | None) -> Path | None:
    """The file that vllm-ascend writes, for users to edit, if there is one for this version of vLLM."""
    if version is None:
        return None
    try:
        path = Path(f"~/.config/vllm_ascend/service_profiling_symbols.{version}.yaml").expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # no home, or not ours to look into
        return None


def _create(path: Path) -> None:
    """Copies the default file to ``path``, whole or not at all; a file that is there already stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(DEFAULT_FILE.read_bytes())
            os.fchmod(stream.fileno(), 0o644)
        try:
            os.link(name, path)  # unlike a rename it fails where the name is taken: by a process beside this one
        except FileExistsError:
            path.stat()  # a dangling link is no file
    finally:
        Path(name).unlink()
