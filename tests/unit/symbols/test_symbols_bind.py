from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.symbols import Attribute, ExpressionError, bind, compile_expression


class Runner:
    device = "npu:0"
    dp_rank = 3

    def __init__(self) -> None:
        self.input_batch = SimpleNamespace(_req_ids=["a", "b"])

    def execute_model(self, input_ids, data=None, training: bool = True, *, flag="f") -> Any: ...

    @classmethod
    def build(cls, size) -> Any: ...

    @staticmethod
    def pure(size) -> Any: ...


def attribute(text: str, name: str = "x") -> Attribute:
    return Attribute(name, name, compile_expression(text))


class Bound:
    def __init__(self, *texts: str, function: Callable[..., Any] = Runner.execute_model) -> None:
        self.errors: list[tuple[str, Exception]] = []
        attributes = [attribute(text) for text in texts]
        self.values = bind(attributes, function, lambda one, error: self.errors.append((one.expr.text, error)))

    def __call__(self, *args: Any, result: Any = None, **kwargs: Any) -> Any:
        return self.values(args, kwargs, result)


RUNNER = Runner()
TOKENS = [SimpleNamespace(input_ids=[5, 6, 7]), 9]

EXAMPLES = [
    # the user guide's
    ("args[0] | attr device | str", "npu:0"),
    ("args[0] | attr dp_rank | str", "3"),
    ("args[0] | attr input_batch | attr _req_ids | len", 2),
    ("len(input_ids)", 3),
    ("len(return) | str", "2"),
    ("return[0] | attr input_ids | len", 3),
    ("return[1]", 9),
    ("return | attr missing", None),
    ("input_ids | attr missing | str", None),
    ("kwargs['flag']", "g"),
    ("training | bool", True),
    ("data | attr items | len | str", "2"),
    # the table of what the first implementation does and does not know
    ("this.device", "npu:0"),
    ("args[1][0]", 7),
    ("len(args[1])", 3),
    ("int(data['n'])", 4),
    ("len(str(args[1]))", 9),
    ("return | len", 2),
    ("return | str", "[namespace(input_ids=[5, 6, 7]), 9]"),
    ("input_ids | len", 3),
    ("data['n']", "4"),
    ("args[-1]", "[7, 8, 9]"),
    # the rest of the language
    ("self | attr dp_rank", 3),
    ("args | len", 2),
    ("kwargs | len", 2),
    ("kwargs | attr keys | str", "dict_keys(['data', 'flag'])"),
    ("data.values | len", 2),
    ("data['n'] | float", 4.0),
    ("data['n'] | int | bool", True),
    ("flag", "g"),
]


