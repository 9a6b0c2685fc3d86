from __future__ import annotations

import pytest

from ascend_opentelemetry.symbols import Expression, ExpressionError, compile_expression

ACCEPTED = [
    ("input_ids", "input_ids", ()),
    ("  training | bool ", "training", (("call", "bool"),)),
    ("args", "args", ()),
    ("args[0]", "args", (("index", 0),)),
    ("args[-1]", "args", (("index", -1),)),
    ("args[1]['remote_request_id'] | str", "args", (("index", 1), ("index", "remote_request_id"), ("call", "str"))),
    ('kwargs["k"]', "kwargs", (("index", "k"),)),
    ("kwargs['a | b return __c__']", "kwargs", (("index", "a | b return __c__"),)),
    ("kwargs['it\\'s'] | str", "kwargs", (("index", "it's"), ("call", "str"))),
    ("return", "return", ()),
    ("return['return']", "return", (("index", "return"),)),
    ("returned | len", "returned", (("call", "len"),)),
    ("len(return)|str", "return", (("call", "len"), ("call", "str"))),
    ("return[0] | attr input_ids | len", "return", (("index", 0), ("attr", "input_ids"), ("call", "len"))),
    ("this.device", "this", (("attr", "device"),)),
    ("self._a.b[0].c", "self", (("attr", "_a"), ("attr", "b"), ("index", 0), ("attr", "c"))),
    ("len(str(args[1]))", "args", (("index", 1), ("call", "str"), ("call", "len"))),
    ("((args))[0]", "args", (("index", 0),)),
    ("bool(int(float(x)))", "x", (("call", "float"), ("call", "int"), ("call", "bool"))),
    ("args[0]\n  | attr device\n  | str", "args", (("index", 0), ("attr", "device"), ("call", "str"))),
    ("len", "len", ()),
    ("len(len)", "len", (("call", "len"),)),
]


@pytest.mark.parametrize(("text", "root", "steps"), ACCEPTED, ids=[text for text, *_ in ACCEPTED])
def test_accepted(text: str, root: str, steps: tuple) -> None:
    assert compile_expression(text) == Expression(text, root, steps)


REFUSED = [
    # text, character, start of the message
    ("", 1, "empty"),
    ("   ", 1, "empty"),
    ("a || len", 4, "nothing between"),
    ("a |", 4, "nothing between"),
    ("| len", 1, "nothing between"),
    ("this.__class__", 6, "'__class__': names with two underscores"),
    ("this | attr __dict__", 13, "'__dict__': names with two underscores"),
    ("this | attr a__b", 13, "'a__b': names with two underscores"),
    ("__ret_", 1, "'__ret_': names with two underscores"),
    ("__import__('os')", 1, "'__import__': names with two underscores"),
    # full-width underscores, which Python turns into plain ones
    ("this._\uff3fclass_\uff3f", 1, "'__class__' cannot be used"),
    ("_\uff3fname_\uff3f", 1, "'__name__' cannot be used"),
    ("this | attr _\uff3fclass_\uff3f", 8, "'_\uff3fclass_\uff3f' cannot be used"),
    ("this | attr return", 8, "'return' cannot be used"),
    ("this | attr class", 8, "'class' cannot be used"),
    ("this.return", 1, "'return' cannot be used"),
    ("this | attr a.b", 8, "'a.b' cannot be used"),
    ("this | attr", 8, "unknown operation 'attr'"),
    ("this | attr a b", 8, "unknown operation 'attr a b'"),
    ("this | upper", 8, "unknown operation 'upper'"),
    ("this | return", 8, "unknown operation 'return'"),
    ("this | len()", 8, "unknown operation 'len()'"),
    ("open('x')", 1, "only len(x)"),
    ("eval(x)", 1, "only len(x)"),
    ("this.method()", 1, "only len(x)"),
    ("len(x, y)", 1, "only len(x)"),
    ("int(x, base=2)", 1, "only len(x)"),
    ("len()", 1, "only len(x)"),
    ("len(*x)", 5, "only a name"),
    ("len(open(x))", 5, "only len(x)"),
    ("x | len | y(z)", 11, "unknown operation"),
    ("[x for x in args[1]]", 1, "only a name"),
    ("(x for x in y)", 1, "only a name"),
    ("args[0] + 1", 1, "only a name"),
    ("len(a | b)", 5, "only a name"),
    ("-x", 1, "only a name"),
    ("not x", 1, "only a name"),
    ("x == 1", 1, "only a name"),
    ("x if y else z", 1, "only a name"),
    ("lambda: 0", 1, "only a name"),
    ("(x := y)", 2, "only a name"),
    ("f'{x}'", 1, "only a name"),
    ("f'{return}'", 2, "not an expression"),
    ("'text'", 1, "only a name"),
    ("1", 1, "only a name"),
    ("None", 1, "only a name"),
    ("[1, 2]", 1, "only a name"),
    ("await x", 1, "only a name"),
    ("args[i]", 1, "an index is"),
    ("args[0:2]", 1, "an index is"),
    ("args[True]", 1, "an index is"),
    ("args[1.5]", 1, "an index is"),
    ("args[None]", 1, "an index is"),
    ("args[b'x']", 1, "an index is"),
    ("args[--1]", 1, "an index is"),
    ("args[0, 1]", 1, "an index is"),
    ("args[2147483648]", 1, "an index is"),
    ("args[-2147483648]", 1, "an index is"),
    ("args[10 ** 10]", 1, "an index is"),
    ("x; y", 2, "not an expression"),
    ("x = 1", 1, "not an expression"),
    ("import os", 1, "not an expression"),
    ("len(x", 4, "not an expression"),
    ("x)", 2, "not an expression"),
    ("kwargs['k]", 8, "not an expression"),
    ("attr device", 6, "not an expression"),
    ("x\0y", 1, "not an expression"),
    ("(" * 21 + "x" + ")" * 21, 21, "more than 20 brackets"),
    ("x" + ".a" * 33, 1, "more than 32 steps"),
]


@pytest.mark.parametrize(("text", "position", "message"), REFUSED, ids=[repr(text)[:40] for text, *_ in REFUSED])
def test_refused_with_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert str(caught.value).startswith(message)
    # CPython's parser moved some of its own marks between versions
    assert caught.value.position == position or message == "not an expression"
    assert f"(character {caught.value.position} of " in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 5000, "not " * 2000 + "x", "-" * 1001])
def test_long_text_is_refused_unread(text: str) -> None:
    with pytest.raises(ExpressionError, match="longer than 1000 characters") as caught:
        compile_expression(text)
    assert len(str(caught.value)) < 100


def test_limits_are_inclusive() -> None:
    assert len(compile_expression("x" + ".a" * 32).steps) == 32
    assert compile_expression("args[2147483647]").steps == (("index", 2147483647),)
    assert compile_expression("(" * 20 + "x" + ")" * 20).root == "x"
    assert compile_expression("x" * 1000).root == "x" * 1000


@pytest.mark.parametrize("text", ["-" * 999 + "x", "not " * 249 + "x", "x" + "[0]" * 333])
def test_what_strains_the_parser_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)
