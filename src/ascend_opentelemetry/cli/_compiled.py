"""Functions that ``torch.compile`` traces, by source: those that the hooks leave out when they meet them."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from ascend_opentelemetry.cli._source import Found, Source, decorators

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Compiled:
    """Looks through the compiled classes of modules, each once.

    Args:
        source: to read them in.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._traced: dict[str, dict[ast.AST | str, str]] = {}

    def compiled_by(self, module: str, qualname: str, function: Found) -> str | None:
        """The class whose compiled ``forward`` runs a function, as far as its module tells.

        Args:
            module: where the function was looked for; the one that defines it is looked through too.
            qualname: under which name.
            function: what was found.

        Returns:
            Name of the class; None if there is none.
        """
        if function.node is None:
            return None
        here = self._in(module)
        return here.get(function.node) or here.get(qualname) or self._in(function.module).get(function.node)

    def _in(self, module: str) -> dict[ast.AST | str, str]:
        """Names of the compiled classes of a module by the functions that they run, and by the names in them."""
        if module not in self._traced:
            traced = self._traced[module] = {}
            defined = self._source.definitions(module)
            for name, cls in defined.items():
                if cls.kind == "class" and self._is_compiled(cls):
                    for function in self._run(defined, cls):
                        traced.setdefault(function, name)
        return self._traced[module]

    def _is_compiled(self, cls: Found) -> bool:
        for one in self._source.lineage(cls):
            marks = decorators(one.node)
            if "ignore_torch_compile" in marks:
                return False
            if "support_torch_compile" in marks:
                return True
        return False

    def _run(self, defined: Mapping[str, Found], cls: Found) -> set[ast.AST | str]:
        """What ``forward`` of a class calls: own methods, functions of its module, ``forward`` of the parts it makes.

        Args:
            defined: what the module of the class defines.
            cls: the class.
        """
        functions: set[ast.AST | str] = set()
        classes = [cls]
        for part in classes:  # grows
            waiting = ["forward"]
            while waiting:
                name = waiting.pop()
                functions.add(name)
                for found in (self._member(part, name), defined.get(name)):
                    node = found.node if found is not None and name != "__init__" else None
                    if isinstance(node, _Function) and node not in functions:
                        functions.add(node)
                        waiting += _names(node)
            classes += [made for made in self._made(defined, part) if made not in classes]
        return functions

    def _made(self, defined: Mapping[str, Found], part: Found) -> list[Found]:
        """Classes of the module with a ``forward`` that the constructor of a class names, also as own attributes."""
        init = self._member(part, "__init__")
        named = sorted(_names(init.node)) if init is not None and isinstance(init.node, _Function) else ()
        found = [one for name in named for one in (self._member(part, name), defined.get(name)) if one is not None]
        own = [one for one in found if one.kind == "class" and one == defined.get(one.qualname)]
        return [one for one in own if self._member(one, "forward")]

    def _member(self, cls: Found, name: str) -> Found | None:
        return self._source.member(cls, name) if name in self._source.names(cls) else None


def _names(function: ast.AST) -> set[str]:
    """Names of globals and attributes in the body and the default values of a function."""
    assert isinstance(function, _Function)  # noqa: S101 - nothing else is asked for
    parts = [*function.body, *function.args.defaults, *filter(None, function.args.kw_defaults)]
    nodes = [node for part in parts for node in ast.walk(part)]
    local = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    local |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | ({node.id for node in nodes if isinstance(node, ast.Name)} - local)
