"""What was probably meant by a name that a package does not have."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DEFINITION = re.compile(rb"^(?:class|(?:async +)?def) +(\w+)", re.MULTILINE)


def near_attribute(module: str, path: list[str], owner: Any, name: str) -> str:
    """The target with the attribute of ``owner`` that is most like ``name``; "" where none is.

    Args:
        module: of the target.
        path: parts of its qualname before ``name``.
        owner: what they stand for.
        name: the part that is missing, and the last one that is told.
    """
    match = difflib.get_close_matches(name, dir(owner), 1)
    return f"{module}:{'.'.join([*path, match[0]])}" if match else ""


def near_module(module: str, qualname: str) -> str:
    """The target in the module, of those of its package that define ``qualname``'s first part, that is most like it.

    The source files of the package are read by the first call; "" where none is found.
    """
    found = _definitions(module.partition(".")[0]).get(qualname.partition(".")[0], ())
    nearest = max(found, key=lambda name: difflib.SequenceMatcher(None, name, module).ratio(), default="")
    return f"{nearest}:{qualname}" if nearest else ""


@functools.cache  # of vLLM it takes half a second, and a new version may lack dozens of functions
def _definitions(top: str) -> Mapping[str, list[str]]:
    """Modules of a package by the names of the functions and classes at their top."""
    modules: dict[str, list[str]] = {}
    for module, path in _modules(top):
        try:
            content = path.read_bytes()
        except OSError:  # a folder of such a name, a link to nowhere
            continue
        for name in {found.decode() for found in _DEFINITION.findall(content)}:
            modules.setdefault(name, []).append(module)
    return modules


def _modules(top: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(top)
    roots = [Path(location) for location in (spec.submodule_search_locations or ())] if spec is not None else []
    return [
        (".".join([top, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__"), path)
        for root in roots
        for path in sorted(root.rglob("*.py"))
    ]
