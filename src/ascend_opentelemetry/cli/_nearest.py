"""What was probably meant by a name that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Set
from functools import cached_property

from ascend_opentelemetry.cli._source import MissingError, Source

_DEFINITION = re.compile(rb"^(?:class|(?:async +)?def) +(\w+)", re.MULTILINE)
_METHOD = re.compile(rb"^[ \t]+(?:async +)?def +(\w+)", re.MULTILINE)


class Nearest:
    """Names of a package that are like a missing one.

    Args:
        source: to look in.
        top: the package.
    """

    def __init__(self, source: Source, top: str) -> None:
        self._source = source
        self._top = top

    def to(self, module: str, qualname: str, error: MissingError) -> str:
        """The nearest target, or module where no better one is found; empty where nothing is like it."""
        if error.depth == 0 and (moved := self._moved(module, qualname)):
            return moved
        if error.owner is None:
            return self._module(module)
        parts = qualname.split(".")
        match = _closest(parts[error.depth], self._source.names(error.owner))
        return f"{module}:{'.'.join([*parts[: error.depth], match, *parts[error.depth + 1 :]])}" if match else ""

    def to_method(self, package: str, qualname: str) -> str:
        """The nearest ``Class.method`` or ``*.method`` below a package."""
        class_name, _, method = qualname.partition(".")
        names = {
            name.decode()
            for module, path in self._source.modules(self._top).items()
            if module.startswith(f"{package}.")
            for name in _METHOD.findall(path.read_bytes())
        }
        match = _closest(method, names - {method})
        return f"{package}.*:{class_name}.{match}" if match else ""

    def _moved(self, module: str, qualname: str) -> str:
        """The same name in the module whose name is most like."""
        modules = self._definitions.get(qualname.partition(".")[0], [])
        for other in sorted(modules, key=lambda name: -difflib.SequenceMatcher(None, name, module).ratio()):
            try:
                self._source.find(other, qualname)
            except MissingError:
                continue
            return f"{other}:{qualname}"
        return ""

    def _module(self, module: str) -> str:
        parts = module.split(".")
        depth = next((depth for depth in range(len(parts), 0, -1) if self._source.path(".".join(parts[:depth]))), 0)
        package = ".".join(parts[:depth])
        below = (name.split(".") for name in self._source.modules(self._top) if name.startswith(f"{package}."))
        match = _closest(parts[depth], {names[depth] for names in below}) if depth else ""
        whole = ".".join([package, match, *parts[depth + 1 :]])
        return "" if not match else whole if self._source.path(whole) else f"{package}.{match}"

    @cached_property
    def _definitions(self) -> dict[str, list[str]]:
        """Modules by the names of the functions and classes that they define."""
        found: dict[str, list[str]] = {}
        for module, path in self._source.modules(self._top).items():
            for name in set(_DEFINITION.findall(path.read_bytes())):
                found.setdefault(name.decode(), []).append(module)
        return found


def _closest(name: str, names: Set[str]) -> str:
    return next(iter(difflib.get_close_matches(name, sorted(names), 1)), "")
