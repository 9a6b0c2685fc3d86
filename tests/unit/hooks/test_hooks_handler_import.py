"""When a user's handler is imported, what it finds, and what becomes of one that cannot be."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from ascend_opentelemetry import _symbol_hooks, profiler
from ascend_opentelemetry._symbol_hooks import SymbolHooks
from ascend_opentelemetry.hooks import Installer, _handler_import

PROFILED = """
from ms_service_profiler import Profiler, Level
from ms_service_profiler.profiler import Profiler as Same
import helped

def timed(original_func, this, *args, **kwargs):
    with Profiler(Level.INFO).domain("Mine").res(this.name).span_start("mine") as span:
        result = original_func(this, *args, **kwargs)
        span.attr("result", result)
    return result
"""


class Files:
    """Modules and a symbols file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installer = Installer()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(dedent(text))

    def load(self, text: str) -> SymbolHooks:
        self.write("symbols.yaml", text)
        hooks = SymbolHooks(self.installer, self.folder / "symbols.yaml")
        hooks.load()
        return hooks

    @property
    def symbols(self) -> str:
        return str(self.folder / "symbols.yaml")


@pytest.fixture
def files(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = Files(tmp_path)
    files.write(
        "targeted.py",
        """
        class Engine:
            name = "engine"
            def step(self, x): return x + 1
            async def later(self, x): return x + 1
            def again(self, x): return x + 2
        """,
    )
    files.write("helped.py", "from ms_service_profiler import Level\n")
    yield files
    _symbol_hooks.uninstall(files.installer)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("targeted", "handling", "helped", "ms_service_profiler"):
            del sys.modules[name]


def engine() -> Any:
    return importlib.import_module("targeted").Engine()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


STEP = "- symbol: targeted:Engine.step\n  handler: handling:timed\n"


def test_a_handler_is_imported_after_its_target_and_once(files) -> None:
    files.write(
        "handling.py", "import sys\nseen = 'targeted' in sys.modules\ndef timed(f, *args): return f(*args) * 2\n"
    )
    files.load(STEP + "- symbol: targeted:Engine.again\n  handler: handling:timed\n")
    assert "handling" not in sys.modules
    one = engine()
    assert sys.modules["handling"].seen
    assert (one.step(1), one.again(1)) == (4, 6)


def test_a_handler_written_for_ms_service_profiler_records_where_that_is_absent(files, records, caplog) -> None:
    files.write("handling.py", PROFILED)
    files.load(STEP)
    assert engine().step(1) == 2
    ((record_type, _, _, _, ids, values, _),) = records()
    assert (record_type.domain, values) == ("Mine", ("mine", {"rid": "engine", "result": 2, "type": 2}))
    assert ids is not None
    handling = sys.modules["handling"]
    assert (handling.Profiler, handling.Same, handling.Level) == (
        profiler.Profiler, profiler.Profiler, profiler.Level,
    )  # fmt: skip
    assert messages(caplog) == []


def test_only_the_handlers_find_ours_under_that_name(files) -> None:
    files.write("handling.py", PROFILED)
    files.load(STEP)
    engine()
    assert not [name for name in sys.modules if name.partition(".")[0] == "ms_service_profiler"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'ms_service_profiler'"):
        importlib.import_module("ms_service_profiler")


def test_where_ms_service_profiler_is_installed_a_handler_gets_it(files) -> None:
    (files.folder / "ms_service_profiler").mkdir()
    files.write("ms_service_profiler/__init__.py", "from ms_service_profiler.profiler import Profiler, Level\n")
    files.write("ms_service_profiler/profiler.py", "class Profiler: ...\nclass Level: ...\n")
    files.write("handling.py", "from ms_service_profiler import Profiler\ndef timed(f, *args): return f(*args)\n")
    files.load(STEP)
    assert engine().step(1) == 2
    real = sys.modules["ms_service_profiler.profiler"].Profiler
    assert sys.modules["handling"].Profiler is real is not profiler.Profiler


def test_what_ours_does_not_have_is_missing_as_if_the_package_were(files, records, caplog) -> None:
    files.write("handling.py", "from ms_service_profiler.mstx import service_profiler\ndef timed(f, *args): ...\n")
    files.load(STEP)
    assert engine().step(1) == 2
    assert [record[0].name for record in records()] == ["step"]
    assert messages(caplog) == [
        (
            f"{files.symbols}:1: handler handling:timed cannot be used (ModuleNotFoundError: "
            "No module named 'ms_service_profiler.mstx'); targeted:Engine.step is timed instead"
        )
    ]


def test_a_handler_that_fits_one_function_and_not_the_other(files, records, caplog) -> None:
    files.write("handling.py", "async def timed(f, *args): return await f(*args) * 2\n")
    files.load(STEP + "- symbol: targeted:Engine.later\n  handler: handling:timed\n")
    assert engine().step(1) == 2
    assert [record[0].name for record in records()] == ["step"]
    assert messages(caplog) == [
        (
            f"{files.symbols}:1: handler handling:timed cannot be used "
            "(TypeError: it is async and the function is not); targeted:Engine.step is timed instead"
        )
    ]


def test_a_broken_module_of_a_wildcard_is_imported_and_told_of_once(files, records, caplog) -> None:
    files.write(
        "handling.py",
        "import builtins\nbuiltins.imports_of_handling = builtins.__dict__.get('imports_of_handling', 0) + 1\n1 / 0\n",
    )
    (files.folder / "below").mkdir()
    files.write("below/__init__.py", "")
    files.write("below/models.py", "class A:\n    def f(self): ...\nclass B:\n    def f(self): ...\n")
    files.load("- symbol: below.*:*.f\n  handler: handling:timed\n")
    module: ModuleType = importlib.import_module("below.models")
    try:
        module.A().f()
        module.B().f()
        import builtins

        assert vars(builtins).pop("imports_of_handling") == 1
    finally:
        for name in ("below.models", "below"):
            sys.modules.pop(name, None)
    assert [record[0].name for record in records()] == ["f", "f"]
    assert messages(caplog) == [
        (
            f"{files.symbols}:1: handler handling:timed cannot be used (ZeroDivisionError: division by zero); "
            "below.models:A.f is timed instead"
        )
    ]


def test_an_import_that_takes_long_is_told(files, monkeypatch, caplog) -> None:
    monkeypatch.setattr(_handler_import, "_SLOW", -1.0)
    files.write("handling.py", "def timed(f, *args): return f(*args)\n")
    files.load(STEP)
    assert engine().step(1) == 2
    (message,) = messages(caplog)
    assert message.startswith(f"{files.symbols}:1: the import of handling kept the program waiting for 0.")


def test_hooks_that_only_pass_calls_through_are_known(files) -> None:
    files.write("handling.py", "def timed(f, *args): return f(*args)\n")
    hooks = files.load(STEP + "- symbol: targeted:Engine.again\n")
    engine()
    assert hooks.passing() == []
    files.write("symbols.yaml", "[]\n")
    hooks.update()
    assert sorted(hooks.passing()) == ["targeted:Engine.again", "targeted:Engine.step"]
    files.write("symbols.yaml", STEP)
    hooks.update()
    assert hooks.passing() == ["targeted:Engine.again"]


def test_a_changed_timer_does_not_leave_its_old_record_type(files, recorder) -> None:
    hooks = files.load("- symbol: targeted:Engine.again\n")
    engine()
    before = len(recorder._types)
    for name in ("one", "two", "three"):
        files.write("symbols.yaml", f"- symbol: targeted:Engine.again\n  name: {name}\n")
        hooks.update()
    assert len(recorder._types) == before


def test_handlers_are_left_to_who_writes_the_native_files(files, records, monkeypatch) -> None:
    monkeypatch.setattr(_symbol_hooks.native, "choose", lambda _: _symbol_hooks.native.NativeChoice(None, "it 1"))
    files.write("handling.py", "def timed(f, *args): return f(*args) * 2\n")
    files.load(STEP + "- symbol: targeted:Engine.again\n")
    one = engine()
    assert (one.step(1), one.again(1)) == (2, 3)
    assert "handling" not in sys.modules
    assert [record[0].name for record in records()] == ["again"]
