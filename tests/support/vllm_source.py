"""What the source of a vLLM version says: functions, parameters and attributes, without importing it."""

from __future__ import annotations

import ast
from pathlib import Path

from packaging.version import Version

from ascend_opentelemetry.cli._source import Found, MissingError, Source


class VllmSource:
    """The sources of one version.

    Args:
        version: of them.
        folder: that holds the package ``vllm``.
    """

    def __init__(self, version: str, folder: Path) -> None:
        self.version = Version(version)
        self._source = Source()
        self._source.roots = lambda top: [folder / top] if top == "vllm" else []

    def find(self, module: str, qualname: str) -> Found | None:
        """What ``module:qualname`` is; None where there is no such name."""
        try:
            return self._source.find(module, qualname)
        except MissingError:
            return None

    def parameters(self, module: str, qualname: str) -> list[str]:
        """Names of the parameters that may be given by position, ``self`` included."""
        found = self.find(module, qualname)
        assert found is not None
        node = found.node
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)), f"{found} is no function"
        return [parameter.arg for parameter in (*node.args.posonlyargs, *node.args.args)]

    def attributes(self, module: str, qualname: str) -> set[str]:
        """Names that instances of a class have: fields, methods, and what its methods assign to ``self``."""
        found = self.find(module, qualname)
        assert found is not None, f"there is no {module}:{qualname}"
        names: set[str] = set()
        for owner in self._source.lineage(found):
            assert isinstance(owner.node, ast.ClassDef)
            assigned = [target for node in owner.node.body if isinstance(node, ast.Assign) for target in node.targets]
            names.update(target.id for target in assigned if isinstance(target, ast.Name))
            for node in ast.walk(owner.node):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    names.add(node.name)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names.add(node.target.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
        return names
