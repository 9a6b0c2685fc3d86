"""Counts calls of functions by the interpreter's own profiler: nothing is wrapped, and no code is shared with ours.

It is a vLLM plugin (put this folder on ``PYTHONPATH``). ``CALL_COUNTER_TARGETS`` is a JSON list of ``module:qualname``,
where functions are defined; ``package.*:*.method`` is the method of every class below a package. Each process appends
a line ``{"target", "time"}`` for each call to ``$WITNESS_DIR/<pid>.calls`` at once.
"""

from __future__ import annotations

import dis
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple


class _Counted(NamedTuple):
    target: str
    begin: int


def install() -> None:
    """Entry point ``vllm.general_plugins``; runs in the API server, in EngineCore and in each worker."""
    if "CALL_COUNTER_TARGETS" not in os.environ:
        return
    targets = [target.split(":") for target in json.loads(os.environ["CALL_COUNTER_TARGETS"])]
    known: dict[CodeType, _Counted | None] = {}

    def find(frame: FrameType) -> _Counted | None:
        name = frame.f_globals.get("__name__") or ""
        code: Any = frame.f_code  # the stubs of Python 3.10 lack co_qualname, vLLM needs 3.11
        for module, qualname in targets:
            if module.endswith(".*"):
                found = name.startswith(module[:-1]) and code.co_qualname.endswith(qualname[1:])
            else:
                found = (name, code.co_qualname) == (module, qualname)
            if found:
                return _Counted(f"{module}:{qualname}", _begin(code))
        return None

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in known:
            known[code] = find(frame)
        counted = known[code]
        if counted is not None and frame.f_lasti <= counted.begin:
            line = json.dumps({"target": counted.target, "time": time.time_ns()})
            with (Path(os.environ["WITNESS_DIR"]) / f"{os.getpid()}.calls").open("a") as file:
                file.write(f"{line}\n")

    threading.setprofile(profile)
    sys.setprofile(profile)


def _begin(code: CodeType) -> int:
    """Where the body begins; a generator or coroutine is entered again farther on."""
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")
