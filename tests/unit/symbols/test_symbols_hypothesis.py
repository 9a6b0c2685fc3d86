"""Nobody's text makes the symbols file's readers raise, run code, or take long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ascend_opentelemetry.symbols import (
    Attribute,
    ExpressionError,
    Problem,
    Symbol,
    _loader,
    applies,
    bind,
    compile_expression,
    load,
    resolve_handler,
)
from tests.support.property_cases import CASES, MINIMUM, cases

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
example = hypothesis.example


class _Audit:
    """What the interpreter is asked to do in this thread, while it is watched."""

    QUIET = ("compile",)  # parsing

    def __init__(self) -> None:
        self._local = threading.local()
        sys.addaudithook(self._event)

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        seen = getattr(self._local, "seen", None)
        if seen is not None and event not in self.QUIET:
            seen.append((event, str(args[0])[:200] if args else ""))

    @contextmanager
    def watch(self) -> Iterator[list[tuple[str, str]]]:
        seen = self._local.seen = []
        try:
            yield seen
        finally:
            self._local.seen = None


@pytest.fixture(scope="module")
def audit() -> _Audit:
    compile_expression("len(this) | str")  # whatever is imported lazily
    return _Audit()


# words of the language and of what it must refuse
WORDS = [
    *("args", "kwargs", "this", "self", "return", "x", "data", "len", "str", "int", "float", "bool", "attr", "items"),
    *("keys", "__class__", "__import__", "eval", "exec", "open", "lambda", "if", "else", "for", "in", "await", "yield"),
    *("[", "]", "(", ")", "{", "}", "|", "||", ".", ",", ":", ":=", "=", "*", "**", "-", "+", "~", ";", "\\", "#", "@"),
    *("'", '"', "'k'", '"k"', "f'{x}'", "b'k'", "'''", "0", "1", "-1", "9" * 30, "1e9", "0x1", " ", "\n", "\t", "\0"),
    *("\uff3f\uff3fclass\uff3f\uff3f", "\u212a", "\ud800", "é", "\u2028", "\xa0", "\f"),
]
SPACES = st.sampled_from(["", " "])
TOKENS = st.lists(st.sampled_from(WORDS), max_size=40)


@st.composite
def expressions(draw: Any) -> str:
    """An expression of the language."""
    name = st.sampled_from(["a", "_b", "items", "keys", "values", "shape", "class_"])
    text = draw(st.sampled_from(["args", "kwargs", "this", "self", "return", "x", "more", "rest"]))
    for _ in range(draw(st.integers(0, 4))):
        step = draw(st.integers(0, 4))
        if step == 0:
            text = f"{draw(st.sampled_from(['len', 'str', 'int', 'float', 'bool']))}({text})"
        elif step == 1:
            text += f"[{draw(st.integers(-(2**31) + 1, 2**31 - 1))}]"
        elif step == 2:
            text += f"[{draw(st.text(st.characters(codec='ascii'), max_size=5))!r}]"
        elif step == 3:
            text += f".{draw(name)}"
        else:
            text = f"attr({text}, '{draw(name)}')"
    for _ in range(draw(st.integers(0, 4))):
        text += f" | {draw(st.sampled_from(['len', 'str', 'int', 'float', 'bool']) | name.map('attr {}'.format))}"
    return text


def _insert(text: str, at: int, word: str) -> str:
    return text[:at] + word + text[at:]


NEARLY = st.builds(_insert, expressions(), st.integers(0, 40), st.sampled_from(WORDS))
LOOSE = NEARLY | st.builds(str.join, SPACES, TOKENS) | st.text(max_size=200)


def target(this, x, /, data=None, *rest, flag=0, **more) -> None: ...


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=20,
)


class Honeypot:
    """Has every attribute and element, and notes what an expression must not do with it."""

    def __init__(self) -> None:
        self.touched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            self.touched.append(name)
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __len__(self) -> int:
        return 3

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "touched":
            self.touched.append(f"set {name}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self.touched.append(f"del {name}")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.touched.append(f"set [{key!r}]")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.touched.append("called")
        return self


@cases("any text as an expression", text=LOOSE)
@example(text="(" * 999 + "x")
@example(text="x" + "[0]" * 332)
@example(text="'" + "\\" * 998)
def test_any_text_is_an_expression_or_an_expression_error(audit: _Audit, text: str) -> None:
    position, names = 0, []
    with audit.watch() as seen:
        try:
            expression = compile_expression(text)
            names = [expression.root, *(str(operand) for kind, operand in expression.steps if kind == "attr")]
        except ExpressionError as error:
            position = error.position
    assert 0 <= position <= len(text) + 1
    assert [name for name in names if "__" in name or not name.isidentifier()] == []
    assert seen == []


@cases(
    "values of an expression",
    text=expressions(),
    values=st.lists(VALUES, min_size=2, max_size=5),
    more=VALUES,
    result=VALUES,
)
def test_an_expression_gives_a_plain_value_or_one_error(text: str, values: list[Any], more: Any, result: Any) -> None:
    errors: list[Exception] = []
    read = bind([Attribute("x", "x", compile_expression(text))], target, lambda _, error: errors.append(error))
    kwargs = {"more": more, "flag": values[0]}
    (value,) = read(tuple(values), kwargs, result)
    assert type(value) in (str, int, float, bool, type(None))
    assert repr(read(tuple(values), kwargs, result)) == repr((value,))
    assert (value is None) or not errors
    assert len(errors) <= 1


@cases("what an expression touches", text=expressions())
def test_an_expression_reads_and_does_nothing_else(text: str) -> None:
    pot = Honeypot()
    read = bind([Attribute("x", "x", compile_expression(text))], target, lambda *_: None)
    read((pot, pot), {}, pot)
    # what Python itself asks of a class when a number or a text is made of its object
    assert set(pot.touched) <= {"__str__", "__repr__", "__int__", "__float__"}


NAMES = st.sampled_from(["handler_that_must_not_run", "os", "vllm.v1.x", "a", "*", "", "1a", "é", "timer"])
KEYS = st.sampled_from(["symbol", "handler", "domain", "name", "min_version", "max_version", "attributes", "<<", "x"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.dates()
    | st.binary(max_size=5)
    | st.builds("{}:{}".format, NAMES, NAMES)
    | st.builds("{}.*:*.{}".format, NAMES, NAMES)
    | expressions()
)
NODES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | SCALARS, inner, max_size=6),
    max_leaves=15,
)
TARGETS = st.sampled_from(["a:f", "a.b:C.f", "a.*:*.f"]) | st.builds("{}:{}".format, NAMES, NAMES)
ATTRIBUTES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["n", "m"]) | SCALARS, "expr": expressions() | LOOSE}, optional={"otel_name": SCALARS}
    ),
    max_size=3,
)
ITEMS = st.lists(
    st.dictionaries(KEYS, NODES, max_size=4)
    | st.fixed_dictionaries(
        {"symbol": TARGETS},
        optional={
            "handler": st.builds("{}:{}".format, NAMES, NAMES),
            "attributes": ATTRIBUTES | NODES,
            "max_version": SCALARS,
        },
    ),
    max_size=5,
)
LINES = st.lists(
    st.sampled_from(
        [
            *(
                "- symbol: a:f",
                "  symbol: a:g",
                "  handler: handler_that_must_not_run:f",
                "  name: n",
                "- ",
                "  - x",
                "{",
            ),
            *(
                "  attributes:",
                "  - name: n",
                "    expr: this | len",
                "[",
                "]",
                "}",
                "&a [*a, *a]",
                "*b",
                "!!python/name:os",
            ),
            *(
                "!!python/object/apply:os.system ['true']",
                "? k",
                ": v",
                "|",
                ">",
                "'",
                '"',
                "%YAML 9",
                "---",
                "...",
                "\t",
                "#",
            ),
        ]
    )
    | st.text(st.characters(codec="utf-8"), max_size=20),
    max_size=12,
).map("\n".join)


@pytest.fixture(scope="module", params=["CSafeLoader", "SafeLoader"])
def symbols_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file beside a module, on the path, whose import would be noticed."""
    if not hasattr(yaml, request.param):
        pytest.skip("PyYAML was built without libyaml")
    folder = tmp_path_factory.mktemp("symbols")
    (folder / "handler_that_must_not_run.py").write_text("")
    path = folder / "symbols.yaml"
    path.write_text("- symbol: a:f\n  max_version: '1'\n  attributes: [{name: n, expr: x}]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(_loader, "_LOADER", getattr(yaml, request.param))
        read(path)  # whatever is imported lazily
        yield path


def read(path: Path) -> tuple[list[Symbol], list[Problem]]:
    symbols, problems = load(path)
    for symbol in symbols:
        applies(symbol, lambda _: "0.11.0")
        resolve_handler(symbol)
    return symbols, problems


def check(audit: _Audit, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with audit.watch() as seen:
        symbols, problems = read(path)
    assert [event for event in seen if event != ("open", str(path))] == []
    assert "handler_that_must_not_run" not in sys.modules
    lines = data.count(b"\n") + data.count(b"\r") + 1 + sum(data.count(mark.encode()) for mark in "\x85\u2028\u2029")
    for problem in problems:
        assert problem.file == str(path)
        assert 0 <= problem.line <= lines + 1
        assert problem.message
        assert len(str(problem)) < 4000
    for symbol in symbols:
        assert 1 <= symbol.line <= lines
        assert symbol.module
        assert symbol.qualname
        assert symbol.name
        assert symbol.domain


@cases("any value as YAML", items=ITEMS)
def test_any_yaml_value_loads(audit: _Audit, symbols_file: Path, items: Any) -> None:
    check(audit, symbols_file, yaml.safe_dump(items, allow_unicode=True, sort_keys=False).encode("utf-8", "replace"))


@cases("any bytes as YAML", data=st.binary(max_size=200) | LINES.map(str.encode))
@example(data=b"- symbol: a:f\n  name: " + b"[" * 300)
@example(data=b"- symbol: a:f\n  name: " + b"[" * 300 + b"]" * 300)
@example(data=b"- symbol: a:f\n  name: !!python/object/apply:os.system ['true']\n")
@example(data=b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n")
@example(data=b"\n".join(b"- symbol: a:f\n  name: 'x" for _ in range(100)))
def test_any_bytes_load(audit: _Audit, symbols_file: Path, data: bytes) -> None:
    check(audit, symbols_file, data)


def test_the_readers_get_two_thousand_cases() -> None:
    assert sum(CASES.values()) >= MINIMUM == 2000
