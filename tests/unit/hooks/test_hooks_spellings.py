"""A function that versions of a package have under different names."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Installer, Spellings, Target, wrap
from ascend_opentelemetry.hooks._near import near_module
from ascend_opentelemetry.hooks._spellings import has_module

LATER = "look for a newer release of this package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A package with ``new`` and ``old``, of which ``old`` alone has what is looked for."""
    name = f"package_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    (folder / "old").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "new.py").write_text("class Engine:\n    def steps(self):\n        return 1\n")
    (folder / "old" / "__init__.py").touch()
    (folder / "old" / "engine.py").write_text("class Engine:\n    def step(self):\n        return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("_ASCEND_OTEL_MISSING", raising=False)
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def installer() -> Iterator[Installer]:
    installer = Installer()
    yield installer
    installer.remove_all()


@pytest.fixture
def add(package: str, installer: Installer, handler: Any, caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Adds spellings, imports modules of the package, and gives what was said."""

    def add(*targets: str, load: tuple[str, ...] = (), expected: bool = True) -> list[str]:
        makers = {
            Target(f"{package}.{module}", qualname, "built-in symbol"): lambda function: wrap(function, handler, "", "")
            for module, _, qualname in (target.partition(":") for target in targets)
        }
        with caplog.at_level(logging.WARNING):
            Spellings(installer, makers, lambda: expected).add()
            for module in ("", *load):
                importlib.import_module(f"{package}.{module}".removesuffix("."))
        return [record.getMessage() for record in caplog.records]

    return add


def test_one_name_is_enough(package, installer, add) -> None:
    assert (
        add("newest.engine:Engine.step", "new:Engine.step", "old.engine:Engine.step", load=("new", "old.engine")) == []
    )
    assert (installer.installed, installer.left_out) == ([f"{package}.old.engine:Engine.step"], [])


def test_a_name_whose_module_is_not_imported_yet_may_come(installer, add) -> None:
    assert add("new:Engine.step", "old.engine:Engine.step", load=("new",)) == []
    assert installer.left_out == []


def test_a_module_that_is_nowhere_is_said_with_the_module_that_has_the_class(package, installer, add) -> None:
    (message,) = add("old.engines:Engine.step")
    assert message == (
        f"built-in symbol: this version has no {package}.old.engines:Engine.step: what it records is left out "
        f"(the nearest name is {package}.old.engine:Engine.step); {LATER}"
    )
    assert installer.left_out == [f"{package}.old.engines:Engine.step"]


def test_a_method_that_is_under_none_of_its_names_is_said_with_the_nearest(package, add) -> None:
    (message,) = add("new:Engine.step", "newest:Engine.step", load=("new",))
    assert message == (
        f"built-in symbol: this version has no {package}.new:Engine.step, nor an older name of it: what it records is "
        f"left out (the nearest name is {package}.new:Engine.steps); {LATER}"
    )


def test_the_source_of_a_package_is_read_once_and_what_cannot_be_read_is_left(package, tmp_path, monkeypatch) -> None:
    (tmp_path / package / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / package / "folder.py").mkdir()
    read: list[str] = []
    really = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path.name)
        return really(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert near_module(f"{package}.old.engines", "Engine.step") == f"{package}.old.engine:Engine.step"
    assert near_module(f"{package}.newer", "Engine.step") == f"{package}.new:Engine.step"
    assert near_module(f"{package}.newer", "Unheard.of") == ""
    assert sorted(read) == ["__init__.py", "__init__.py", "engine.py", "folder.py", "gone.py", "new.py"]


def test_nothing_is_like_it(package, add) -> None:
    assert add("newest:Unheard.of") == [
        f"built-in symbol: this version has no {package}.newest:Unheard.of: what it records is left out; {LATER}"
    ]


def test_a_version_that_is_known_to_lack_it_is_no_news(installer, add) -> None:
    assert add("newest:Engine.step", "new:Engine.step", load=("new",), expected=False) == []
    assert installer.left_out == []


def test_a_service_says_it_once(package, installer, add, caplog) -> None:
    assert len(add("newest:Engine.step")) == 1
    assert os.environ["_ASCEND_OTEL_MISSING"] == f"{package}.newest:Engine.step"
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        del sys.modules[module]  # as in a child, which inherits the variable
    caplog.clear()
    assert add("newest:Engine.step") == []
    assert installer.left_out == [f"{package}.newest:Engine.step"] * 2


def test_hooks_that_are_removed_miss_nothing(installer, add) -> None:
    installer.remove_all()
    assert add("newest:Engine.step", "new:Engine.step", load=("new",)) == []


def test_no_module_is_imported_to_look_for_one(package) -> None:
    program = f"""
import sys
from ascend_opentelemetry.hooks._spellings import has_module
before = set(sys.modules)
assert has_module("{package}.old.engine") and has_module("{package}.old") and has_module("{package}")
assert not has_module("{package}.old.engine.more") and not has_module("{package}.none.engine")
assert not has_module("package_that_is_not_there.engine")
assert [name for name in set(sys.modules) - before if name.startswith("{package}")] == []
"""
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)
    assert has_module(f"{package}.new")
