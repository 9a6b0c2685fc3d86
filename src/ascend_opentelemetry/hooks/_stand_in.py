"""A package of ours under the name of one that is not installed, for code that is written for that one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple


class StandIn(NamedTuple):
    """What code finds that imports an absent package.

    Attributes:
        package: name of the absent package.
        modules: in it, the empty text for itself, and what each of them holds.
    """

    package: str
    modules: Mapping[str, Mapping[str, Any]]

    @contextmanager
    def importable(self) -> Generator[None, None, None]:
        """Give it to the code that is imported in the block, and to no other: elsewhere it stays absent."""
        made = {} if self._is_installed() else dict(self._modules())
        sys.modules.update(made)
        try:
            yield
        finally:
            for name, module in made.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]

    def _is_installed(self) -> bool:
        try:
            return self.package in sys.modules or importlib.util.find_spec(self.package) is not None
        except (ImportError, ValueError):  # a finder of somebody else's is broken: then an import of it says so
            return True

    def _modules(self) -> Iterator[tuple[str, ModuleType]]:
        package = ModuleType(self.package)
        package.__path__ = []
        for name, members in self.modules.items():
            module = package
            if name:
                module = ModuleType(f"{self.package}.{name}")
                setattr(package, name, module)
            module.__doc__ = f"Stands for {module.__name__}, which is not installed."
            vars(module).update(members)
            yield module.__name__, module
