from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ascend_opentelemetry.symbols import (
    Attribute,
    Problem,
    Symbol,
    Timer,
    _loader,
    compile_expression,
    load,
    resolve_handler,
)

UNFIT = "cannot be read: is no regular file of at most 256 KiB"

Load = Callable[[str], "tuple[list[Symbol], list[Problem]]"]


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def load_text(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    if not hasattr(yaml, request.param):
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(_loader, "_LOADER", getattr(yaml, request.param))
    path = tmp_path / "symbols.yaml"

    def load_it(text: str) -> tuple[list[Symbol], list[Problem]]:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return load(path)

    return load_it


def said(problems: list[Problem]) -> list[tuple[int, str, str]]:
    return [(problem.line, problem.field, problem.message) for problem in problems]


def test_defaults(load_text: Load, tmp_path: Path) -> None:
    symbols, problems = load_text("# mine\n\n- symbol: a.b:C.D.run\n")
    assert problems == []
    assert symbols == [
        Symbol("a.b", "C.D.run", None, "Default", "run", None, None, (), str(tmp_path / "symbols.yaml"), 3)
    ]
    assert (symbols[0].target, symbols[0].method, symbols[0].wildcard) == ("a.b:C.D.run", "run", False)


def test_every_field(load_text: Load, tmp_path: Path) -> None:
    symbols, problems = load_text(
        """
- symbol: "a.b:run"
  handler: my.mod:Class.func
  domain: D.E
  name: event one
  min_version: "0.9.1"
  max_version: '0.11.0'
  attributes:
  - name: n
    expr: len(return) | str
  - name: m
    otel_name: my.m
    expr: kwargs['k']
"""
    )
    assert problems == []
    attributes = (
        Attribute("n", "n", compile_expression("len(return) | str")),
        Attribute("m", "my.m", compile_expression("kwargs['k']")),
    )
    path = str(tmp_path / "symbols.yaml")
    assert symbols == [
        Symbol("a.b", "run", "my.mod:Class.func", "D.E", "event one", "0.9.1", "0.11.0", attributes, path, 2)
    ]


def test_empty_fields_have_their_defaults(load_text: Load) -> None:
    keys = "handler", "domain", "name", "min_version", "max_version", "attributes"
    symbols, problems = load_text("- symbol: a:f\n" + "".join(f"  {key}:\n" for key in keys))
    assert problems == []
    assert symbols == [Symbol("a", "f", file=symbols[0].file, line=1)]


def test_wildcard(load_text: Load) -> None:
    (any_class, one_class), problems = load_text("- symbol: m.models.*:*.embed\n- symbol: m.models.*:Base.embed\n")
    assert problems == []
    assert (any_class.module, any_class.qualname, any_class.name, any_class.wildcard) == (
        "m.models.*",
        "*.embed",
        "embed",
        True,
    )
    assert one_class.wildcard is True


def test_flow_style_aliases_and_byte_order_mark(load_text: Load) -> None:
    symbols, problems = load_text(
        '\ufeff[{symbol: "a:f", domain: &d X}, {symbol: "a:g", domain: *d,\n name: "\\u00e4"}]'
    )
    assert problems == []
    assert [(one.target, one.domain, one.name) for one in symbols] == [("a:f", "X", "f"), ("a:g", "X", "\u00e4")]


def test_an_empty_list_is_no_problem(load_text: Load) -> None:
    assert load_text("[]") == ([], [])


@pytest.mark.parametrize(
    ("text", "line"),
    [("", 0), ("# nothing\n", 0), ("symbol: a:f\n", 1), ("\n\ntext\n", 3), ("---\nsymbols:\n- symbol: a:f", 2)],
)
def test_no_list(load_text: Load, text: str, line: int) -> None:
    symbols, problems = load_text(text)
    assert symbols == []
    assert said(problems) == [(line, "", "the file must be a list of items that begin with `- symbol:`")]


def test_items_that_are_no_symbols(load_text: Load) -> None:
    symbols, problems = load_text("- a:f\n- symbol:a:f\n- [x]\n-\n- domain: D\n- symbol:\n- symbol: a:f\n")
    assert [one.line for one in symbols] == [7]
    mapping = "an item must be a mapping that begins with `symbol:`"
    missing = "missing; the item is left out"
    assert said(problems) == [
        (1, "", mapping),
        (2, "", mapping),
        (3, "", mapping),
        (4, "", mapping),
        (5, "symbol", missing),
        (6, "symbol", missing),
    ]


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ("a.b.f", "0 colons"),
        ("a:b:f", "2 colons"),
        ("a::f", "2 colons"),
        (":f", "a part is no Python name"),
        ("'a:'", "a part is no Python name"),
        ("a..b:f", "a part is no Python name"),
        ("a:f()", "a part is no Python name"),
        ("a b:f", "a part is no Python name"),
        ("a:1f", "a part is no Python name"),
        ("a:f.<locals>.g", "a part is no Python name"),
        ("a:*.f", "a part is no Python name"),
        ("a.*:f", "a part is no Python name"),
        ("a.*:*.b.f", "a part is no Python name"),
        ("a.*.b:*.f", "a part is no Python name"),
    ],
)
def test_bad_symbol(load_text: Load, symbol: str, why: str) -> None:
    symbols, problems = load_text(f"- symbol: a:f\n- domain: D\n  symbol: {symbol}\n- symbol: a:g\n")
    assert [one.target for one in symbols] == ["a:f", "a:g"]
    form = "package.module:Class.method, or package.*:*.method for all modules below a package"
    text = symbol.strip("'")
    assert said(problems) == [(3, "symbol", f"{text!r} is not {form} ({why}); the item is left out")]


