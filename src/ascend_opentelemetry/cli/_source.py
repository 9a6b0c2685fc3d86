"""Names of installed packages, read from their source files: nothing of them is imported."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from ascend_opentelemetry.cli._scope import Imported, Scope, read_scope

Kind: TypeAlias = Literal["function", "class", "module", "property", "value", "unknown"]
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_LITERALS = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict)
_PROPERTIES = frozenset({"property", "cached_property", "setter", "deleter"})
#: What is best where a name is bound more than once, as in both branches of a ``try``.
_PREFERENCE: tuple[Kind, ...] = ("function", "class", "module", "unknown", "property", "value")


class Found(NamedTuple):
    """What a name stands for.

    Args:
        kind: ``unknown`` for what no source tells: the result of a call, or of a module without source.
        module: where it is defined.
        qualname: dotted name there; empty for a module.
        node: of a function or class.
    """

    kind: Kind
    module: str
    qualname: str
    node: ast.AST | None = None

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}" if self.qualname else self.module


class MissingError(LookupError):
    """A name that is not there.

    Args:
        message: which one, and where.
        owner: the last thing that was found; None where the module is missing.
        depth: number of parts of the qualname that were found.
    """

    def __init__(self, message: str, owner: Found | None = None, depth: int = 0) -> None:
        super().__init__(message)
        self.owner = owner
        self.depth = depth


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def remembered(method: Callable[[Any, _Key], _Value]) -> Callable[[Any, _Key], _Value]:
    """A method that is called once for each argument.

    ``functools.cache`` would keep the object in a cycle, and to find that among syntax trees takes a second at the end.
    """
    name = f"_remembered_{method.__name__}"

    @functools.wraps(method)
    def ask(self: Any, key: _Key) -> _Value:
        known = vars(self).setdefault(name, {})
        if key not in known:
            known[key] = method(self, key)
        return known[key]

    return ask


class Source:
    """The source files of installed packages, each read once."""

    def __init__(self) -> None:
        self._scopes: dict[str, Scope | None] = {}

    def find(self, module: str, qualname: str) -> Found:
        """What ``module:qualname`` is when the module has been imported.

        Raises:
            MissingError: the module or a part of the name is not there.
        """
        if self.path(module) is None:
            raise MissingError(f"there is no module {module}")
        owner = Found("module", module, "")
        for depth, name in enumerate(qualname.split(".")):
            found = self.member(owner, name)
            if found is None:
                raise MissingError(f"{owner} has no {name}{self._blind_spot(owner)}", owner, depth)
            owner = found
        return owner

    def member(self, owner: Found, name: str) -> Found | None:
        """An attribute of a module or class, inherited ones too; unknown things have unknown attributes."""
        if owner.kind == "unknown":
            return Found("unknown", owner.module, f"{owner.qualname}.{name}")
        candidates = list(self._members(owner, name, set()))
        return min(candidates, key=lambda found: _PREFERENCE.index(found.kind), default=None)

    def definitions(self, module: str) -> dict[str, Found]:
        """Functions and classes that a module itself defines, by name."""
        owner = Found("module", module, "")
        scope = self._scope(owner)
        found = (each for name in scope.names for each in self._defined(owner, scope, name)) if scope else ()
        return {one.qualname: one for one in found}

    def defining(self, package: str, qualname: str) -> Iterator[Found]:
        """The method of ``Class.method`` or ``*.method`` in each class below a package that itself defines it."""
        class_name, _, method = qualname.partition(".")
        for module, path in self.modules(package.partition(".")[0]).items():
            if not module.startswith(f"{package}.") or f"def {method}".encode() not in path.read_bytes():
                continue
            for name, owner in self.definitions(module).items():
                scope = self._scope(owner) if owner.kind == "class" and class_name in ("*", name) else None
                if scope and method in scope.names:
                    yield from (one for one in self._defined(owner, scope, method) if one.kind == "function")

    def path(self, module: str) -> Path | None:
        """File of a module, or folder of a package without ``__init__.py``; None where there is none."""
        top, *parts = module.split(".")
        for root in self.roots(top):
            if root.is_file():
                return root if not parts else None
            path = root.joinpath(*parts)
            for one in (path / "__init__.py", path.parent / f"{path.name}.py"):
                if one.is_file():
                    return one
            if path.is_dir():
                return path
        return None

    @remembered
    def roots(self, top: str) -> list[Path]:
        """Folders of a top-level package, or file of a top-level module."""
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return []
        if spec is None:
            return []
        if spec.submodule_search_locations is not None:
            return [Path(location) for location in spec.submodule_search_locations]
        return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []

    @remembered
    def names(self, owner: Found) -> frozenset[str]:
        """Names of the attributes of a module or class, inherited ones too."""
        owners = self.lineage(owner) if owner.kind == "class" else [owner]
        return frozenset(name for one in owners if (scope := self._scope(one)) for name in scope.names)

    @remembered
    def lineage(self, owner: Found) -> list[Found]:
        """A class and those that it inherits from, as far as they have source; each once."""
        found: dict[str, Found] = {}
        waiting = [owner]
        while waiting:
            one = waiting.pop(0)
            if one.kind == "class" and str(one) not in found:
                found[str(one)] = one
                waiting[:0] = self._bases(one)
        return list(found.values())

    @remembered
    def modules(self, top: str) -> dict[str, Path]:
        """File of each module of a package."""
        modules: dict[str, Path] = {}
        for root in self.roots(top):
            for path in sorted(root.rglob("*.py")):
                parts = [top, *path.relative_to(root).with_suffix("").parts]
                if parts[-1] == "__init__":
                    parts.pop()
                modules[".".join(parts)] = path
        return modules

    def _members(self, owner: Found, name: str, seen: set[tuple[str, str]]) -> Iterator[Found]:
        if (str(owner), name) in seen:
            return
        seen.add((str(owner), name))
        if owner.kind == "class":
            for one in self.lineage(owner):
                scope = self._scope(one)
                if scope and name in scope.names:
                    yield from self._bound(one, scope, name, seen)
                    return
        elif owner.kind == "module":
            yield from self._module_members(owner, name, seen)

    def _module_members(self, owner: Found, name: str, seen: set[tuple[str, str]]) -> Iterator[Found]:
        scope = self._scope(owner)
        if scope is None:
            if self.path(owner.module) is None:  # compiled, or not installed: the import says that it is there
                yield Found("unknown", owner.module, name)
            return
        if name in scope.names:
            yield from self._bound(owner, scope, name, seen)
        elif self.path(f"{owner.module}.{name}") is not None:
            yield Found("module", f"{owner.module}.{name}", "")
        else:
            for module in scope.stars:
                if self.path(module) is not None:
                    yield from self._members(Found("module", module, ""), name, seen)

    def _defined(self, owner: Found, scope: Scope, name: str) -> Iterator[Found]:
        for binding in scope.names[name]:
            if isinstance(binding, _Function):
                kind: Kind = "property" if decorators(binding) & _PROPERTIES else "function"
                yield Found(kind, owner.module, _join(owner, name), binding)
            elif isinstance(binding, ast.ClassDef):
                yield Found("class", owner.module, _join(owner, name), binding)

    def _bound(self, owner: Found, scope: Scope, name: str, seen: set[tuple[str, str]]) -> Iterator[Found]:
        yield from self._defined(owner, scope, name)
        qualname = _join(owner, name)
        for binding in scope.names[name]:
            if isinstance(binding, Imported):
                yield from self._imported(binding, seen)
            elif isinstance(binding, (ast.Name, ast.Attribute)):
                yield from self._evaluate(owner, binding, seen) or [Found("unknown", owner.module, qualname)]
            elif isinstance(binding, ast.expr):
                yield Found("value" if isinstance(binding, _LITERALS) else "unknown", owner.module, qualname)

    def _imported(self, binding: Imported, seen: set[tuple[str, str]]) -> list[Found]:
        module = Found("module", binding.module, "")
        if binding.name is None:
            return [module]
        submodule = f"{binding.module}.{binding.name}"
        found = list(self._members(module, binding.name, seen))
        return found if found or self.path(submodule) is None else [Found("module", submodule, "")]

    def _evaluate(self, owner: Found, expression: ast.AST, seen: set[tuple[str, str]]) -> list[Found]:
        """What a dotted name in the body of a module or class stands for."""
        if isinstance(expression, ast.Subscript):  # Generic[T]
            return self._evaluate(owner, expression.value, seen)
        if isinstance(expression, ast.Attribute):
            holders = self._evaluate(owner, expression.value, seen)
            return [found for holder in holders for found in self._members(holder, expression.attr, seen)]
        if not isinstance(expression, ast.Name):
            return []
        scope = self._scope(owner)
        if owner.kind == "class" and not (scope and expression.id in scope.names):
            return self._evaluate(_outside(owner), expression, seen)
        return list(self._members(owner, expression.id, seen))

    def _bases(self, owner: Found) -> list[Found]:
        bases = owner.node.bases if isinstance(owner.node, ast.ClassDef) else []
        found = (self._evaluate(_outside(owner), base, set()) for base in bases)
        return [one for ones in found for one in ones]

    def _blind_spot(self, owner: Found) -> str:
        bases = {str(base) for one in self.lineage(owner) for base in self._bases(one) if base.kind != "class"}
        opaque = sorted(base for base in bases if base.split(":")[0].split(".")[0] not in sys.stdlib_module_names)
        return f" (no source of {', '.join(opaque)})" if opaque else ""

    def _scope(self, owner: Found) -> Scope | None:
        key = str(owner)
        if key not in self._scopes:
            self._scopes[key] = self._read(owner)
        return self._scopes[key]

    def _read(self, owner: Found) -> Scope | None:
        if owner.kind == "class":
            return read_scope(owner.node.body, "") if isinstance(owner.node, ast.ClassDef) else None
        path = self.path(owner.module)
        if path is None or path.is_dir() or path.suffix != ".py":
            return None
        package = owner.module if path.name == "__init__.py" else owner.module.rpartition(".")[0]
        try:
            return read_scope(ast.parse(path.read_bytes()).body, package)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None


def decorators(node: ast.AST | None) -> set[str]:
    """Last names of the decorators of a function or class."""
    names: set[str] = set()
    for decorator in getattr(node, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        names.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    return names


def _join(owner: Found, name: str) -> str:
    return f"{owner.qualname}.{name}" if owner.qualname else name


def _outside(owner: Found) -> Found:
    """Where a class is defined; names of an enclosing class are not seen inside, as in Python."""
    return Found("module", owner.module, "")
