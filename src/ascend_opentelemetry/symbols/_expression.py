"""The text of an attribute's ``expr`` -> where the value starts and the steps to it.

Each step takes one value and gives one, so every expression of the language is a root and a list of steps:
``len(return[0].ids) | str`` is ``return``, ``[0]``, ``.ids``, ``len()``, ``str()``.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: ``("attr", name)``, ``("index", number or text)`` or ``("call", one of CALLS)``.
Step: TypeAlias = "tuple[Literal['attr', 'call'], str] | tuple[Literal['index'], int | str]"

CALLS = frozenset({"len", "str", "int", "float", "bool"})

_MAX_LENGTH, _MAX_DEPTH, _MAX_STEPS, _MAX_INDEX = 1000, 20, 32, 2**31 - 1
_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\w+|\S""")
# as long as "return", so that positions stay; no one can write it, double underscores are refused
_RETURN = "__ret_"


class ExpressionError(ValueError):
    """An expression that is not in the language, or names a parameter that the function lacks.

    Args:
        message: what is wrong.
        text: the expression.
        position: character in ``text``, from 1; 0 when the expression as a whole is meant.
    """

    def __init__(self, message: str, text: str, position: int = 0) -> None:
        super().__init__(f"{message} (character {position} of {text!r})" if position else f"{message} ({text!r})")
        self.text = text
        self.position = position


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Args:
        text: as written.
        root: ``args``, ``kwargs``, ``this``, ``self``, ``return`` or the name of a parameter.
        steps: applied to the root's value in this order.
    """

    text: str
    root: str
    steps: tuple[Step, ...]


def compile_expression(text: str) -> Expression:
    """Checks an expression and takes it apart; runs nothing of it.

    Args:
        text: ``first | operation | ...``. ``first`` is a name followed by ``[index]`` and ``.attribute``, inside
            calls of ``CALLS`` and ``attr(first, 'NAME')``; an operation is one of ``CALLS`` or ``attr NAME``.

    Raises:
        ExpressionError: ``text`` is not in the language.
    """
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"longer than {_MAX_LENGTH} characters", f"{text[:40]}...")
    return _Parser(text).expression()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text

    def expression(self) -> Expression:
        (offset, first), *operations = self.stages()
        root, steps = self.first(first, offset)
        steps += [self.operation(source, offset) for offset, source in operations]
        if len(steps) > _MAX_STEPS:
            raise self.error(f"more than {_MAX_STEPS} steps", 0)
        return Expression(self.text, root, tuple(steps))

    def error(self, message: str, offset: int) -> ExpressionError:
        return ExpressionError(message, self.text, offset + 1)

    def stages(self) -> list[tuple[int, str]]:
        """Offset and source of what stands between the pipes; ``return`` renamed, no blanks around."""
        starts, source, depth = [0], self.text.replace("\n", " "), 0
        for token in _TOKEN.finditer(source):
            word, at = token[0], token.start()
            depth += (word in "([{") - (word in ")]}")
            if depth > _MAX_DEPTH:
                raise self.error(f"more than {_MAX_DEPTH} brackets inside each other", at)
            if word[0] not in "'\"" and "__" in word:
                raise self.error(f"{word!r}: names with two underscores are refused", at)
            if word == "|" and depth <= 0:
                starts.append(at + 1)
            elif word == "return":
                source = source[:at] + _RETURN + source[token.end() :]
        stages: list[tuple[int, str]] = []
        for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(source)], strict=True):
            stage = source[start:end]
            if not stage.strip():
                raise self.error("nothing between two pipes" if len(starts) > 1 else "empty", start)
            stages.append((start + len(stage) - len(stage.lstrip()), stage.strip()))
        return stages

    def first(self, source: str, offset: int) -> tuple[str, list[Step]]:
        try:
            node = ast.parse(source, mode="eval").body
        except SyntaxError as error:
            raise self.error(f"not an expression: {error.msg}", offset + max((error.offset or 1) - 1, 0)) from None
        except (ValueError, RecursionError, MemoryError):
            raise self.error("not an expression", offset) from None
        steps: list[Step] = []
        while not isinstance(node, ast.Name):
            at = offset + len(source.encode()[: node.col_offset].decode(errors="ignore"))
            match node:
                case ast.Attribute(value=inner, attr=name):
                    steps.append(("attr", self.name(name, at)))
                case ast.Subscript(value=inner, slice=index):
                    steps.append(("index", self.index(index, at)))
                case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in CALLS:
                    steps.append(("call", name))
                case ast.Call(func=ast.Name(id="attr"), args=[inner, ast.Constant(value=str(name))], keywords=[]):
                    steps.append(("attr", self.name(name, at)))
                case ast.Call():
                    raise self.error(
                        "only len(x), str(x), int(x), float(x), bool(x), attr(x, 'name') can be called", at
                    )
                case _:
                    raise self.error("only a name, [index], .attribute and len/str/int/float/bool(x) are allowed", at)
            node = inner
        steps.reverse()
        return ("return" if node.id == _RETURN else self.name(node.id, offset)), steps

    def operation(self, source: str, offset: int) -> Step:
        words = source.split()
        if words[0] == "attr" and len(words) == 2:
            return ("attr", self.name(words[1], offset))
        if len(words) == 1 and source in CALLS:
            return ("call", source)
        said = source.replace(_RETURN, "return")
        raise self.error(f"unknown operation {said!r}: there are str, len, int, float, bool and attr NAME", offset)

    def name(self, name: str, offset: int) -> str:
        # ASCII only: other letters may turn into underscores when Python normalises a name
        if name.isascii() and name.isidentifier() and "__" not in name and not keyword.iskeyword(name):
            return name
        raise self.error(f"{name.replace(_RETURN, 'return')!r} cannot be used as a name", offset)

    def index(self, node: ast.expr, offset: int) -> int | str:
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Constant(value=value) if type(value) is int and value <= _MAX_INDEX:
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if (
                type(value) is int and value <= _MAX_INDEX
            ):
                return -value
            case _:
                raise self.error("an index is a whole number or a text in quotes", offset)
