"""Which names the body of a module or class binds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias


class Imported(NamedTuple):
    """``import module`` (no name), or ``from module import name``."""

    module: str
    name: str | None = None


Binding: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr | Imported"


class Scope(NamedTuple):
    """A body.

    Args:
        names: all bindings of each name: the branches of an ``if`` and of a ``try`` count alike.
        stars: modules from which everything is imported.
    """

    names: dict[str, list[Binding]]
    stars: list[str]


def read_scope(body: Sequence[ast.stmt], package: str) -> Scope:
    """The names that a body binds.

    Args:
        body: of a module or class.
        package: that relative imports start from.
    """
    reader = _Reader(package)
    reader.statements(body)
    if "__getattr__" in reader.names:  # such a module gives on demand what it names for type checkers
        for block in reader.for_type_checkers:
            reader.statements(block)
    return Scope(reader.names, reader.stars)


class _Reader:
    def __init__(self, package: str) -> None:
        self.package = package
        self.names: dict[str, list[Binding]] = {}
        self.stars: list[str] = []
        self.for_type_checkers: list[Sequence[ast.stmt]] = []

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.bind(statement.name, statement)
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.bind(name, Imported(alias.name if alias.asname else name))
            elif isinstance(statement, ast.ImportFrom):
                self.import_from(statement)
            elif isinstance(statement, ast.Assign):
                for target in statement.targets:
                    self.assign(target, statement.value)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                self.assign(statement.target, statement.value)
            else:
                self.compound(statement)

    def compound(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            self.for_type_checkers.append(statement.body)
            self.statements(statement.orelse)
            return
        for field in ("body", "orelse", "finalbody"):
            self.statements(getattr(statement, field, ()))
        for handler in getattr(statement, "handlers", ()):
            self.statements(handler.body)

    def import_from(self, statement: ast.ImportFrom) -> None:
        module = statement.module or ""
        if statement.level:
            parents = self.package.split(".")
            parents = parents[: len(parents) - statement.level + 1]
            module = ".".join([*parents, module] if module else parents)
        for alias in statement.names:
            if alias.name == "*":
                self.stars.append(module)
            else:
                self.bind(alias.asname or alias.name, Imported(module, alias.name))

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.bind(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                self.assign(element, ast.Starred(value))

    def bind(self, name: str, binding: Binding) -> None:
        self.names.setdefault(name, []).append(binding)


def _is_type_checking(test: ast.expr) -> bool:
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"
