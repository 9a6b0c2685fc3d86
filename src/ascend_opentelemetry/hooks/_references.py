"""What the names in imported modules stand for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, TypeGuard


def modules_below(package: str) -> Iterator[ModuleType]:
    """The imported modules of a package, the package itself included."""
    prefix = f"{package}."
    modules: list[tuple[str, object]] = list(sys.modules.items())
    for name, module in modules:
        # None and other things stand there too
        if (name == package or name.startswith(prefix)) and isinstance(module, ModuleType):
            yield module


def is_class_of(value: Any, module: ModuleType) -> TypeGuard[type]:
    """Whether a value is a class that the module defines, without a look at the value itself."""
    return issubclass(type(value), type) and value.__module__ == module.__name__


def replace_references(old: Any, new: Any, package: str) -> None:
    """Rebind every module-level name that stands for ``old``, such as those taken by ``from module import function``.

    Args:
        old: compared by identity.
        new: takes its place.
        package: top-level package whose imported modules are looked through.
    """
    for module in modules_below(package):
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)
