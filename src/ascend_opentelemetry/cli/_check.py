"""One symbol against the source of what is installed."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from ascend_opentelemetry import symbols
from ascend_opentelemetry.cli._compiled import Compiled
from ascend_opentelemetry.cli._nearest import Nearest
from ascend_opentelemetry.cli._source import Found, MissingError, Source, remembered
from ascend_opentelemetry.native import is_reserved

Status: TypeAlias = Literal["ok", "skipped", "unresolved", "refused"]

#: Packages that need not be there; any other one that is missing is a mistake.
_OPTIONAL = frozenset({"vllm", "vllm_ascend"})
_ROOTS = frozenset({"args", "kwargs", "this", "self", "return"})


class Verdict(NamedTuple):
    """What became of a symbol.

    Args:
        reason: why it is not simply ``ok``, or where an inherited or imported function is defined.
        nearest: what was probably meant.
        warnings: what else of the item will not work.
        notes: what works otherwise than written.
    """

    line: int
    symbol: str
    status: Status
    reason: str = ""
    nearest: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Checker:
    """Checks symbols; each source file is read once."""

    def __init__(self) -> None:
        self._source = Source()
        self._compiled = Compiled(self._source)

    @remembered
    def _nearest(self, package: str) -> Nearest:
        return Nearest(self._source, package)

    def is_installed(self, package: str) -> bool:
        return bool(self._source.roots(package))

    def check(self, symbol: symbols.Symbol) -> Verdict:
        applies = symbols.applies(symbol, symbols.installed_version)
        if isinstance(applies, symbols.Problem):
            return self._verdict(symbol, "refused", f"{applies.field}: {applies.message}")
        if not applies:
            return self._verdict(symbol, "skipped", f"meant for vLLM {bounds(symbol)}")
        package = symbol.module.partition(".")[0]
        if not self.is_installed(package):
            reason = f"{package} is not installed"
            if package in _OPTIONAL:
                return self._verdict(symbol, "skipped", reason)
            close = difflib.get_close_matches(package, sorted(_OPTIONAL), 1)
            nearest = f"{close[0]}{symbol.target.removeprefix(package)}" if close else ""
            return self._verdict(symbol, "unresolved", reason, nearest)
        return self._check_wildcard(symbol) if symbol.wildcard else self._check_target(symbol)

    def _check_target(self, symbol: symbols.Symbol) -> Verdict:
        try:
            found = self._source.find(symbol.module, symbol.qualname)
        except MissingError as error:
            nearest = self._nearest(symbol.module.partition(".")[0])
            return self._verdict(symbol, "unresolved", str(error), nearest.to(symbol.module, symbol.qualname, error))
        if found.kind not in ("function", "unknown"):
            return self._verdict(symbol, "refused", f"it is a {found.kind}, not a function")
        compiled = self._compiled.compiled_by(symbol.module, symbol.qualname, found)
        if compiled is not None:
            return self._verdict(symbol, "refused", _part_of(compiled))
        where = "" if str(found) == symbol.target else f"defined as {found}"
        if found.kind == "unknown":
            where = "it exists; its source does not say that it is a function"
        return self._verdict(symbol, "ok", where, function=found)

    def _check_wildcard(self, symbol: symbols.Symbol) -> Verdict:
        package = symbol.module.removesuffix(".*")
        found = list(self._source.defining(package, symbol.qualname))
        if not found:
            nearest = self._nearest(package.partition(".")[0]).to_method(package, symbol.qualname)
            return self._verdict(symbol, "unresolved", f"no class below {package} defines it", nearest)
        by = (self._compiled.compiled_by(one.module, one.qualname, one) for one in found)
        compiled = [name for name in by if name is not None]
        if len(compiled) == len(found):
            return self._verdict(symbol, "refused", _part_of(compiled[0]))
        without = f", {len(compiled)} more in compiled code are left out" if compiled else ""
        count = len(found) - len(compiled)
        return self._verdict(symbol, "ok", f"{count} {'class' if count == 1 else 'classes'}{without}")

    def _verdict(
        self, symbol: symbols.Symbol, status: Status, reason: str = "", nearest: str = "", function: Found | None = None
    ) -> Verdict:
        warnings = () if status == "skipped" else (*self._handler(symbol), *_parameters(symbol, function))
        notes = tuple(
            f"attribute {attribute.name} is called {attribute.name}_ in native files"
            for attribute in symbol.attributes
            if isinstance(symbols.resolve_handler(symbol), symbols.Timer) and is_reserved(attribute.name)
        )
        return Verdict(symbol.line, symbol.target, status, reason, nearest, warnings, notes)

    def _handler(self, symbol: symbols.Symbol) -> Iterator[str]:
        handler = symbols.resolve_handler(symbol)
        if not isinstance(handler, symbols.Custom):
            return
        try:
            self._source.find(handler.module, handler.function)
        except MissingError as error:
            nearest = self._nearest(handler.module.partition(".")[0]).to(handler.module, handler.function, error)
            hint = f", is {nearest} meant?" if nearest else ""
            yield f"handler {symbol.handler} cannot be used, a timer is: {error}{hint}"


def bounds(symbol: symbols.Symbol) -> str:
    """The versions that a symbol is meant for, for people; empty for all."""
    if symbol.min_version is not None and symbol.max_version is not None:
        return f"{symbol.min_version} to {symbol.max_version}"
    if symbol.min_version is not None:
        return f"{symbol.min_version} and newer"
    return f"{symbol.max_version} and older" if symbol.max_version is not None else ""


def _part_of(compiled: str) -> str:
    return f"part of the code that torch.compile makes of {compiled} (hook {compiled}.__call__)"


def _parameters(symbol: symbols.Symbol, function: Found | None) -> Iterator[str]:
    """Attributes of a timer that name no parameter of the function."""
    node = function.node if function is not None else None
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    if not isinstance(symbols.resolve_handler(symbol), symbols.Timer):
        return
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    known = [parameter.arg for parameter in named if parameter is not None]
    for attribute in symbol.attributes:
        if attribute.expr.root not in _ROOTS and attribute.expr.root not in known:
            yield (
                f"attribute {attribute.name} has no value: there is no parameter {attribute.expr.root!r}; "
                f"the parameters: {', '.join(known)}"
            )
