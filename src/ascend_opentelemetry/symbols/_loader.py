"""A symbols file -> symbols and problems."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ascend_opentelemetry.symbols._aliases import BUILTIN_MODULE, BUILTINS, Custom, Handler, Timer, resolve_handler
from ascend_opentelemetry.symbols._content import read
from ascend_opentelemetry.symbols._expression import ExpressionError, compile_expression
from ascend_opentelemetry.symbols._problem import Problem
from ascend_opentelemetry.symbols._symbol import DEFAULT_DOMAIN, Attribute, Symbol
from ascend_opentelemetry.symbols._versions import overlap

# libyaml reads a file ten times faster than Python code, where PyYAML was built with it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NAME = r"[^\W\d]\w*"
_SYMBOL = re.compile(rf"(?P<module>{_NAME}(?:\.{_NAME})*(?P<below>\.\*)?):(?P<qualname>(?:\*|{_NAME})(?:\.{_NAME})*)")
_HANDLER = re.compile(rf"{_NAME}(?:\.{_NAME})*:{_NAME}(?:\.{_NAME})*")
_ITEM = re.compile(r"^( *)-(?=\s)", re.MULTILINE)

_ITEM_KEYS = ("symbol", "handler", "domain", "name", "min_version", "max_version", "attributes")
_ATTRIBUTE_KEYS = ("name", "expr", "otel_name")
_TAGS = {"int": "a number", "float": "a number", "bool": "a truth value", "seq": "a list", "map": "a mapping"}


def load(path: str | os.PathLike[str]) -> tuple[list[Symbol], list[Problem]]:
    """Reads a symbols file.

    Args:
        path: as ``find`` gives it.

    Returns:
        The symbols in the order of the file, and what could not be used. A field with a problem has its default, an
        item without a usable ``symbol`` is left out; the others are there. Nothing is raised.
    """
    reader = _Reader(Path(path))
    return reader.symbols(), reader.problems


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.writable_by_all = False

    def symbols(self) -> list[Symbol]:
        symbols: list[Symbol] = []
        seen: dict[tuple[str, Handler | type[Timer]], list[Symbol]] = {}
        for node in self.items(self.text()):
            symbol = self.symbol(node)
            if symbol is None:
                continue
            handler = resolve_handler(symbol)
            # two timers around one function say the same twice, whatever they are called
            same = seen.setdefault((symbol.target, Timer if isinstance(handler, Timer) else handler), [])
            twin = next((other for other in same if overlap(symbol, other)), None)
            if twin is not None:
                what = "timer" if isinstance(handler, Timer) else "handler"
                self.problem(
                    symbol.line, "symbol", f"{symbol.target} has this {what} from line {twin.line} already; left out"
                )
                continue
            same.append(symbol)
            symbols.append(symbol)
        return symbols

    def problem(self, line: int, field: str, message: str) -> None:
        self.problems.append(Problem(str(self.path), line, field, message))

    def text(self) -> str:
        try:
            data, self.writable_by_all = read(self.path)
            return data.decode("utf-8")
        except OSError as error:
            self.problem(0, "", f"cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.problem(line, "", "not UTF-8 text; save the file as UTF-8")
        return "[]"

    def items(self, text: str) -> list[yaml.Node]:
        try:
            root = _compose(text)
        except yaml.YAMLError as error:
            return self.unbroken_items(text, error)
        if not isinstance(root, yaml.SequenceNode):
            self.problem(_line(root) if root else 0, "", "the file must be a list of items that begin with `- symbol:`")
            return []
        return root.value

    def unbroken_items(self, text: str, error: yaml.YAMLError) -> list[yaml.Node]:
        """The items of a file that is no YAML as a whole, each read for itself."""
        first = _ITEM.search(text)
        starts = [match.start() for match in _ITEM.finditer(text) if first and match[1] == first[1]]
        nodes: list[yaml.Node] = []
        for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
            # empty lines in place of what is before keep the line numbers
            nodes += self.part("\n" * text.count("\n", 0, start) + text[start:end])
        if not self.problems:
            self.broken(error)
        return nodes

    def part(self, text: str) -> list[yaml.Node]:
        try:
            root = _compose(text)
        except yaml.YAMLError as error:
            self.broken(error)
            return []
        return root.value if isinstance(root, yaml.SequenceNode) else []

    def broken(self, error: yaml.YAMLError) -> None:
        context = getattr(error, "context", None) or ""
        mark = getattr(error, "problem_mark", None)
        if context.startswith("while scanning"):  # where the text or key began says more than where the file ended
            mark = getattr(error, "context_mark", None) or mark
        what = f"broken YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        if mark is None:
            self.problem(0, "", what)
        else:
            self.problem(mark.line + 1, "", f"{what} (column {mark.column + 1})")

    def symbol(self, node: yaml.Node) -> Symbol | None:
        fields = self.fields(node, _ITEM_KEYS, "", "an item must be a mapping that begins with `symbol:`")
        if fields is None:
            return None
        line = _line(node)
        text = self.word(fields, "symbol")
        if text is None:
            if "symbol" not in fields or _tag(fields["symbol"]) == "null":
                self.problem(line, "symbol", "missing; the item is left out")
            return None
        at = _line(fields["symbol"])
        match = _SYMBOL.fullmatch(text)
        if match is None or not _fits(bool(match["below"]), match["qualname"]):
            colons = text.count(":")
            why = f"{colons} colons" if colons != 1 else "a part is no Python name"
            form = "package.module:Class.method, or package.*:*.method for all modules below a package"
            self.problem(at, "symbol", f"{text!r} is not {form} ({why}); the item is left out")
            return None
        symbol = Symbol(
            module=match["module"],
            qualname=match["qualname"],
            handler=self.handler(fields),
            domain=self.word(fields, "domain") or DEFAULT_DOMAIN,
            name=self.word(fields, "name") or "",
            min_version=self.version(fields, "min_version"),
            max_version=self.version(fields, "max_version"),
            attributes=self.attributes(fields),
            file=str(self.path),
            line=line,
        )
        if self.writable_by_all and isinstance(resolve_handler(symbol), Custom):
            message = f"{symbol.handler} is not loaded: every user may write this file (chmod o-w); a timer is used"
            self.problem(_line(fields["handler"]), "handler", message)
            return replace(symbol, handler=None)
        return symbol

    def handler(self, fields: dict[str, yaml.Node]) -> str | None:
        text = self.word(fields, "handler")
        if text is None or text == "timer":
            return None
        module, _, function = text.partition(":")
        if not _HANDLER.fullmatch(text):
            why = f"{text!r} is neither timer nor package.module:function"
        elif module == BUILTIN_MODULE and function not in BUILTINS:
            why = f"{text!r} is no built-in handler: there are {', '.join(sorted(BUILTINS))}"
        else:
            return text
        self.problem(_line(fields["handler"]), "handler", f"{why}; a timer is used")
        return None

    def version(self, fields: dict[str, yaml.Node], key: str) -> str | None:
        node = fields.get(key)
        if node is not None and _tag(node) in ("float", "int"):
            # the text as written: YAML's number would make 0.10 the version 0.1
            self.problem(_line(node), key, f"{node.value} is a number, read as the version; write '{node.value}'")
            return str(node.value)
        return self.word(fields, key)

    def attributes(self, fields: dict[str, yaml.Node]) -> tuple[Attribute, ...]:
        node = fields.get("attributes")
        if node is None or _tag(node) == "null":
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.problem(_line(node), "attributes", "must be a list of `- name:` with `expr:`; left out")
            return ()
        attributes: dict[str, Attribute] = {}
        for item in node.value:
            attribute = self.attribute(item)
            if attribute is None:
                continue
            if attribute.name in attributes:
                self.problem(_line(item), "attributes.name", f"{attribute.name!r} is there already; left out")
                continue
            attributes[attribute.name] = attribute
        return tuple(attributes.values())

    def attribute(self, node: yaml.Node) -> Attribute | None:
        must = "an attribute must be a mapping with `name` and `expr`; left out"
        fields = self.fields(node, _ATTRIBUTE_KEYS, "attributes.", must)
        if fields is None:
            return None
        name, text = self.word(fields, "name", "attributes."), self.word(fields, "expr", "attributes.")
        for key in ("name", "expr"):
            if key not in fields or _tag(fields[key]) == "null":
                self.problem(_line(node), f"attributes.{key}", "missing; the attribute is left out")
        if name is None or text is None:
            return None
        try:
            expression = compile_expression(text)
        except ExpressionError as error:
            self.problem(_line(fields["expr"]), "attributes.expr", f"{error}; the attribute {name!r} is left out")
            return None
        return Attribute(name, self.word(fields, "otel_name", "attributes.") or name, expression)

    def fields(self, node: yaml.Node, known: tuple[str, ...], prefix: str, must: str) -> dict[str, yaml.Node] | None:
        """The values of a mapping by key; None, with a problem, if the node is none."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(_line(node), prefix.rstrip("."), must)
            return None
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a key that is no text"
            if name not in known:
                self.problem(_line(key), prefix + name, f"unknown; there are {', '.join(known)}")
                continue
            if name in fields:
                self.problem(
                    _line(key), prefix + name, f"is in line {_line(fields[name])} already; the last one counts"
                )
            fields[name] = value
        return fields

    def word(self, fields: dict[str, yaml.Node], key: str, prefix: str = "") -> str | None:
        """Text of a field; None if it is absent or, with a problem, something else."""
        node = fields.get(key)
        if node is None or _tag(node) == "null":
            return None
        if _tag(node) == "str" and node.value.strip():
            return node.value.strip()
        got = "empty" if _tag(node) == "str" else _TAGS.get(_tag(node), _tag(node))
        hint = f"; write '{node.value}'" if isinstance(node, yaml.ScalarNode) and node.value.strip() else ""
        self.problem(_line(node), prefix + key, f"must be text, is {got}{hint}")
        return None


def _fits(below: bool, qualname: str) -> bool:
    """``Class.method`` or ``*.method`` for all modules below a package, a name without ``*`` in one module."""
    return qualname.count(".") == 1 if below else "*" not in qualname


def _compose(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, with their lines; no value is made of them."""
    try:
        return yaml.compose(text, Loader=_LOADER)
    except RecursionError:
        raise yaml.YAMLError("too many brackets inside each other") from None


def _tag(node: yaml.Node) -> str:
    return node.tag.rpartition(":")[2]


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