@pytest.mark.parametrize(
    ("value", "got", "hint"),
    [
        ("5", "a number", "; write '5'"),
        ("1.5", "a number", "; write '1.5'"),
        ("on", "a truth value", "; write 'on'"),
        ("[a]", "a list", ""),
        ("{a: b}", "a mapping", ""),
        ("''", "empty", ""),
        ("2024-01-01", "timestamp", "; write '2024-01-01'"),
        ("!!python/name:os.system ''", "python/name:os.system", ""),
    ],
)
def test_wrong_type(load_text: Load, value: str, got: str, hint: str) -> None:
    # the tag of a name that YAML would import has colons of its own
    got = got.rpartition(":")[2]
    symbols, problems = load_text(f"- symbol: a:f\n  domain: {value}\n  name: n\n")
    assert [(one.domain, one.name) for one in symbols] == [("Default", "n")]
    assert said(problems) == [(2, "domain", f"must be text, is {got}{hint}")]


def test_wrong_type_of_the_symbol(load_text: Load) -> None:
    symbols, problems = load_text("- symbol: [a:f]\n- symbol: ''\n")
    assert symbols == []
    assert said(problems) == [
        (1, "symbol", "must be text, is a list"),
        (2, "symbol", "must be text, is empty"),
    ]


def test_unknown_and_repeated_keys(load_text: Load) -> None:
    symbols, problems = load_text(
        "- symbol: a:f\n  domian: D\n  domain: E\n  [x]: y\n  domain: F\n  attributes:\n  - name: n\n    expr: args\n    unit: s\n"
    )
    assert [(one.domain, len(one.attributes)) for one in symbols] == [("F", 1)]
    known = "unknown; there are symbol, handler, domain, name, min_version, max_version, attributes"
    assert said(problems) == [
        (2, "domian", known),
        (4, "a key that is no text", known),
        (5, "domain", "is in line 3 already; the last one counts"),
        (9, "attributes.unit", "unknown; there are name, expr, otel_name"),
    ]


def test_numbers_as_versions_are_read_as_written(load_text: Load) -> None:
    symbols, problems = load_text(
        "- symbol: a:f\n  min_version: 0.10\n  max_version: 1\n- symbol: a:g\n  min_version: [1]\n"
    )
    assert [(one.min_version, one.max_version) for one in symbols] == [("0.10", "1"), (None, None)]
    assert said(problems) == [
        (2, "min_version", "0.10 is a number, read as the version; write '0.10'"),
        (3, "max_version", "1 is a number, read as the version; write '1'"),
        (5, "min_version", "must be text, is a list"),
    ]


def test_handlers(load_text: Load) -> None:
    builtin = "ascend_opentelemetry.vllm:"
    given = ["timer", "bogus", "pkg.mod.func", "a:b:c", "a:", builtin + "schedule", builtin + "nothing", "p.q:f", "7"]
    symbols, problems = load_text("".join(f"- symbol: a:f{n}\n  handler: {one!r}\n" for n, one in enumerate(given)))
    assert [one.handler for one in symbols] == [None] * 5 + [builtin + "schedule", None, "p.q:f", None]
    neither = "is neither timer nor package.module:function; a timer is used"
    known = (
        "add_request, async_add_request, data_parallel, execute_model, get_computed_blocks, kv_free, model_runner, "
        "process_outputs, record_function, schedule"
    )
    assert said(problems) == [
        (4, "handler", f"'bogus' {neither}"),
        (6, "handler", f"'pkg.mod.func' {neither}"),
        (8, "handler", f"'a:b:c' {neither}"),
        (10, "handler", f"'a:' {neither}"),
        (14, "handler", f"'{builtin}nothing' is no built-in handler: there are {known}; a timer is used"),
        (18, "handler", f"'7' {neither}"),
    ]


