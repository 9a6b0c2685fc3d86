"""Which process this is."""

from __future__ import annotations

import itertools
import multiprocessing.process
import sys
from pathlib import Path, PurePath

_TITLE_PREFIX = "VLLM::"


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; with the pid it names one process for good.

    Returns:
        None when there is no such process, or it has ended and its parent has not noticed yet.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that started then still runs."""
    return start_ticks(pid) == started


def role() -> str:
    """What the process is to its service.

    ``APIServer``, ``EngineCore``, ``Worker_TP0`` and the like where vLLM has named it; ``main`` for a first process
    without a name, ``child`` for one that does not know its own yet.
    """
    title = process_title()
    if title.startswith(_TITLE_PREFIX):
        return title.removeprefix(_TITLE_PREFIX)
    if multiprocessing.process.parent_process() is not None:
        return multiprocessing.process.current_process().name
    if any(argument.startswith("from multiprocessing.spawn import ") for argument in sys.orig_argv):
        return "child"
    return "APIServer" if _is_vllm_serve(sys.orig_argv) else "main"


def process_title() -> str:
    """The first argument of the command line, which vLLM overwrites with the name of the process."""
    try:
        text = Path("/proc/self/cmdline").read_text(errors="replace")
    except OSError:
        return ""
    return text.partition("\0")[0].strip()


def _is_vllm_serve(arguments: list[str]) -> bool:
    for program, command in itertools.pairwise(arguments):
        if PurePath(program).name == "vllm":
            return command == "serve"
        if program == "-m":
            return command == "vllm.entrypoints.openai.api_server"
    return False
