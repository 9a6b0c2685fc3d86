from __future__ import annotations

import collections
import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from ascend_opentelemetry.symbols import Attribute, bind, compile_expression


class Size(tuple):
    __module__ = "torch"


class Tensor:
    """Fails on whatever would wait for a device."""

    __module__ = "torch"
    dtype, device, shape = "torch.float16", "npu:0", Size((2, 3))

    def __len__(self) -> int:
        return self.shape[0]

    def _wait(self, *_: Any) -> Any:
        raise AssertionError("waits for the device")

    __repr__ = __str__ = __int__ = __float__ = __bool__ = __index__ = __iter__ = item = tolist = _wait


class Parameter(Tensor):
    __module__ = "torch.nn.parameter"


class generic:  # noqa: N801
    __module__ = "numpy"


class Int64(generic):
    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value

    def __str__(self) -> str:
        return str(self.value)


class ndarray:  # noqa: N801
    __module__ = "numpy"
    dtype, shape = "int32", (100000,)


class Point(NamedTuple):
    x: int
    y: Any


@dataclass
class Output:
    ids: list[int]
    hidden: Any = None
    secret: int = field(default=1, repr=False)


class Struct:
    __struct_fields__ = ("a", "b")
    a = 1

    def __repr__(self) -> str:
        raise AssertionError("unbounded")


class Status(enum.IntEnum):
    RUNNING = 2


class Reason(str, enum.Enum):
    STOP = "stop"

    def __str__(self) -> str:
        return "Reason.STOP"


class Plain(enum.Enum):
    A = 1


def evaluate(text: str, value: Any) -> tuple[Any, list[str]]:
    errors: list[str] = []
    attribute = Attribute("x", "x", compile_expression(text))
    values = bind([attribute], lambda: None, lambda _, error: errors.append(f"{type(error).__name__}: {error}"))
    return values((value,), {}, None)[0], errors


TENSOR = "Tensor(dtype=torch.float16, shape=(2, 3), device=npu:0)"
SAFE = [
    ("text", "text"),
    (True, True),
    (0, 0),
    (1.5, 1.5),
    (Status.RUNNING, 2),
    (Reason.STOP, "stop"),
    (Plain.A, "Plain.A"),
    (type("F", (float,), {})(2.5), 2.5),
    (Int64(5), 5),
    (Int64(True), True),
    (Int64(1j), "1j"),
    (Tensor(), TENSOR),
    (Parameter(), TENSOR),
    ([Tensor(), {"k": Tensor()}], f"[{TENSOR}, {{'k': {TENSOR}}}]"),
    (ndarray(), "ndarray(dtype=int32, shape=(100000,))"),
    (Size((2, 3)), "torch.Size([2, 3])"),
    ([], "[]"),
    ((1,), "(1,)"),
    ((), "()"),
    ({"a": 1, 2: [None]}, "{'a': 1, 2: [None]}"),
    (set(), "set()"),
    ({1}, "{1}"),
    (frozenset({"a"}), "frozenset({'a'})"),
    (frozenset(), "frozenset()"),
    (collections.deque([1, 2]), "deque([1, 2])"),
    (collections.OrderedDict(a=1), "{'a': 1}"),
    ({"a": 1}.items(), "dict_items([('a', 1)])"),
    (b"ab", "b'ab'"),
    (Point(1, [2]), "Point(x=1, y=[2])"),
    (Output([1, 2], Tensor()), f"Output(ids=[1, 2], hidden={TENSOR})"),
    ([Struct()], "[Struct(a=1, b=None)]"),
    (Output, f"<class '{__name__}.Output'>"),
    (1j, "1j"),
]


