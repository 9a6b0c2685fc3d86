from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Installer, Target, Wildcard, wrap

PACKAGE = "models_under_test"
FILES = {
    "__init__.py": "class InPackage:\n    def embed(self, x): return ('package', x)\n",
    "one.py": """
class Base:
    def embed(self, x): return ("base", x)

class Derived(Base):
    def other(self): return "other"

class Static:
    @staticmethod
    def embed(x): return ("static", x)

class Made:
    @classmethod
    def embed(cls, x): return (cls.__name__, x)

class Value:
    embed = 5

Alias = Base

def embed(x): return ("function", x)
""",
    "two.py": "from models_under_test.one import Base\nclass Two(Base):\n    def embed(self, x): return ('two', x)\n",
    "deep/__init__.py": "",
    "deep/three.py": "class Three:\n    def embed(self, x): return ('three', x)\n    def other(self): return 'other'\n",
    "broken.py": "class Four:\n    def embed(self, x): return x\nraise ImportError('not here')\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / PACKAGE / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / PACKAGE / name).write_text(text)
    (tmp_path / f"{PACKAGE}_of_others.py").write_text("class Others:\n    def embed(self, x): return ('others', x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / PACKAGE
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


@pytest.fixture
def installer(folder: Path) -> Iterator[Installer]:
    installer = Installer()
    yield installer
    installer.remove_all()


@pytest.fixture
def hook(handler: Any) -> Callable[[Target], Callable[[Any], Any]]:
    return lambda target: lambda function: wrap(function, handler, str(target), target.where)


def load(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


@pytest.mark.parametrize("imported", [True, False])
def test_every_class_that_defines_the_method_is_hooked_once(installer, hook, handler, imported) -> None:
    if imported:
        load("two"), load("deep.three")
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    if not imported:
        assert PACKAGE not in sys.modules
    two, three, one = load("two"), load("deep.three"), load("one")
    assert sorted(installer.installed) == [
        f"{PACKAGE}.deep.three:Three.embed",
        f"{PACKAGE}.one:Base.embed",
        f"{PACKAGE}.one:Made.embed",
        f"{PACKAGE}.one:Static.embed",
        f"{PACKAGE}.two:Two.embed",
    ]
    assert installer.left_out == []
    assert two.Two().embed(1) == ("two", 1)
    assert three.Three().embed(x=2) == ("three", 2)
    assert one.Derived().embed(3) == ("base", 3)
    assert one.Static.embed(4) == ("static", 4)
    assert one.Made.embed(5) == ("Made", 5)
    assert len(handler.entered) == len(handler.ended) == 5
    assert one.embed(6) == ("function", 6)
    assert sys.modules[PACKAGE].InPackage().embed(7) == ("package", 7)
    assert importlib.import_module(f"{PACKAGE}_of_others").Others().embed(8) == ("others", 8)
    assert len(handler.ended) == 5


def test_a_class_may_be_named(installer, hook) -> None:
    installer.add_all(Wildcard(PACKAGE, "Base", "embed", "symbols.yaml:3"), hook)
    load("two"), load("deep.three")
    assert installer.installed == [f"{PACKAGE}.one:Base.embed"]


def test_odd_objects_in_a_module_are_passed_over(installer, hook, folder, caplog) -> None:
    (folder / "odd.py").write_text(
        "class Odd:\n    @property\n    def __class__(self): raise RuntimeError('looked at')\n"
        "    def embed(self, x): return x\nodd = Odd()\n"
    )
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    load("odd")
    assert installer.installed == [f"{PACKAGE}.odd:Odd.embed"]
    assert caplog.records == []


def test_a_module_that_cannot_be_looked_through_is_said_and_imported(installer, folder, caplog) -> None:
    def broken(_: Target) -> Any:
        raise RuntimeError("no hook")

    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), broken)
    assert load("one").Base().embed(1) == ("base", 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"symbols.yaml:3: {PACKAGE}.*:*.embed finds nothing in {PACKAGE}.one: no hook"
    ]


def test_two_wildcards_of_one_package_find_their_own(installer, hook) -> None:
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    load("one")
    installer.add_all(Wildcard(PACKAGE, "*", "other", "symbols.yaml:4"), hook)
    load("deep.three")
    assert sorted(installer.installed) == [
        f"{PACKAGE}.deep.three:Three.embed",
        f"{PACKAGE}.deep.three:Three.other",
        f"{PACKAGE}.one:Base.embed",
        f"{PACKAGE}.one:Derived.other",
        f"{PACKAGE}.one:Made.embed",
        f"{PACKAGE}.one:Static.embed",
    ]


def test_a_wildcard_below_a_package_below(installer, hook) -> None:
    installer.add_all(Wildcard(f"{PACKAGE}.deep", "*", "embed", "symbols.yaml:3"), hook)
    load("one"), load("deep.three")
    assert installer.installed == [f"{PACKAGE}.deep.three:Three.embed"]


def test_a_module_whose_import_fails_fails_as_it_did_and_is_hooked_when_it_comes(installer, hook, folder) -> None:
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    with pytest.raises(ImportError, match="not here"):
        load("broken")
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{PACKAGE}.missing'"):
        load("missing")
    assert installer.installed == []
    (folder / "broken.py").write_text("class Four:\n    def embed(self, x): return ['now', x]\n")
    importlib.invalidate_caches()
    assert load("broken").Four().embed(1) == ["now", 1]
    assert installer.installed == [f"{PACKAGE}.broken:Four.embed"]


def test_nothing_stays_after_the_removal(installer, hook, handler) -> None:
    before = list(sys.meta_path)
    one = load("one")
    original = one.Base.embed
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    assert one.Base.embed is not original
    installer.remove_all()
    assert one.Base.embed is original
    assert [finder for finder in sys.meta_path if finder not in before and "wrapt" not in type(finder).__module__] == []
    load("two").Two().embed(1)
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    one.Base().embed(1)
    assert handler.entered == []


def test_imports_elsewhere_ask_for_no_hook_and_those_below_for_one(installer, hook, monkeypatch) -> None:
    installer.add_all(Wildcard(PACKAGE, "*", "embed", "symbols.yaml:3"), hook)
    asked: list[str] = []
    monkeypatch.setattr("wrapt.register_post_import_hook", lambda _, name: asked.append(name))
    importlib.import_module(f"{PACKAGE}_of_others")
    load("one")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            load("missing")
    assert asked == [f"{PACKAGE}.one", f"{PACKAGE}.missing"]
