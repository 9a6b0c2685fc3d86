"""Putting hooks in place when a module is imported, and taking them out again."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

from ascend_opentelemetry.hooks._compiled import aside_of_compiler, compiled_by
from ascend_opentelemetry.hooks._near import near_attribute
from ascend_opentelemetry.hooks._references import replace_references
from ascend_opentelemetry.hooks._wildcard import ModulesBelow, Wildcard
from ascend_opentelemetry.hooks._wrap import is_generator_kind

_logger = logging.getLogger(__name__)

#: Gives the hook for the function found under a target.
MakeHook = Callable[[Callable[..., Any]], Callable[..., Any]]
#: Told of a target whose module has no such attribute, and of the nearest target that it has, or "".
Missing = Callable[["Target", str], None]


class Target(NamedTuple):
    """A function to hook: ``module``, dotted ``qualname``, and ``where`` it was asked for (for messages)."""

    module: str
    qualname: str
    where: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"


class _Installed(NamedTuple):
    owner: Any
    name: str
    hook: Any
    original: Any
    inherited: bool


def _find(owner: Any, name: str) -> Any:
    """The attribute as a class or module holds it: an inherited class or static method is not bound yet."""
    for holder in getattr(owner, "__mro__", (owner,)):
        attributes = getattr(holder, "__dict__", {})
        if name in attributes:
            return attributes[name]
    return getattr(owner, name)


def _is_defined_in(owner: Any, function: Any) -> bool:
    """Whether others that have the function took it from this module, by name."""
    return isinstance(owner, ModuleType) and getattr(function, "__module__", None) == owner.__name__


class Installer:
    """The hooks of a process.

    A target whose module is not imported yet is hooked right after its import; nothing is imported for it.
    """

    def __init__(self) -> None:
        self._installed: list[_Installed] = []
        self._below = ModulesBelow()
        self._refused: set[str] = set()  # a wildcard may stand for hundreds: the first is said
        #: Targets that are hooked now, and those that could not be.
        self.installed: list[str] = []
        self.left_out: list[str] = []
        self._active = True

    @property
    def is_active(self) -> bool:
        """Whether hooks are still installed: until they are all removed."""
        return self._active

    def add(self, target: Target, make_hook: MakeHook, *, missing: Missing | None = None) -> None:
        """Hook ``target`` now or at its import.

        Args:
            target: the function.
            make_hook: called with the plain function once it exists.
            missing: called in place of a warning when the module has no such attribute.
        """

        def imported(module: ModuleType) -> None:
            if self._active:
                try:
                    self._install(module, target, make_hook, missing or self._leave_out)
                except Exception as error:  # noqa: BLE001 - a bad symbol must not break an import of the program
                    self.left_out.append(str(target))
                    _logger.warning("%s: %s cannot be hooked: %s", target.where, target, error)

        wrapt.register_post_import_hook(imported, target.module)

    def add_all(self, wildcard: Wildcard, make_hook: Callable[[Target], MakeHook]) -> None:
        """Hook the functions that ``wildcard`` stands for, now and at each import below its package.

        Args:
            wildcard: the functions.
            make_hook: called with each of them; gives what ``add`` takes.
        """
        done: set[str] = set()

        def imported(module: ModuleType) -> None:
            try:
                for qualname in wildcard.find(module):
                    target = Target(module.__name__, qualname, wildcard.where)
                    if str(target) not in done:
                        done.add(str(target))
                        self.add(target, make_hook(target))
            except Exception as error:  # noqa: BLE001
                _logger.warning("%s: %s finds nothing in %s: %s", wildcard.where, wildcard, module.__name__, error)

        if self._active:
            self._below.add(wildcard.package, imported)

    def _leave_out(self, target: Target, nearest: str) -> None:
        self.left_out.append(str(target))
        hint = f" (is {nearest} meant?)" if nearest else ""
        _logger.warning("%s: %s does not exist in this version; it is left out%s", target.where, target, hint)

    def _install(self, module: ModuleType, target: Target, make_hook: MakeHook, missing: Missing) -> None:
        *path, name = target.qualname.split(".")
        owner: Any = module
        found: list[str] = []
        try:
            for part in path:
                owner = getattr(owner, part)
                found.append(part)
            original = _find(owner, name)
        except AttributeError:
            missing(target, near_attribute(target.module, found, owner, [*path, name][len(found)]))
            return
        function = original.__func__ if isinstance(original, (staticmethod, classmethod)) else original
        if not callable(function) or isinstance(function, type):
            self.left_out.append(str(target))
            _logger.warning("%s: %s is no function; it is left out", target.where, target)
            return
        compiled = compiled_by(module, function)
        if compiled is not None:
            self.left_out.append(str(target))
            if target.where in self._refused:
                return
            self._refused.add(target.where)
            _logger.warning(
                "%s: %s is part of the code that torch.compile makes of %s, which a hook would break; it is left out"
                " (hook %s.__call__)", target.where, target, compiled, compiled,
            )  # fmt: skip
            return
        hook: Any = make_hook(function)
        if not inspect.iscoroutinefunction(hook) and not is_generator_kind(hook):
            hook = aside_of_compiler(function, hook)
        if isinstance(original, (staticmethod, classmethod)):
            hook = type(original)(hook)
        elif isinstance(owner, type) and not hasattr(original, "__get__"):
            hook = staticmethod(hook)  # a callable object or builtin gets no self, so its hook must not either
        self._installed.append(_Installed(owner, name, hook, original, name not in vars(owner)))
        setattr(owner, name, hook)
        if _is_defined_in(owner, original):
            replace_references(original, hook, owner.__name__.partition(".")[0])
        self.installed.append(str(target))

    def remove_all(self) -> None:
        """Restore every function that is still ours, the last hook first, and install no more."""
        self._active = False
        self._below.remove()
        self.installed.clear()
        while self._installed:
            installed = self._installed.pop()
            if vars(installed.owner).get(installed.name) is not installed.hook:
                _logger.warning("%s.%s was replaced by others: left as it is", installed.owner, installed.name)
            elif installed.inherited:
                delattr(installed.owner, installed.name)
            else:
                setattr(installed.owner, installed.name, installed.original)
            if _is_defined_in(installed.owner, installed.original):
                replace_references(installed.hook, installed.original, installed.owner.__name__.partition(".")[0])
