"""The methods with which subclasses override one that is hooked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from ascend_opentelemetry.hooks._control import Concerns, Restrictable
from ascend_opentelemetry.hooks._references import is_class_of


class Family:
    """One method of a class and of the subclasses that override it.

    A call is recorded once, however often a method calls that of its base class: by the first of them that is hooked.
    Which one that is follows from the type of the object, so that nothing is noted during the call.

    Args:
        base: the class.
        name: of the method.
        where: file and line of the symbol, for messages.
        overriding: gives what makes the hook of an overriding method.
    """

    def __init__(self, base: type, name: str, where: str, overriding: Callable[..., Any]) -> None:
        self.base = base
        self.name = name
        self.where = where
        self.overriding = overriding
        self._members: dict[type, Restrictable | None] = {}
        self._first: dict[type, type | None] = {}
        self._claims: dict[type, object] = {}

    def is_overridden_in(self, cls: type) -> bool:
        """Whether a subclass has the method itself, and nobody has claimed it yet."""
        method = vars(cls).get(self.name)
        return cls not in self._claims and isinstance(method, (FunctionType, staticmethod, classmethod))

    def claim(self, cls: type) -> bool:
        """Whether the caller is the first one to hook the method of a subclass; the drain and imports look at once."""
        token = object()
        return self._claims.setdefault(cls, token) is token

    def add(self, owner: type, control: Restrictable | None) -> None:
        """Take in the hook of one class; as long as there is one only, all calls concern it.

        Args:
            owner: the class.
            control: of the hook; None where it cannot be restricted.
        """
        self._members[owner] = control
        self._first = {}  # a call that is being looked up keeps the one it has
        if len(self._members) == 2:
            for one, its_control in self._members.items():
                self._restrict(one, its_control)
        elif len(self._members) > 2:
            self._restrict(owner, control)

    def _restrict(self, owner: type, control: Restrictable | None) -> None:
        if control is not None:
            control.restrict(self._concerns(owner))

    def _concerns(self, owner: type) -> Concerns:
        def concerns(args: tuple[Any, ...]) -> bool:
            if not args:
                return True
            # of a class method it is the class; isinstance would ask an object of the program for its __class__
            kind = args[0] if issubclass(type(args[0]), type) else type(args[0])
            known = self._first
            try:
                first = known[kind]
            except KeyError:
                first = known[kind] = next((one for one in kind.__mro__ if one in self._members), None)
            except TypeError:  # a class that its metaclass makes unhashable
                return True
            return first is None or first is owner

        return concerns


class Families:
    """All methods whose overriding ones are hooked too.

    Args:
        found: called with the family and the subclass for each of them, once its module is imported.
    """

    def __init__(self, found: Callable[[Family, type], None]) -> None:
        self._found = found
        self._families: dict[type, list[Family]] = {}

    def add(self, family: Family) -> None:
        """Find the subclasses that exist, in modules that are imported."""
        self._families.setdefault(family.base, []).append(family)
        self._look_below(family.base)

    def look_again(self) -> None:
        """Find the subclasses that have come since, in whatever module."""
        for base in list(self._families):
            self._look_below(base)

    def _look_below(self, base: type) -> None:
        for cls in list(_below(base)):
            module = sys.modules.get(cls.__module__)
            # of a module that is being imported, ``look`` hears later
            if isinstance(module, ModuleType) and not getattr(
                getattr(module, "__spec__", None), "_initializing", False
            ):
                self._look_at(cls, module)

    def look(self, module: ModuleType) -> None:
        """Find the subclasses in a module that has been imported."""
        if self._families:
            for value in list(vars(module).values()):
                if is_class_of(value, module):
                    self._look_at(value, module)

    def _look_at(self, cls: type, module: ModuleType) -> None:
        if vars(module).get(cls.__name__) is not cls:  # inside another class or a function
            return
        for base in cls.__mro__[1:]:
            for family in self._families.get(base, ()):
                if family.is_overridden_in(cls):
                    self._found(family, cls)

    def clear(self) -> None:
        """Find no more."""
        self._families.clear()


def _below(cls: type) -> Iterator[type]:
    for heir in type.__subclasses__(cls):
        yield heir
        yield from _below(heir)
