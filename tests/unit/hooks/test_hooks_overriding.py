"""A symbol of a base class stands for the methods that override it too, and each call is recorded once."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import _symbol_hooks
from ascend_opentelemetry._symbol_hooks import SymbolHooks
from ascend_opentelemetry.hooks import Installer, Target, wrap

MODULES = {
    "__init__": "",
    "base": """
class Base:
    def run(self, x): raise NotImplementedError
    def tell(self, x): return [x]
    async def later(self, x): return [x]
    def each(self, x): yield x
    async def each_later(self, x): yield x
    @classmethod
    def make(cls, x): return [x]
class Near(Base):
    def tell(self, x): return ["near", *super().tell(x)]
class Data:
    tell = 5
""",
    "heirs": """
from family.base import Base
class Heir(Base):
    def run(self, x): return x + 1
    def tell(self, x): return ["heir", *super().tell(x)]
    async def later(self, x): return ["heir", *await super().later(x)]
    def each(self, x):
        yield "heir"
        yield from super().each(x)
    async def each_later(self, x):
        yield "heir"
        async for one in super().each_later(x): yield one
    @classmethod
    def make(cls, x): return ["heir", *super().make(x)]
class Grandchild(Heir):
    def tell(self, x): return ["grandchild", *super().tell(x)]
class Silent(Heir): pass
class Odd(Base):
    tell = 5
""",
}


class Family:
    """The package, and the symbols file that names its classes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "symbols.yaml"
        self.installer = Installer()
        self.hooks = SymbolHooks(self.installer, self.path)

    def load(self, text: str) -> None:
        self.path.write_text(text)
        self.hooks.load()

    def change(self, text: str) -> None:
        self.path.write_text(text)
        self.hooks.update()

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"family.{name}")


