"""``from module import function`` before the hook, and objects that keep a function from their construction on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Installer, Target, wrap

FILES = {
    "served/__init__.py": "",
    "served/tools.py": "def work(x):\n    return ('work', x)\n\nalias = work\n",
    "served/engine.py": """
from served.tools import work
from served.tools import work as renamed

class Engine:
    def __init__(self): self.step_fn = self.step
    def step(self): return "stepped"
    def run(self): return self.step_fn()

def call(x): return work(x), renamed(x)
""",
    "served/copied.py": "from copy import deepcopy\n",
    "served/copied_too.py": "from copy import deepcopy\n",
    "served_by_others.py": "from served.tools import work\n",
}


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    installer = Installer()
    yield installer
    installer.remove_all()
    for name in [name for name in sys.modules if name.startswith("served")]:
        del sys.modules[name]


@pytest.fixture
def hook(handler: Any) -> Callable[[Any], Any]:
    return lambda function: wrap(function, handler, "target", "symbols.yaml:3")


def target(module: str, qualname: str) -> Target:
    return Target(module, qualname, "symbols.yaml:3")


def load(name: str) -> Any:
    return importlib.import_module(name)


def test_names_taken_before_the_hook_call_it_and_come_back(installer, hook, handler) -> None:
    engine, tools, others = load("served.engine"), load("served.tools"), load("served_by_others")
    original = tools.work
    installer.add(target("served.tools", "work"), hook)
    assert engine.call(1) == (("work", 1), ("work", 1))
    assert tools.alias(2) == ("work", 2)
    assert len(handler.entered) == 3
    assert others.work is original  # of another top-level package
    installer.remove_all()
    assert engine.work is engine.renamed is tools.work is tools.alias is original


def test_names_taken_after_the_hook_come_back_too(installer, hook, handler) -> None:
    installer.add(target("served.tools", "work"), hook)
    engine = load("served.engine")
    engine.call(1)
    assert len(handler.entered) == 2
    installer.remove_all()
    engine.call(1)
    assert len(handler.entered) == 2


def test_two_hooks_on_one_function_come_out_of_all_names(installer, hook, handler) -> None:
    engine, tools = load("served.engine"), load("served.tools")
    original = tools.work
    installer.add(target("served.tools", "work"), hook)
    installer.add(target("served.engine", "work"), hook)
    engine.call(1)
    assert len(handler.entered) == 3  # renamed has the hook of served.tools only
    installer.remove_all()
    assert engine.work is engine.renamed is tools.work is original


def test_a_function_of_elsewhere_is_hooked_only_where_it_was_asked_for(installer, hook) -> None:
    copied, too = load("served.copied"), load("served.copied_too")
    original = too.deepcopy
    installer.add(target("served.copied", "deepcopy"), hook)
    assert copied.deepcopy is not original
    assert too.deepcopy is original


def test_a_module_that_may_not_be_imported_is_passed_over(installer, hook, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "served.none", None)
    load("served.tools")
    installer.add(target("served.tools", "work"), hook)
    assert installer.installed == ["served.tools:work"]


def test_a_function_kept_at_construction_is_hooked_when_the_hook_came_first(installer, hook, handler) -> None:
    engine = load("served.engine")
    before = engine.Engine()
    installer.add(target("served.engine", "Engine.step"), hook)
    assert engine.Engine().run() == "stepped"
    assert len(handler.entered) == 1
    assert before.run() == "stepped"
    assert len(handler.entered) == 1