def test_attribute_problems(load_text: Load) -> None:
    symbols, problems = load_text(
        """
- symbol: a:f
  attributes:
  - name: good
    expr: return | len
  - name: bad
    expr: >-
      return | upper
  - expr: args
  - name: nothing
  - text
  - name: 5
    expr: args
  - name: list
    expr: [args]
  - name: good
    expr: args
  - name: last
    otel_name: {}
    expr: args
- symbol: a:g
  attributes: {name: n, expr: args}
"""
    )
    assert [[one.name for one in symbol.attributes] for symbol in symbols] == [["good", "last"], []]
    assert symbols[0].attributes[1].otel_name == "last"
    operations = "there are str, len, int, float, bool and attr NAME"
    assert said(problems) == [
        (
            7,
            "attributes.expr",
            f"unknown operation 'upper': {operations} (character 10 of 'return | upper'); the attribute 'bad' is left out",
        ),
        (9, "attributes.name", "missing; the attribute is left out"),
        (10, "attributes.expr", "missing; the attribute is left out"),
        (11, "attributes", "an attribute must be a mapping with `name` and `expr`; left out"),
        (12, "attributes.name", "must be text, is a number; write '5'"),
        (15, "attributes.expr", "must be text, is a list"),
        (16, "attributes.name", "'good' is there already; left out"),
        (19, "attributes.otel_name", "must be text, is a mapping"),
        (22, "attributes", "must be a list of `- name:` with `expr:`; left out"),
    ]


BROKEN = [
    # text, targets that are left, line and column of each problem
    ("- symbol: a:f\n- symbol: 'a:g\n- symbol: a:h\n", ["a:f", "a:h"], [(2, 11)]),
    ("- symbol: a:f\n  name: b: c\n- symbol: a:g\n", ["a:g"], [(2, 10)]),
    ("- symbol: a:f\n- symbol: a:g\n   domain: D\n- symbol: a:h\n", ["a:f", "a:h"], [(3, 10)]),
    ("- symbol: a:f\n- symbol: a:g\n  domain\n  name: n\n- symbol: a:h\n", ["a:f", "a:h"], [(3, 3)]),
    ("- symbol: a:f\n  domain: [x\n- symbol: a:g\n", ["a:g"], [(3, 1)]),
    ('- symbol: a:f\n  domain: @x\n- symbol: a:g\n  name: "x\n- symbol: a:h\n', ["a:h"], [(2, 11), (4, 9)]),
    ("- symbol: a:f\n  domain: *nowhere\n", [], [(2, 11)]),
    ("- symbol: a:f\nsymbol: a:g\n", [], [(2, 1)]),
    (
        "  - symbol: a:f\n    name: 'x\n  - symbol: a:g\n    attributes:\n    - name: n\n      expr: args\n",
        ["a:g"],
        [(2, 11)],
    ),
    ("{symbol: a:f\n", [], [(2, 1)]),
    ("- symbol: a:f\n--- \n- symbol: a:g\n", ["a:g"], [(2, 1)]),
]


