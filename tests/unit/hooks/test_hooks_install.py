from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Installer, Target, wrap

SOURCE = '''
import functools

def function(x):
    """Doc."""
    return ("function", x)

def add(x, y):
    return x + y

class Callable:
    def __call__(self, *args):
        return ("callable", args)

class Base:
    def method(self, x):
        return (type(self).__name__, x)

    @classmethod
    def made(cls, x=0):
        return (cls.__name__, x)

    @staticmethod
    def plain(x):
        return ("plain", x)

    async def later(self, x):
        return (type(self).__name__, x)

    value = 5
    partial = functools.partial(add, 1)
    length = len
    called = Callable()

    @property
    def prop(self):
        return 1

    class Inner:
        def method(self):
            return "inner"

class Derived(Base):
    pass

instance = Derived()
'''


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that can be imported."""
    name = f"target_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def installer() -> Iterator[Installer]:
    installer = Installer()
    yield installer
    installer.remove_all()


@pytest.fixture
def hook(handler: Any) -> Callable[[Any], Any]:
    return lambda function: wrap(function, handler, "target", "symbols.yaml:3")


def target(module: str, qualname: str) -> Target:
    return Target(module, qualname, "symbols.yaml:3")


def namespaces(module: Any) -> dict[str, dict[str, Any]]:
    return {owner.__name__: dict(vars(owner)) for owner in (module, module.Base, module.Derived, module.Base.Inner)} | {
        "instance": dict(vars(module.instance))
    }


CASES = [
    ("function", lambda m: m.function(1), ("function", 1)),
    ("Base.method", lambda m: m.Base().method(1), ("Base", 1)),
    ("Base.method", lambda m: m.Derived().method(1), ("Derived", 1)),
    ("Base.made", lambda m: m.Base.made(1), ("Base", 1)),
    ("Base.made", lambda m: m.Derived().made(1), ("Derived", 1)),
    ("Base.plain", lambda m: m.Base.plain(1), ("plain", 1)),
    ("Base.plain", lambda m: m.Base().plain(1), ("plain", 1)),
    ("Base.Inner.method", lambda m: m.Base.Inner().method(), "inner"),
    ("Derived.method", lambda m: m.Derived().method(1), ("Derived", 1)),
    ("Derived.made", lambda m: m.Derived.made(1), ("Derived", 1)),
    ("Derived.made", lambda m: m.Derived().made(1), ("Derived", 1)),
    ("Derived.made", lambda m: type("Third", (m.Derived,), {}).made(1), ("Third", 1)),
    ("Derived.plain", lambda m: m.Derived.plain(1), ("plain", 1)),
    ("Derived.plain", lambda m: m.Derived().plain(1), ("plain", 1)),
    ("Base.partial", lambda m: m.Base().partial(2), 3),
    ("Base.partial", lambda m: m.Base.partial(2), 3),
    ("Base.length", lambda m: m.Base().length("abc"), 3),
    ("Base.called", lambda m: m.Derived().called(1), ("callable", (1,))),
    ("instance.method", lambda m: m.instance.method(1), ("Derived", 1)),
]


@pytest.mark.parametrize(("qualname", "call", "expected"), CASES)
@pytest.mark.parametrize("imported", [True, False])
def test_a_hook_is_called_as_its_function_was_and_taken_out_again(
    name, installer, hook, handler, qualname, call, expected, imported
) -> None:
    module = importlib.import_module(name) if imported else None
    before = namespaces(module) if module else {}
    installer.add(target(name, qualname), hook)
    if module is None:
        assert name not in sys.modules
        module = importlib.import_module(name)
    assert call(module) == expected
    assert len(handler.entered) == 1
    if before:
        assert namespaces(module) != before
        installer.remove_all()
        for owner, attributes in namespaces(module).items():
            assert attributes.keys() == before[owner].keys()
            assert all(value is before[owner][key] for key, value in attributes.items())
        assert call(module) == expected
        assert len(handler.entered) == 1


def test_kinds_of_attributes_stay(name, installer, hook) -> None:
    module = importlib.import_module(name)
    for qualname in ("Base.made", "Base.plain", "Derived.made", "Derived.plain", "Base.later", "function"):
        installer.add(target(name, qualname), hook)
    assert type(vars(module.Base)["made"]) is type(vars(module.Derived)["made"]) is classmethod
    assert type(vars(module.Base)["plain"]) is type(vars(module.Derived)["plain"]) is staticmethod
    assert vars(module.Base)["later"].__code__.co_flags & 0x80  # a coroutine function
    assert module.function.__doc__ == "Doc."


def test_two_hooks_on_one_function_come_out_in_turn(name, installer, hook, handler) -> None:
    module = importlib.import_module(name)
    original = module.function
    installer.add(target(name, "function"), hook)
    installer.add(target(name, "function"), hook)
    assert module.function(1) == ("function", 1)
    assert len(handler.entered) == 2
    installer.remove_all()
    assert module.function is original


def test_what_others_replaced_is_left_alone(name, installer, hook, handler, caplog) -> None:
    module = importlib.import_module(name)
    installer.add(target(name, "function"), hook)
    ours = module.function

    @functools.wraps(ours)
    def theirs(*args: Any) -> Any:
        return ("theirs", ours(*args))

    module.function = theirs
    with caplog.at_level(logging.WARNING):
        installer.remove_all()
    assert module.function is theirs
    assert module.function(1) == ("theirs", ("function", 1))
    assert [record.getMessage() for record in caplog.records] == [
        f"{module}.function was replaced by others: left as it is"
    ]


def test_nothing_is_installed_after_the_removal(name, installer, hook, handler) -> None:
    installer.add(target(name, "function"), hook)
    installer.remove_all()
    module = importlib.import_module(name)
    assert module.function(1) == ("function", 1)
    assert handler.entered == []


@pytest.mark.parametrize(
    ("qualname", "message"),
    [
        ("missing", "does not exist in this version; it is left out"),
        ("Missing.method", "does not exist in this version; it is left out"),
        ("Base.missing", "does not exist in this version; it is left out"),
        ("Base.value", "is no function; it is left out"),
        ("Base.prop", "is no function; it is left out"),
        ("Base.Inner", "is no function; it is left out"),
        ("Base.value.method", "does not exist in this version; it is left out"),
    ],
)
def test_what_cannot_be_hooked_is_said_once(name, installer, hook, caplog, qualname, message) -> None:
    with caplog.at_level(logging.WARNING):
        installer.add(target(name, qualname), hook)
        assert caplog.records == []
        importlib.import_module(name)
    assert [record.getMessage() for record in caplog.records] == [f"symbols.yaml:3: {name}:{qualname} {message}"]


def test_who_adds_a_symbol_may_be_told_that_it_is_missing(name, installer, hook, caplog) -> None:
    told: list[tuple[Target, str]] = []
    missing = [target(name, "Base.methods"), target(name, "Base.Inner.unlike"), target(name, "Bass.method")]
    with caplog.at_level(logging.WARNING):
        for one in missing:
            installer.add(one, hook, missing=lambda *args: told.append(args))
        importlib.import_module(name)
    assert told == [(missing[0], f"{name}:Base.method"), (missing[1], ""), (missing[2], f"{name}:Base")]
    assert (caplog.records, installer.left_out) == ([], [])


def test_a_hook_that_cannot_be_made_does_not_break_the_import(name, installer, caplog) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no hook")

    with caplog.at_level(logging.WARNING):
        installer.add(target(name, "function"), broken)
        module = importlib.import_module(name)
    assert module.function(1) == ("function", 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"symbols.yaml:3: {name}:function cannot be hooked: no hook"
    ]


def test_nothing_is_imported_for_a_target(installer, hook) -> None:
    installer.add(target("module_that_does_not_exist", "function"), hook)
    assert "module_that_does_not_exist" not in sys.modules


def test_what_is_hooked_and_what_is_left_out_is_known(name, installer, hook) -> None:
    for qualname in ("function", "Base.method", "missing", "value", "Base.value"):
        installer.add(target(name, qualname), hook)
    installer.add(target(name, "missing_too"), hook, missing=lambda missing, nearest: None)
    installer.add(target(name, "Derived.method"), lambda function: 1 / 0)
    assert (installer.installed, installer.left_out) == ([], [])
    importlib.import_module(name)
    assert installer.installed == [f"{name}:function", f"{name}:Base.method"]
    left_out = ["missing", "value", "Base.value", "Derived.method"]
    assert installer.left_out == [f"{name}:{qualname}" for qualname in left_out]
    installer.remove_all()
    assert installer.installed == []
