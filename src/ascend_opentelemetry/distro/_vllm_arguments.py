"""What the command line of vLLM says about traces."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath

from ascend_opentelemetry._role import program_of

_OPTION = "--otlp-traces-endpoint"


def traces_endpoint(argv: Sequence[str] | None = None) -> str | None:
    """The value of vLLM's ``--otlp-traces-endpoint``.

    Args:
        argv: the interpreter's arguments; None: of this process.

    Returns:
        The endpoint; None when the option is not given, or the program is not vLLM's.
    """
    arguments = sys.orig_argv if argv is None else argv
    kind, program = program_of(arguments)
    module = kind == "m" and program.startswith("vllm.entrypoints.")
    script = kind == "" and PurePath(program).name == "vllm"
    if not (module or script):
        return None
    endpoint: str | None = None
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name.replace("_", "-") == _OPTION:  # the last one wins
            endpoint = value if given else next(rest, None)
    return None if endpoint in ("", "None") else endpoint  # so vLLM reads them
