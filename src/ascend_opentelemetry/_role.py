"""What kind of Python process this is."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

#: How the ``-c`` code of processes that only help begins.
_HELPER_CODE = ("from multiprocessing.resource_tracker import ", "from multiprocessing.forkserver import ")
#: How the ``-c`` code ends by which torch's compiler tries the vector instructions of the CPU, several times a start.
_VECTOR_PROBE = re.compile(r'^from ctypes import cdll\ncdll\.LoadLibrary\("[^"\n]*"\)\s*\Z', re.MULTILINE)
#: Modules run by ``-m`` that only help.
_HELPER_MODULES = ("vllm.model_executor.models.registry", "torch._inductor.compile_worker", "pip", "ensurepip")
#: Part of the path of scripts that only help.
_HELPER_SCRIPT = "/torch/_inductor/"

# flags may stand together, the last of them with its value: -Im pip, -Xdev
_OPTION = re.compile(r"-[^-cmXW]*([cmXW])(.*)", re.DOTALL)


def is_helper(argv: Sequence[str] | None = None) -> bool:
    """Whether the process serves no request and must stay untouched.

    EngineCore and the workers are ``-c`` processes too (``multiprocessing.spawn``), and so is a user's script: only
    known helpers count.

    Args:
        argv: the interpreter's arguments; None: of this process.
    """
    if argv is None and has_parent():
        return False
    option, value = program_of(sys.orig_argv if argv is None else argv)
    if option == "c":
        return value.startswith(_HELPER_CODE) or _VECTOR_PROBE.search(value) is not None
    if option == "m":
        return any(value == name or value.startswith(f"{name}.") for name in _HELPER_MODULES)
    return _HELPER_SCRIPT in value


def has_parent() -> bool:
    """Whether ``multiprocessing`` made this process: a child of its fork server has the arguments of that helper."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def program_of(argv: Sequence[str]) -> tuple[str, str]:
    """What the interpreter runs: ``c`` and code, ``m`` and a module, or an empty text and a script."""
    arguments = iter(argv[1:])
    for argument in arguments:
        option = _OPTION.fullmatch(argument)
        if option is not None:
            value = option[2] or next(arguments, "")
            if option[1] in "cm":
                return option[1], value
        elif argument == "--check-hash-based-pycs":
            next(arguments, "")
        elif not argument.startswith("-"):
            return "", argument
    return "", ""


class NoConfigurator:
    """The configurator of a helper process."""

    def configure(self, **kwargs: Any) -> None:
        """Do nothing."""