@pytest.fixture
def family(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    (tmp_path / "family").mkdir()
    for name, text in MODULES.items():
        (tmp_path / "family" / f"{name}.py").write_text(text)
    (tmp_path / "noting.py").write_text(
        "seen = []\ndef note(original, this, x):\n    seen.append(type(this).__name__)\n    return original(this, x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    family = Family(tmp_path)
    yield family
    _symbol_hooks.uninstall(family.installer)
    for name in [name for name in sys.modules if name.split(".")[0] in ("family", "noting")]:
        del sys.modules[name]


@pytest.fixture
def taken(records: Callable[[], list[Any]]) -> Callable[[], list[str]]:
    """Names of the records made so far, each with the values of its attributes."""
    return lambda: [" ".join([one[0].name, *map(str, one[5])]) for one in records()]


def symbol(method: str, cls: str = "Base", more: str = "") -> str:
    return f"- symbol: family.base:{cls}.{method}\n{more}"


async def collect(values: Any) -> list[Any]:
    return [value async for value in values]


CALLS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "tell": (lambda one: one.tell(1), ["heir", 1]),
    "later": (lambda one: asyncio.run(one.later(1)), ["heir", 1]),
    "each": (lambda one: list(one.each(1)), ["heir", 1]),
    "each_later": (lambda one: asyncio.run(collect(one.each_later(1))), ["heir", 1]),
    "make": (lambda one: one.make(1), ["heir", 1]),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("early", [False, True])
def test_an_overriding_method_is_recorded_once_whatever_it_calls_of_its_base(family, taken, method, early) -> None:
    assert not early or family.heirs
    family.load(symbol(method, more="  attributes: [{name: x, expr: x}]\n"))
    call, value = CALLS[method]
    assert call(family.heirs.Heir()) == value
    assert taken() == [f"{method} 1"]
    assert call(family.heirs.Silent()) == value
    assert taken() == [f"{method} 1"]
    assert call(family.base.Base()) == value[1:]
    assert taken() == [f"{method} 1"]


def test_a_method_that_only_subclasses_implement_is_recorded(family, taken) -> None:
    family.load(symbol("run"))
    assert family.heirs.Heir().run(1) == 2
    assert taken() == ["run"]
    assert family.installer.installed == ["family.base:Base.run", "family.heirs:Heir.run"]


def test_each_class_of_a_chain_is_recorded_once(family, taken) -> None:
    family.load(symbol("tell"))
    assert family.heirs.Grandchild().tell(1) == ["grandchild", "heir", 1]
    assert family.base.Near().tell(1) == ["near", 1]
    assert family.heirs.Heir().tell(1) == ["heir", 1]
    assert taken() == ["tell"] * 3


def test_a_subclass_that_the_file_names_has_its_own_item_and_its_base_another(family, taken) -> None:
    family.load(symbol("tell") + symbol("tell", "Near", "  name: near\n"))
    assert family.base.Near().tell(1) == ["near", 1]
    assert taken() == ["tell", "near"]


def test_a_change_of_the_file_reaches_subclasses(family, taken) -> None:
    heir = family.heirs.Heir()
    family.load("[]\n")
    family.change(symbol("tell"))
    assert heir.tell(1) == ["heir", 1]
    assert taken() == ["tell"]
    family.change(symbol("tell", more="  name: told\n"))
    assert heir.tell(1) == ["heir", 1]
    assert taken() == ["told"]
    family.change("[]\n")
    assert heir.tell(1) == ["heir", 1]
    assert taken() == []


def test_a_subclass_of_another_package_is_found_when_the_window_opens(family, taken) -> None:
    family.load(symbol("tell"))
    (family.path.parent / "noting.py").write_text(
        "from family.base import Base\nclass Own(Base):\n    def tell(self, x): return ['own', x]\n"
    )
    own = importlib.import_module("noting").Own()
    assert (own.tell(1), taken()) == (["own", 1], [])
    family.hooks.update()
    family.hooks.update()
    assert (own.tell(1), taken()) == (["own", 1], ["tell"])


ALONE = """
class Base:
    def tell(self, x): return [x]
class Child(Base):
    def tell(self, x): return ["child", x]
def make():
    class Made(Base):
        def tell(self, x): return ["made", x]
    return Made
Made = make()
"""


def test_subclasses_in_the_module_of_the_base_are_found_at_its_import(family, taken, caplog) -> None:
    (family.path.parent / "noting.py").write_text(ALONE)
    family.load("- symbol: noting:Base.tell\n")
    alone = importlib.import_module("noting")
    assert (alone.Child().tell(1), alone.Made().tell(1)) == (["child", 1], ["made", 1])
    assert (taken(), caplog.messages) == (["tell"] * 2, [])


def test_subclasses_in_the_package_itself_are_found_at_its_import(family, taken) -> None:
    (family.path.parent / "family" / "__init__.py").write_text(
        "from family.base import Base\nclass Top(Base):\n    def tell(self, x): return ['top', x]\n"
    )
    family.load(symbol("tell"))
    assert importlib.import_module("family").Top().tell(1) == ["top", 1]
    assert taken() == ["tell"]


class _NoHash(type):
    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class NoHash(metaclass=_NoHash):
    pass


class Lazy:
    """Of the kind that loads what it stands for when it is asked for its class."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("not now")


@pytest.mark.parametrize("make", ["NoHash", "Lazy"])
def test_an_object_that_cannot_be_looked_at_is_called_as_ever(family, taken, make) -> None:
    family.load(symbol("tell", more="  attributes: [{name: x, expr: x}]\n"))
    assert family.heirs.Heir().tell(1) == ["heir", 1]
    assert family.base.Base.tell(globals()[make](), 2) == [2]
    assert taken() == ["tell 1", "tell 2"]


def test_a_change_of_the_file_counts_beside_classes_that_cannot_be_looked_at(family, taken, monkeypatch) -> None:
    family.load(symbol("tell"))
    bare = type(sys)("bare")
    del bare.__spec__
    monkeypatch.setitem(sys.modules, "bare", bare)
    bare.Own = type("Own", (family.base.Base,), {"tell": lambda self, x: ["own", x], "__module__": "bare"})
    family.change(symbol("tell", more="  name: told\n"))
    assert bare.Own().tell(1) == ["own", 1]
    assert taken() == ["told"]


def test_a_subclass_that_two_threads_look_at_is_hooked_once(family, handler) -> None:
    looking = threading.Barrier(2, timeout=10)
    on = False

    def overriding(target: Target) -> Any:
        if not on:
            return None
        looking.wait()
        return lambda function: wrap(function, handler, str(target), "here")

    assert family.heirs.Heir
    family.installer.add(Target("family.base", "Base.tell", "here"), lambda function: function, overriding=overriding)
    on = True
    threads = [threading.Thread(target=family.installer.look_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(family.installer.installed) == [
        "family.base:Base.tell", "family.base:Near.tell", "family.heirs:Grandchild.tell", "family.heirs:Heir.tell",
    ]  # fmt: skip


def test_a_handler_of_the_user_is_called_once_for_an_overriding_method(family) -> None:
    family.load(symbol("tell", more="  handler: noting:note\n"))
    assert family.heirs.Grandchild().tell(1) == ["grandchild", "heir", 1]
    assert family.base.Base().tell(1) == [1]
    assert sys.modules["noting"].seen == ["Grandchild", "Base"]


def test_what_is_no_method_in_a_subclass_is_left_alone(family, caplog) -> None:
    family.load(symbol("tell"))
    assert (family.heirs.Odd.tell, family.base.Data.tell) == (5, 5)
    assert caplog.messages == []


def test_what_cannot_be_hooked_is_said_once(family, caplog) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no hook")

    family.installer.add(
        Target("family.base", "Base.tell", "here"), lambda function: function, overriding=lambda _: broken
    )
    assert family.heirs.Heir().tell(1) == ["heir", 1]
    for _ in range(3):
        family.installer.look_again()
    assert caplog.messages == [
        f"here: family.{name}.tell cannot be hooked: no hook"
        for name in ("base:Near", "heirs:Heir", "heirs:Grandchild")
    ]


def test_classes_that_are_at_the_top_of_no_module_are_left_alone(family, taken, monkeypatch, caplog) -> None:
    base = family.base.Base
    own = type("Own", (base,), {"tell": lambda self, x: ["own", x], "__module__": "no.module"})
    other = type("Other", (base,), {"tell": lambda self, x: ["other", x], "__module__": "odd_module"})
    monkeypatch.setitem(sys.modules, "odd_module", object())
    family.load(symbol("tell"))
    family.hooks.update()
    assert (own().tell(1), other().tell(1), base().tell(1)) == (["own", 1], ["other", 1], [1])
    assert (taken(), caplog.messages) == (["tell"], [])


def test_classes_are_as_they_were_after_the_removal(family, taken) -> None:
    before = {cls: dict(vars(cls)) for cls in (family.base.Base, family.heirs.Heir, family.heirs.Silent)}
    family.load(symbol("tell"))
    assert family.heirs.Heir.tell is not before[family.heirs.Heir]["tell"]
    _symbol_hooks.uninstall(family.installer)
    assert {cls: dict(vars(cls)) for cls in before} == before
    assert family.heirs.Heir().tell(1) == ["heir", 1]
    assert taken() == []


def test_a_hook_that_comes_later_lies_inside_of_the_one_that_is_there(family, recorder, handler) -> None:
    seen: list[str] = []
    handler.enter = lambda args, kwargs: seen.append("outer in")
    handler.exit = lambda *_: seen.append("outer out")
    target = Target("family.base", "Base.tell", "here")
    function = family.base.Base.tell
    family.installer.add(target, lambda original: wrap(original, handler, str(target), "here"))
    base = family.base.Base()
    kept = base.tell
    hook = family.base.Base.tell
    (family.path.parent / "noting.py").write_text(
        "def note(original, this, x):\n    this.seen.append('inner')\n    return original(this, x)\n"
    )
    base.seen = seen
    family.change(symbol("tell", more="  handler: noting:note\n"))
    assert family.base.Base.tell is hook
    assert (base.tell(1), kept(2)) == ([1], [2])
    assert seen == ["outer in", "inner", "outer out"] * 2
    _symbol_hooks.uninstall(family.installer)
    assert family.base.Base.tell is function
    assert kept(3) == [3]
    assert seen[6:] == ["outer in", "outer out"]
