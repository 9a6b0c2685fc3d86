"""What kind of Python process this is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: In the ``-c`` code of processes that only help: multiprocessing's own, torch.compile's.
_HELPER_CODE = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "torch._inductor", "triton.")
#: Modules run by ``-m`` that only help.
_HELPER_MODULES = ("vllm.model_executor.models.registry", "torch._inductor.compile_worker", "pip", "ensurepip")


def is_helper(argv: Sequence[str] | None = None) -> bool:
    """Whether the process serves no request and must stay untouched.

    EngineCore and the workers are ``-c`` processes too (``multiprocessing.spawn``), and so is a user's script: only
    known helpers count.

    Args:
        argv: the interpreter's arguments; None: of this process.
    """
    arguments = list(sys.orig_argv if argv is None else argv)
    for option, value in zip(arguments[1:], arguments[2:], strict=False):
        if option == "-c":
            return any(name in value for name in _HELPER_CODE)
        if option == "-m":
            return any(value == name or value.startswith(f"{name}.") for name in _HELPER_MODULES)
        if not option.startswith("-"):
            return "torch/_inductor/compile_worker" in option
    return False
