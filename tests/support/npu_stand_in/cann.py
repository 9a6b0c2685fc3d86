"""The stand-in of CANN on which the real torch_npu runs: its own symbol table says which functions it needs.

It shows what torch_npu makes of a card that has memory; no operator can be executed on it.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ._compiler import build

_LIBRARY = "libascendcl.so"
#: Other names that torch_npu is linked with, or loads, as functions of one library here.
_ALIASES = tuple(
    f"lib{name}.so" for name in ("acl_op_compiler", "acl_tdt_channel", "ascend_hal", "ge_runner", "graph", "hccl")
)
_LINKED = ("_C.*.so", "lib/libtorch_npu.so", "lib/libtensorpipe.so")
_OF_CANN = re.compile(r"(acl|rt[A-Z]|Msprof)\w+")
#: Looked up by name when they are first called; without them torch_npu fails and says "Failed to find function".
_LOOKED_UP = (
    "aclSetCompileopt", "aclrtCtxSetSysParamOpt", "aclrtDestroyStreamForce", "aclrtGetSysParamOpt",
    "aclrtSetDeviceSatMode", "aclrtSetOpExecuteTimeOut", "aclrtSynchronizeDevice", "aclrtSynchronizeDeviceWithTimeout",
    "halGetAPIVersion",
)  # fmt: skip


def build_cann(torch_npu: Path, home: Path) -> Path:
    """A home of CANN with ``lib64``; skips the test where there is no C++ compiler, or no ``nm``.

    Args:
        torch_npu: folder of the package.
        home: what ``ASCEND_HOME_PATH`` is to name.
    """
    names = sorted({*_undefined(torch_npu), *_LOOKED_UP})
    libraries = home / "lib64"
    for folder in (libraries, home / "runtime", home / "compiler", home / "opp"):
        folder.mkdir(parents=True)
    # weak: those that cann.cpp has come before them
    functions = "".join(f"__attribute__((weak)) long {name}() {{ return 0; }}\n" for name in names)
    others = home / "functions.cpp"
    others.write_text(f'extern "C" {{\n{functions}}}\n')
    library = build(libraries / _LIBRARY, "cann.cpp", str(others))
    for alias in _ALIASES:
        (libraries / alias).symlink_to(library)
    return home


def _undefined(torch_npu: Path) -> Iterator[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm (binutils), which reads the symbols that torch_npu needs")
    paths = [path for pattern in _LINKED for path in torch_npu.glob(pattern)]
    assert len(paths) == len(_LINKED), paths
    command = [nm, "--dynamic", "--undefined-only", "--format=posix", *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return filter(_OF_CANN.fullmatch, (line.partition(" ")[0] for line in lines))


def environment(home: Path) -> dict[str, str]:
    """For a process that imports torch_npu."""
    return {
        "ASCEND_HOME_PATH": str(home),
        "ASCEND_OPP_PATH": str(home / "opp"),
        "LD_LIBRARY_PATH": str(home / "lib64"),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    }


class Cann:
    """The stand-in in this process, which ``environment`` was made for; to be made before torch is imported."""

    def __init__(self) -> None:
        # for all libraries: a function of torch's own is replaced
        self._library = ctypes.CDLL(_LIBRARY, ctypes.RTLD_GLOBAL)

    def card(self) -> int:
        """Number of the card that the calling thread has a context on; -1: none."""
        return self._library.standin_card()
