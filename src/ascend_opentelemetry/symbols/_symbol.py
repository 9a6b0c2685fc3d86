from __future__ import annotations

from dataclasses import dataclass

from ascend_opentelemetry.symbols._expression import Expression

DEFAULT_DOMAIN = "Default"


@dataclass(frozen=True)
class Attribute:
    """A value that a timer records with each call.

    Args:
        name: key of the native row.
        otel_name: key of the span attribute.
        expr: where the value comes from.
    """

    name: str
    otel_name: str
    expr: Expression


@dataclass(frozen=True)
class Symbol:
    """A function named in a symbols file, and what is recorded of its calls.

    Args:
        module: dotted name; ends in ``.*`` for all modules below a package.
        qualname: dotted name inside the module: ``Class.method`` or ``function``.
        handler: ``pkg.mod:func``; None for the default timer.
        domain: native ``cat`` and OTel scope.
        name: name of the span and of the native row; empty stands for the last part of ``qualname``.
        min_version: lowest version of vLLM, inclusive.
        max_version: highest version of vLLM, inclusive.
        attributes: evaluated by the default timer.
        file: the symbols file.
        line: line of the item in it, from 1.
    """

    module: str
    qualname: str
    handler: str | None = None
    domain: str = DEFAULT_DOMAIN
    name: str = ""
    min_version: str | None = None
    max_version: str | None = None
    attributes: tuple[Attribute, ...] = ()
    file: str = ""
    line: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.method)

    @property
    def target(self) -> str:
        """``module:qualname`` as the file says it."""
        return f"{self.module}:{self.qualname}"

    @property
    def method(self) -> str:
        """Last part of ``qualname``."""
        return self.qualname.rpartition(".")[2]

    @property
    def wildcard(self) -> bool:
        """Whether every class that defines ``method``, in every module below the package, is meant."""
        return self.module.endswith(".*")
