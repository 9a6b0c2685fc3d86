"""Modules below a package, those imported now and those that will be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import NamedTuple

import wrapt

from ascend_opentelemetry.hooks._references import is_class_of, modules_below


class Wildcard(NamedTuple):
    """``method`` of the classes in the modules below ``package``; ``class_name`` is ``*`` or one name."""

    package: str
    class_name: str
    method: str
    where: str

    def __str__(self) -> str:
        return f"{self.package}.*:{self.class_name}.{self.method}"

    def find(self, module: ModuleType) -> Iterator[str]:
        """``Class.method`` of the classes defined in a module that define the method themselves."""
        for value in list(vars(module).values()):
            if (
                is_class_of(value, module)
                and self.class_name in ("*", value.__name__)
                and isinstance(vars(value).get(self.method), (FunctionType, staticmethod, classmethod))
                and vars(module).get(value.__name__) is value  # an alias of it is no other class
            ):
                yield f"{value.__name__}.{self.method}"


class ModulesBelow:
    """Calls back once for each module below the packages asked for, after its import.

    It stands first in ``sys.meta_path`` and finds nothing itself: it only asks wrapt to tell of modules that are about
    to be imported, so that an import elsewhere costs one comparison.
    """

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[ModuleType], None]]] = {}
        self._prefixes: tuple[str, ...] = ()
        self._awaited: set[str] = set()

    def add(self, package: str, callback: Callable[[ModuleType], None]) -> None:
        """Call ``callback`` with the modules below ``package``, but not with the package itself."""
        self._callbacks.setdefault(package, []).append(callback)
        self._prefixes = tuple(f"{name}." for name in self._callbacks)
        if self not in sys.meta_path:
            # wrapt puts its own finder first at its first use, which must be before ours asks it for something
            wrapt.register_post_import_hook(lambda _: None, package)
            sys.meta_path.insert(0, self)
        for module in modules_below(package):
            if module.__name__ != package:
                callback(module)

    def remove(self) -> None:
        """Call back no more."""
        self._callbacks.clear()
        self._prefixes = ()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname.startswith(self._prefixes) and fullname not in self._awaited:
            self._awaited.add(fullname)
            wrapt.register_post_import_hook(self._imported, fullname)
        return None

    def _imported(self, module: ModuleType) -> None:
        for package, callbacks in list(self._callbacks.items()):
            if module.__name__.startswith(f"{package}."):
                for callback in list(callbacks):
                    callback(module)