@pytest.mark.parametrize(("text", "left", "places"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_broken_yaml(load_text: Load, text: str, left: list[str], places: list[tuple[int, int]]) -> None:
    symbols, problems = load_text(text)
    assert [one.target for one in symbols] == left
    lines = text.split("\n")
    for one in symbols:
        assert lines[one.line - 1].strip() == f"- symbol: {one.target}"
    assert [problem.line for problem in problems] == [line for line, _ in places]
    for problem, (_, column) in zip(problems, places, strict=True):
        assert problem.field == ""
        assert problem.message.startswith("broken YAML: ")
        assert problem.message.endswith(f" (column {column})")


def test_items_that_are_whole_in_a_file_that_is_not(load_text: Load) -> None:
    symbols, problems = load_text("\ufeff- symbol: a:f\n...\n- symbol: a:g\n")
    assert [(one.target, one.line) for one in symbols] == [("a:f", 1), ("a:g", 3)]
    (problem,) = problems
    assert problem.line == 3
    assert problem.message.startswith("broken YAML: ")


def test_tabs(load_text: Load) -> None:
    symbols, problems = load_text("- symbol: a:f\n- symbol: a:g\n\tname: n\n- symbol: a:h\n")
    assert [one.target for one in symbols] == ["a:f", "a:h"]
    (problem,) = problems
    assert problem.line in (2, 3)  # libyaml marks the value before the tab
    assert problem.message.startswith("broken YAML: ")


def test_characters_that_yaml_refuses(load_text: Load) -> None:
    symbols, problems = load_text("- symbol: a:f\n- symbol: a:g\n  name: '\x01'\n- symbol: a:h\n")
    assert [one.target for one in symbols] == ["a:f", "a:h"]
    ((line, field, message),) = said(problems)
    assert (line, field) == (0, "")
    assert message.startswith("broken YAML: ")


def test_deep_nesting_is_a_problem(load_text: Load) -> None:
    symbols, problems = load_text("- symbol: a:f\n- symbol: a:g\n  name: " + "[" * 1200 + "\n")
    assert [one.target for one in symbols] == ["a:f"]
    assert len(problems) == 1


def test_second_timer_on_one_symbol(load_text: Load) -> None:
    symbols, problems = load_text(
        """
- symbol: a:f
  name: one
- symbol: a:f
  handler: my.mod:func
- symbol: a:f
  handler: timer
  name: two
- symbol: a:f
  handler: my.mod:func
- symbol: b:f
"""
    )
    assert [(one.target, one.line) for one in symbols] == [("a:f", 2), ("a:f", 4), ("b:f", 11)]
    assert said(problems) == [
        (6, "symbol", "a:f has this timer from line 2 already; left out"),
        (9, "symbol", "a:f has this handler from line 4 already; left out"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        ("max_version: '0.10.2'", "min_version: '0.11.0'", 2),
        ("min_version: '0.11.0'", "max_version: '0.10.2'", 2),
        ("max_version: '0.11.0'", "min_version: '0.11.0'", 1),
        ("max_version: '0.10.2'", "max_version: '0.9'", 1),
        ("max_version: 'what'", "min_version: '0.11.0'", 1),
        ("name: n", "min_version: '0.11.0'", 1),
    ],
)
def test_timers_for_different_versions(load_text: Load, first: str, second: str, count: int) -> None:
    symbols, problems = load_text(f"- symbol: a:f\n  {first}\n- symbol: a:f\n  {second}\n")
    assert (len(symbols), len(problems)) == (count, 2 - count)


def test_file_that_everyone_may_write(tmp_path: Path) -> None:
    path = tmp_path / "symbols.yaml"
    path.write_text(
        "- symbol: a:f\n  domain: D\n  handler: my.mod:func\n"
        "- symbol: a:g\n  handler: ascend_opentelemetry.vllm:schedule\n"
        "- symbol: a:h\n  handler: ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:schedule\n"
    )
    path.chmod(0o646)
    symbols, problems = load(path)
    assert [one.handler is None for one in symbols] == [True, False, False]
    assert resolve_handler(symbols[0]) == Timer("D", "f")
    assert said(problems) == [
        (3, "handler", "my.mod:func is not loaded: every user may write this file (chmod o-w); a timer is used")
    ]
    path.chmod(0o664)
    assert load(path)[1] == []


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert load(missing) == ([], [Problem(str(missing), 0, "", "cannot be read: No such file or directory")])
    assert load(os.fspath(tmp_path)) == ([], [Problem(str(tmp_path), 0, "", UNFIT)])

    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"- symbol: a:f\n  name: \xe4\n")
    assert load(latin) == ([], [Problem(str(latin), 2, "", "not UTF-8 text; save the file as UTF-8")])


def test_a_pipe_is_not_waited_for_and_a_huge_file_not_read(tmp_path: Path) -> None:
    pipe, huge = tmp_path / "pipe.yaml", tmp_path / "huge.yaml"
    os.mkfifo(pipe)
    huge.write_text("- symbol: a:b\n".ljust(256 * 1024))
    assert len(load(huge)[0]) == 1
    huge.write_text("- symbol: a:b\n".ljust(256 * 1024 + 1))
    for path in (pipe, huge):
        assert load(path) == ([], [Problem(str(path), 0, "", UNFIT)])


def test_text_of_a_problem() -> None:
    assert str(Problem("s.yaml", 3, "name", "is bad")) == "s.yaml:3: name: is bad"
    assert str(Problem("s.yaml", 0, "", "cannot be read")) == "s.yaml: cannot be read"