@pytest.mark.parametrize(("value", "expected"), SAFE, ids=[str(number) for number in range(len(SAFE))])
def test_final_value(value: Any, expected: Any) -> None:
    got, errors = evaluate("this", value)
    assert (got, type(got), errors) == (expected, type(expected), [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (True, "True"),
        (1.0, "1.0"),
        (10**40, "1" + "0" * 40),
        (10**2000, "1" + "0" * 1020 + "..."),
        (Status.RUNNING, str(Status.RUNNING)),
        (Reason.STOP, "Reason.STOP"),
        (Int64(5), "5"),
        (Tensor(), TENSOR),
        ([1, "a"], "[1, 'a']"),
        (Output([]), "Output(ids=[], hidden=None)"),
    ],
)
def test_str(value: Any, expected: str) -> None:
    got, errors = evaluate("this | str", value)
    assert (got, type(got), errors) == (expected, str, [])


@pytest.mark.parametrize("call", ["int", "float", "bool"])
def test_numbers_of_a_tensor_are_refused(call: str) -> None:
    message = f"TypeError: {call}() of a tensor would wait for the device"
    assert evaluate(f"this | {call}", Tensor()) == (None, [message])
    assert evaluate(f"{call}(this)", Parameter()) == (None, [message])


def test_a_method_shows_its_name_and_not_its_object() -> None:
    assert evaluate("this._wait", Tensor()) == ("<bound method Tensor._wait>", [])
    assert evaluate("this | str", [Tensor()._wait]) == ("[<bound method Tensor._wait>]", [])


def test_shape_and_length_of_a_tensor() -> None:
    assert evaluate("this | len", Tensor()) == (2, [])
    assert evaluate("this | attr shape | str", Tensor()) == ("torch.Size([2, 3])", [])
    assert evaluate("this.device", Tensor()) == ("npu:0", [])


def test_numbers_of_other_things() -> None:
    assert evaluate("int(this)", "12") == (12, [])
    assert evaluate("bool(this)", []) == (False, [])
    value, (error,) = evaluate("float(this)", "x")
    assert value is None
    assert error == "ValueError: could not convert string to float: 'x'"


def test_a_container_shows_32_elements() -> None:
    exact = ", ".join(map(str, range(32)))
    assert evaluate("this", list(range(32))) == (f"[{exact}]", [])
    assert evaluate("this", list(range(33))) == (f"[{exact}, ...]", [])
    assert evaluate("this", tuple(range(10**6))) == (f"({exact}, ...)", [])
    pairs = ", ".join(f"{n}: {n}" for n in range(32))
    assert evaluate("this | str", {n: n for n in range(99)}) == (f"{{{pairs}, ...}}", [])


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 100] * 32,
        ["x" * 10**6],
        [[["y" * 50] * 32] * 32] * 32,
        {"k" * 2000: 1},
        type("Long", (), {"__repr__": lambda _: "z" * 5000})(),
        Output([10**40] * 1000),
        b"\0" * 10**6,
    ],
)
def test_text_has_1024_characters_at_most(value: Any) -> None:
    got, errors = evaluate("this | str", value)
    assert errors == []
    assert len(got) == 1024
    assert got.endswith("...")


def test_a_text_is_not_cut() -> None:
    assert evaluate("this | str", "x" * 5000) == ("x" * 5000, [])


def test_a_container_inside_itself_ends() -> None:
    value: list[Any] = [1]
    value.append(value)
    got, errors = evaluate("this", value)
    assert errors == []
    assert got == "[1, " * 8 + "..." + "]" * 8


def test_wide_and_deep_containers_take_bounded_time() -> None:
    value: Any = 1
    for _ in range(50):
        value = [value] * 50
    got, errors = evaluate("this", value)
    assert (len(got) <= 1024, errors) == (True, [])


@pytest.mark.parametrize(
    ("container", "change", "expected"),
    [
        ([], list.append, "[me, 5]"),
        (set(), set.add, "{me}"),
        ({}, lambda mapping, item: mapping.setdefault(item, 5), "{me: 5}"),
        (collections.deque(), collections.deque.append, "deque([me, 5])"),
    ],
)
def test_a_container_that_changes_meanwhile(container: Any, change: Any, expected: str) -> None:
    class Changes:
        def __repr__(self) -> str:
            change(container, object())
            return "me"

    change(container, Changes())
    if not isinstance(container, (set, dict)):
        change(container, 5)
    assert evaluate("this | str", container) == (expected, [])
    assert len(container) > 1
