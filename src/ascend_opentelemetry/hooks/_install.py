"""Putting hooks in place when a module is imported, and taking them out again."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

from ascend_opentelemetry.hooks._compiled import aside_of_compiler, compiled_by
from ascend_opentelemetry.hooks._control import Control, control_of
from ascend_opentelemetry.hooks._near import near_attribute
from ascend_opentelemetry.hooks._news import is_news
from ascend_opentelemetry.hooks._overriding import Families, Family
from ascend_opentelemetry.hooks._references import replace_references
from ascend_opentelemetry.hooks._wildcard import ModulesBelow, Wildcard
from ascend_opentelemetry.hooks._wrap import is_generator_kind

_logger = logging.getLogger(__name__)

#: Gives the hook for the function found under a target.
MakeHook = Callable[[Callable[..., Any]], Callable[..., Any]]
#: Gives the ``MakeHook`` for a method that overrides a hooked one; None where it is hooked otherwise.
MakeOverriding = Callable[["Target"], "MakeHook | None"]
#: Told of a target whose module has no such attribute, and of the nearest target that it has, or "".
Missing = Callable[["Target", str], None]


class Target(NamedTuple):
    """A function to hook: ``module``, dotted ``qualname``, and ``where`` it was asked for (for messages)."""

    module: str
    qualname: str
    where: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"


class _Made(NamedTuple):
    owner: Any
    name: str
    hook: Callable[..., Any]


class _Installed(NamedTuple):
    owner: Any
    name: str
    hook: Any
    made: Callable[..., Any]
    original: Any
    inherited: bool


def _find(owner: Any, name: str) -> Any:
    """The attribute as a class or module holds it: an inherited class or static method is not bound yet."""
    for holder in getattr(owner, "__mro__", (owner,)):
        attributes = getattr(holder, "__dict__", {})
        if name in attributes:
            return attributes[name]
    return getattr(owner, name)


def _gets_self(attribute: Any) -> bool:
    """Whether a class hands its instances to this attribute; up to Python 3.13 a ``partial`` has ``__get__`` in vain."""
    if isinstance(attribute, functools.partial):
        return sys.version_info >= (3, 14)
    return hasattr(attribute, "__get__")


def _is_defined_in(owner: Any, function: Any) -> bool:
    """Whether others that have the function took it from this module, by name."""
    return isinstance(owner, ModuleType) and getattr(function, "__module__", None) == owner.__name__


class Installer:
    """The hooks of a process.

    A target whose module is not imported yet is hooked right after its import; nothing is imported for it.
    """

    def __init__(self) -> None:
        self._installed: list[_Installed] = []
        self._take_out: list[Callable[[], None]] = []  # hooks inside of others
        self._below = ModulesBelow()
        self._families = Families(self._add_overriding)
        self._looked_below: set[str] = set()
        self._refused: set[str] = set()  # a wildcard may stand for hundreds: the first is said
        #: Targets that are hooked now, and those that could not be.
        self.installed: list[str] = []
        self.left_out: list[str] = []
        self._active = True

    @property
    def is_active(self) -> bool:
        """Whether hooks are still installed: until they are all removed."""
        return self._active

    def add(
        self,
        target: Target,
        make_hook: MakeHook,
        *,
        missing: Missing | None = None,
        inside: bool = False,
        overriding: MakeOverriding | None = None,
    ) -> None:
        """Hook ``target`` now or at its import.

        Args:
            target: the function.
            make_hook: called with the plain function once it exists.
            missing: called in place of a warning when the module has no such attribute.
            inside: put it inside of the outermost hook that the function has already, if that lets others in; else
                around all of them.
            overriding: of a method, hook those of subclasses too, in modules of its top-level package and of those
                that ``look_below`` names, in others at ``look_again``; a call is recorded once, whatever it calls of its base classes.
        """

        def imported(module: ModuleType) -> None:
            if self._active:
                try:
                    made = self._install(module, target, make_hook, missing or self._leave_out, inside)
                    if overriding is not None and made is not None and isinstance(made.owner, type):
                        self._add_family(made, target.where, overriding)
                        self._families.look(module)  # it is still being imported
                except Exception as error:  # noqa: BLE001 - a bad symbol must not break an import of the program
                    self.left_out.append(str(target))
                    _logger.warning("%s: %s cannot be hooked: %s", target.where, target, error)

        if overriding is not None:
            self.look_below(target.module.partition(".")[0])
        wrapt.register_post_import_hook(imported, target.module)

    def look_below(self, package: str) -> None:
        """Look for subclasses that override a hooked method in all modules of a package, also in those to come."""
        if self._active and package not in self._looked_below:
            self._looked_below.add(package)
            self._below.add(package, self._families.look)
            wrapt.register_post_import_hook(self._families.look, package)

    def look_again(self) -> None:
        """Look for subclasses that override a hooked method in all modules that are imported now."""
        self._families.look_again()

    def _add_family(self, base: _Made, where: str, overriding: MakeOverriding) -> None:
        family = Family(base.owner, base.name, where, overriding)
        family.add(base.owner, control_of(base.hook))
        self._families.add(family)

    def _add_overriding(self, family: Family, cls: type) -> None:
        target = Target(cls.__module__, f"{cls.__name__}.{family.name}", family.where)
        try:
            make_hook = family.overriding(target)
            if make_hook is None or not self._active or not family.claim(cls):
                return
            made = self._install(sys.modules[cls.__module__], target, make_hook, self._leave_out, inside=True)
            if made is not None:
                family.add(cls, control_of(made.hook))
            if not self._active:  # another thread has taken the hooks out meanwhile
                self.remove_all()
        except Exception as error:  # noqa: BLE001
            self.left_out.append(str(target))
            _logger.warning("%s: %s cannot be hooked: %s", target.where, target, error)

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
                        self.add(target, make_hook(target), inside=True)
            except Exception as error:  # noqa: BLE001
                _logger.warning("%s: %s finds nothing in %s: %s", wildcard.where, wildcard, module.__name__, error)

        if self._active:
            self._below.add(wildcard.package, imported)

    def _leave_out(self, target: Target, nearest: str) -> None:
        self.left_out.append(str(target))
        hint = f" (is {nearest} meant?)" if nearest else ""
        message = f"{target.where}: {target} does not exist in this version; it is left out{hint}"
        if is_news(message):
            _logger.warning("%s", message)

    def _install(
        self, module: ModuleType, target: Target, make_hook: MakeHook, missing: Missing, inside: bool
    ) -> _Made | None:
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
            return None
        function = original.__func__ if isinstance(original, (staticmethod, classmethod)) else original
        if not callable(function) or isinstance(function, type):
            self.left_out.append(str(target))
            _logger.warning("%s: %s is no function; it is left out", target.where, target)
            return None
        compiled = compiled_by(module, function)
        if compiled is not None:
            self.left_out.append(str(target))
            if target.where in self._refused:
                return None
            self._refused.add(target.where)
            _logger.warning(
                "%s: %s is part of the code that torch.compile makes of %s, which a hook would break; it is left out"
                " (hook %s.__call__)", target.where, target, compiled, compiled,
            )  # fmt: skip
            return None
        outer = self._outermost(owner, name) if inside else None
        if outer is not None:
            made = make_hook(outer.original)
            self._take_out.append(outer.put_inside(made))
        else:
            made = make_hook(function)
            self._replace(owner, name, original, function, made)
        self.installed.append(str(target))
        return _Made(owner, name, made)

    def _outermost(self, owner: Any, name: str) -> Control | None:
        """Of the hook that a caller meets first, if that is ours and lets others in."""
        last = next((one for one in reversed(self._installed) if one.owner is owner and one.name == name), None)
        if last is None or vars(owner).get(name) is not last.hook:
            return None
        control = control_of(last.made)
        return control if isinstance(control, Control) else None

    def _replace(self, owner: Any, name: str, original: Any, function: Any, made: Callable[..., Any]) -> None:
        hook: Any = made
        if not inspect.iscoroutinefunction(hook) and not is_generator_kind(hook):
            hook = aside_of_compiler(function, hook)
        if isinstance(original, (staticmethod, classmethod)):
            hook = type(original)(hook)
        elif isinstance(owner, type) and not _gets_self(original):
            hook = staticmethod(hook)  # a callable object or builtin gets no self, so its hook must not either
        self._installed.append(_Installed(owner, name, hook, made, original, name not in vars(owner)))
        setattr(owner, name, hook)
        if _is_defined_in(owner, original):
            replace_references(original, hook, owner.__name__.partition(".")[0])

    def remove_all(self) -> None:
        """Restore every function that is still ours, the last hook first, and install no more."""
        self._active = False
        self._below.remove()
        self._families.clear()
        self.installed.clear()
        while self._take_out:
            self._take_out.pop()()
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