@pytest.mark.parametrize(("text", "expected"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_example(text: str, expected: Any) -> None:
    bound = Bound(text)
    (value,) = bound(RUNNER, [7, 8, 9], data={"n": "4", "k": 1}, flag="g", result=TOKENS)
    assert (value, type(value)) == (expected, type(expected))
    assert bound.errors == []


def test_values_come_in_the_order_given_and_each_stands_alone() -> None:
    bound = Bound("input_ids | len", "args[9]", "this.device", "return | len", "kwargs['absent']")
    assert bound(RUNNER, [1], result=[]) == (1, None, "npu:0", 0, None)
    assert bound(RUNNER, [1], result=[]) == (1, None, "npu:0", 0, None)
    assert [(text, type(error)) for text, error in bound.errors] == [
        ("args[9]", IndexError),
        ("kwargs['absent']", KeyError),
    ]


def test_no_attributes() -> None:
    assert Bound()(1, 2) == ()


@pytest.mark.parametrize(
    "text",
    ["return", "return | str", "return | bool", "len(return)", "return[0] | str", "return['k'].a", "str(return) | len"],
)
def test_none_leaves_the_attribute_out_in_silence(text: str) -> None:
    bound = Bound(text)
    assert bound(RUNNER, [1], result=None) == (None,)
    assert bound.errors == []


def test_none_in_the_middle() -> None:
    bound = Bound("return | attr a | attr b | len", "return.c[0]", "return['d'] | int")
    assert bound(RUNNER, [], result=SimpleNamespace(a=None, c=None)) == (None, None, None)
    assert [text for text, _ in bound.errors] == ["return['d'] | int"]  # a namespace has no items


def test_a_parameter_is_found_by_position_keyword_and_default() -> None:
    bound = Bound("input_ids", "training", "flag", "data")
    assert bound(RUNNER, "ids", {"a": 1}, False) == ("ids", False, "f", "{'a': 1}")
    assert bound(RUNNER, input_ids="ids", training=False, flag="g") == ("ids", False, "g", None)
    assert bound.errors == []


def test_kinds_of_parameters() -> None:
    def function(a, b=2, /, c=3, *rest, d, e=5, **more) -> None: ...

    bound = Bound("a", "b", "c", "rest | len", "d", "e", "more | str", "args | len", function=function)
    assert bound(1, d=4) == (1, 2, 3, 0, 4, 5, "{}", 1)
    # a and b can be told by position only, so these keywords are others
    assert bound(1, 20, 30, 40, 41, d=44, e=50, z=6, b=7) == (1, 20, 30, 2, 44, 50, "{'z': 6, 'b': 7}", 5)
    assert bound.errors == []


def test_a_parameter_may_be_called_like_a_function() -> None:
    def function(len, str="s") -> None: ...  # noqa: A002

    assert Bound("len(len)", "str", "len | str", function=function)([1, 2]) == (2, "s", "[1, 2]")


def test_the_signature_below_wraps_counts() -> None:
    @functools.wraps(Runner.execute_model)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert Bound("input_ids | len", "flag", function=wrapper)(RUNNER, [1, 2]) == (2, "f")


@pytest.mark.parametrize("function", [Runner.__dict__["build"], Runner.build, RUNNER.execute_model])
def test_args_have_self_or_cls_first(function: Any) -> None:
    name = "size" if "build" in str(function) else "input_ids"
    assert Bound(name, function=function)("self", "value") == ("value",)


@pytest.mark.parametrize("function", [Runner.__dict__["pure"], Runner.pure])
def test_static_method(function: Any) -> None:
    assert Bound("size", function=function)("value") == ("value",)


def test_unknown_parameter_is_said_once_at_once_and_the_others_work() -> None:
    bound = Bound("inputs | len", "this.device")
    ((text, error),) = bound.errors
    assert text == "inputs | len"
    assert type(error) is ExpressionError
    assert str(error) == (
        "Runner.execute_model has no parameter 'inputs'; its parameters: self, input_ids, data, training, flag "
        "('inputs | len')"
    )
    assert bound(RUNNER, [1]) == (None, "npu:0")
    assert len(bound.errors) == 1


def test_function_without_a_signature() -> None:
    bound = Bound("args[0]", "key", function=dict.update)
    assert bound("d") == ("d", None)
    assert [str(error) for _, error in bound.errors] == [
        "dict.update has no parameter 'key'; its parameters: unknown ('key')"
    ]


def test_attributes_are_read_at_each_call() -> None:
    bound = Bound("return | attr n")
    assert [bound(result=SimpleNamespace(n=n)) for n in (1, "two", None)] == [(1,), ("two",), (None,)]


def test_property_and_getattr_work() -> None:
    class Lazy:
        @property
        def ready(self) -> int:
            return 7

        def __getattr__(self, name: str) -> str:
            if name == "missing":
                raise AttributeError(name)
            return f"lazy {name}"

    bound = Bound("this.ready", "this | attr model", "this | attr missing")
    assert bound(Lazy()) == (7, "lazy model", None)
    assert bound.errors == []


def test_a_property_that_raises_is_an_error() -> None:
    class Broken:
        @property
        def ready(self) -> int:
            raise RuntimeError("not ready")

    bound = Bound("this.ready", "this | str | bool")
    assert bound(Broken()) == (None, True)
    assert [str(error) for _, error in bound.errors] == ["not ready"]


def test_items_is_called_for_a_dict_only() -> None:
    class Custom:
        items = (1, 2, 3)

        def keys(self) -> Any:
            raise AssertionError("must not be called")

    bound = Bound("this | attr items | len", "this | attr keys | bool", "return.pop | bool")
    assert bound(Custom(), result={}) == (3, True, True)
    assert bound.errors == []


def test_an_error_keeps_no_argument_alive() -> None:
    class Argument: ...

    bound = Bound("len(this)", "this | str")
    argument = Argument()
    alive = weakref.ref(argument)
    assert bound(argument)[0] is None
    assert len(bound.errors) == 1
    del argument
    gc.collect()
    assert alive() is None


def test_values_keep_no_argument_alive() -> None:
    class Argument(list): ...

    argument = Argument([1])
    alive = weakref.ref(argument)
    values = Bound("this", "args")(argument)
    assert values == ("[1]", "([1],)")
    del argument
    gc.collect()
    assert alive() is None
