"""The hooks of a symbols file that changes while the program runs."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ascend_opentelemetry import _symbol_hooks, symbols, vllm
from ascend_opentelemetry._symbol_hooks import SymbolHooks
from ascend_opentelemetry.hooks import Installer
from tests.unit.recorder.test_recorder_fork import in_child

SOURCE = """
class Engine:
    def step(self, batch): return len(batch)
    async def later(self, batch): return len(batch)
    def each(self, batch): yield from batch
    async def each_later(self, batch):
        for one in batch: yield one

class Other:
    def step(self, batch): return -len(batch)

def work(x): return x + 1
"""
STEP = "- symbol: changing.engine:Engine.step\n"
SIZE = "  attributes:\n  - name: size\n    expr: batch | len\n"
TWO = (
    "  attributes:\n  - name: first\n    expr: batch[0]\n  - name: result\n    expr: return\n    otel_name: my.result\n"
)


class Window(NamedTuple):
    profiler_level: int = 20
    domain: frozenset[str] = frozenset()


class File:
    """A symbols file and its hooks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.installer = Installer()
        self.hooks = SymbolHooks(self.installer, path)

    def load(self, text: str) -> None:
        self.path.write_text(text)
        self.hooks.load()

    def change(self, text: str) -> None:
        self.path.write_text(text)
        self.hooks.update()


@pytest.fixture
def file(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    (tmp_path / "changing").mkdir()
    for name in ("__init__", "engine", "engine_too"):
        (tmp_path / "changing" / f"{name}.py").write_text("" if name == "__init__" else SOURCE)
    (tmp_path / "handling.py").write_text("def twice(original, *args): return original(*args) * 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = File(tmp_path / "symbols.yaml")
    yield file
    _symbol_hooks.uninstall(file.installer)
    for name in [name for name in sys.modules if name.split(".")[0] in ("changing", "handling")]:
        del sys.modules[name]


@pytest.fixture
def engine(file: File) -> Any:
    return importlib.import_module("changing.engine")


@pytest.fixture
def taken(records: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    """The records made so far: domain, name, native and OTel attributes."""

    def attributes(record: Any) -> dict[str, Any]:
        record_type = record[0]
        pairs = zip(record_type.keys, record[5], strict=True)
        return dict(record_type.attributes(record) if record_type.attributes is not None else pairs)

    def take() -> list[Any]:
        return [(one[0].domain, one[0].name, one[0].keys, attributes(one)) for one in records()]

    return take


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def said(path: Path, added: int, changed: int, off: int) -> str:
    return f"{path} has changed: {added} symbols added, {changed} changed, {off} off"


def test_name_domain_and_attributes_change_also_for_those_who_kept_the_function(file, engine, taken, caplog) -> None:
    file.load(STEP + SIZE)
    one = engine.Engine()
    kept, hook = one.step, engine.Engine.step
    kept([7, 8])
    with caplog.at_level(logging.INFO):
        file.change(STEP + "  domain: New\n  name: stepped\n" + TWO)
    assert kept([7, 8, 9]) == 3
    assert engine.Engine.step is hook
    assert taken() == [
        ("Default", "step", ("size",), {"size": 2}),
        ("New", "stepped", ("first", "result"), {"first": 7, "my.result": 3}),
    ]
    assert messages(caplog) == [said(file.path, 0, 1, 0)]


def test_nothing_changes_before_the_update(file, engine, taken) -> None:
    file.load(STEP)
    file.path.write_text(STEP + "  name: stepped\n")
    engine.Engine().step([1])
    assert taken() == [("Default", "step", (), {})]


def test_a_symbol_that_is_gone_passes_through_until_it_is_back(file, engine, taken, recorder, caplog) -> None:
    file.load(STEP + SIZE)
    one, hook = engine.Engine(), engine.Engine.step
    assert recorder.timers == 1
    caplog.set_level(logging.INFO)
    file.change("[]\n")
    assert recorder.timers == 0
    assert one.step([1]) == 1
    assert taken() == []
    recorder.set_native(Window())
    recorder.set_traces(True)
    assert one.step([1]) == 1
    assert taken() == []
    file.change("\n" + STEP + SIZE)
    assert recorder.timers == 1
    assert one.step([1, 2]) == 2
    assert taken() == [("Default", "step", ("size",), {"size": 2})]
    assert engine.Engine.step is hook
    assert messages(caplog) == [said(file.path, 0, 0, 1), said(file.path, 0, 1, 0)]


def test_a_line_that_only_moves_changes_nothing(file, engine, taken, caplog) -> None:
    file.load(STEP + SIZE)
    with caplog.at_level(logging.INFO):
        file.change("# moved\n\n" + STEP + SIZE)
    assert messages(caplog) == [said(file.path, 0, 0, 0)]


def test_new_symbols_are_hooked_now_or_when_their_module_comes(file, engine, taken, recorder) -> None:
    file.load(STEP)
    file.change(STEP + "- symbol: changing.engine:work\n- symbol: changing.engine_too:work\n  name: too\n")
    assert recorder.timers == 2
    assert engine.work(1) == 2
    assert importlib.import_module("changing.engine_too").work(1) == 2
    assert taken() == [("Default", "work", (), {}), ("Default", "too", (), {})]
    assert recorder.timers == 3


def test_a_symbol_that_went_before_its_module_came_is_not_recorded(file, taken, recorder) -> None:
    file.load(STEP + SIZE)
    file.change("[]\n")
    engine = importlib.import_module("changing.engine")
    assert engine.Engine().step([1]) == 1
    assert taken() == []
    assert recorder.timers == 0
    file.change(STEP + TWO)
    engine.Engine().step([5])
    assert taken() == [("Default", "step", ("first", "result"), {"first": 5, "my.result": 1})]


def test_a_wildcard_changes_in_all_its_functions(file, engine, taken) -> None:
    file.load("- symbol: changing.*:*.step\n")
    file.change("- symbol: changing.*:*.step\n  name: stepped\n" + SIZE)
    engine.Engine().step([1])
    engine.Other().step([1, 2])
    importlib.import_module("changing.engine_too").Other().step([])
    assert taken() == [("Default", "stepped", ("size",), {"size": size}) for size in (1, 2, 0)]
    file.change("[]\n")
    engine.Other().step([1, 2])
    assert taken() == []


@pytest.mark.parametrize("kind", ["generator", "async generator", "coroutine"])
def test_a_call_that_runs_over_a_change_is_recorded_by_the_new_one_once(file, engine, taken, kind) -> None:
    name = {"generator": "each", "async generator": "each_later", "coroutine": "later"}[kind]
    item = f"- symbol: changing.engine:Engine.{name}\n"
    file.load(item + SIZE)

    def change() -> None:
        file.change(item + "  name: changed\n  attributes:\n  - name: first\n    expr: batch[0]\n")

    async def run() -> None:
        if kind == "coroutine":
            call = engine.Engine().later([5])
            change()
            assert await call == 1
        elif kind == "generator":
            values = engine.Engine().each([5, 6])
            assert next(values) == 5
            change()
            assert list(values) == [6]
        else:
            later = engine.Engine().each_later([5, 6])
            assert await anext(later) == 5
            change()
            assert [one async for one in later] == [6]

    asyncio.run(run())
    assert taken() == [("Default", "changed", ("first",), {"first": 5})]


def test_the_window_selects_by_the_new_domain(file, engine, taken, recorder) -> None:
    recorder.set_traces(False)
    file.load(STEP + "  domain: Old\n")
    recorder.set_native(Window(domain=frozenset({"Old"})))
    engine.Engine().step([1])
    file.change(STEP + "  domain: New\n")
    engine.Engine().step([1])
    assert [one[:2] for one in taken()] == [("Old", "step")]
    recorder.set_native(Window(domain=frozenset({"New"})))
    engine.Engine().step([1])
    assert [one[:2] for one in taken()] == [("New", "step")]


def test_handlers_of_the_user_come_and_go(file, engine, taken) -> None:
    handled = "- symbol: changing.engine:work\n  handler: handling:twice\n"
    file.load("- symbol: changing.engine:work\n")
    file.change(handled)
    assert engine.work(1) == 4
    assert taken() == []
    file.change("- symbol: changing.engine:work\n")
    assert engine.work(1) == 2
    assert taken() == [("Default", "work", (), {})]
    file.change(handled)
    assert engine.work(1) == 4


HANDLED = "- symbol: changing.engine:Engine.step\n  handler: handling:{}\n"


def test_a_handler_whose_code_has_changed_goes_on_and_that_is_said_once(file, engine, caplog) -> None:
    file.load(HANDLED.format("twice"))
    assert engine.Engine().step([1, 2]) == 4
    file.hooks.update()
    assert messages(caplog) == []
    module = file.path.with_name("handling.py")
    module.write_text("def twice(original, *args): return original(*args) * 3\n")
    os.utime(module, ns=(1, 1))
    file.hooks.update()
    file.hooks.update()
    assert engine.Engine().step([1, 2]) == 4
    said_once = f"{module} has changed: handlers go on with the code that was imported, until a restart"
    assert messages(caplog) == [said_once]
    module.unlink()
    file.hooks.update()
    assert messages(caplog) == [said_once]


def test_a_handler_that_could_not_be_imported_is_when_the_window_opens_again(file, engine, taken, caplog) -> None:
    module = file.path.with_name("handling.py")
    module.write_text("this is no Python\n")
    file.load(HANDLED.format("thrice"))
    assert engine.Engine().step([1, 2]) == 2
    assert len(taken()) == 1
    file.hooks.update()
    assert engine.Engine().step([1, 2]) == 2
    assert len(taken()) == 1
    assert [message for message in messages(caplog) if "is timed instead" not in message] == []
    assert len(messages(caplog)) == 1
    module.write_text("def thrice(original, *args): return original(*args) * 3\n")
    file.hooks.update()
    assert engine.Engine().step([1, 2]) == 6
    assert taken() == []
    file.change("[]\n")
    assert engine.Engine().step([1, 2]) == 2
    assert taken() == []


def test_native_rows_of_built_in_handlers_come_and_go(file, recorder) -> None:
    schedule, runner = vllm.NATIVE_TYPES["schedule"][0], vllm.NATIVE_TYPES["model_runner"][0]
    recorder.register(schedule)
    recorder.set_native(Window())
    item = "- symbol: vllm.v1.core.sched.scheduler:Scheduler.schedule\n  handler: ascend_opentelemetry.vllm:schedule\n"
    file.load("[]\n")
    assert (schedule.native, schedule.native_on) == (False, False)
    file.change(item)
    assert (schedule.native, schedule.native_on, runner.native) == (True, True, False)
    file.change("[]\n")
    assert (schedule.native, schedule.native_on) == (False, False)


def test_versions_count_at_a_change(file, engine, taken, monkeypatch) -> None:
    monkeypatch.setattr(symbols, "installed_version", lambda _: "0.32.0")
    file.load(STEP)
    file.change(STEP + "  max_version: '0.31.0'\n")
    engine.Engine().step([1])
    assert taken() == []


def test_an_unchanged_file_is_not_loaded_again(file, monkeypatch, caplog) -> None:
    file.load(STEP)
    monkeypatch.setattr(symbols, "load", None)
    os.utime(file.path, (0, 0))
    with caplog.at_level(logging.INFO):
        file.hooks.update()
    assert messages(caplog) == []


def test_a_file_that_is_gone_leaves_the_hooks(file, engine, taken, caplog) -> None:
    file.load(STEP)
    file.path.unlink()
    file.hooks.update()
    engine.Engine().step([1])
    assert len(taken()) == 1
    assert messages(caplog) == [f"{file.path} cannot be read any more: the hooks stay as they are"]


def test_what_is_wrong_in_the_new_file_is_said_and_the_rest_applies(file, engine, taken, caplog) -> None:
    file.load(STEP)
    file.change(STEP + "  name: stepped\n- symbol: changing.engine:missing\n- symbol: nonsense\n")
    engine.Engine().step([1])
    assert [one[1] for one in taken()] == ["stepped"]
    problem, missing = messages(caplog)
    assert problem.startswith(f"{file.path}:4: symbol: 'nonsense' is not package.module:Class.method")
    assert missing == f"{file.path}:3: changing.engine:missing does not exist in this version; it is left out"


def test_a_file_that_is_all_wrong_does_not_flood_the_log(file, caplog) -> None:
    file.load("- symbol: nonsense\n" * 500)
    assert len(messages(caplog)) == 21
    assert messages(caplog)[-1] == f"{file.path}: 480 more problems: ascend-otel symbols check {file.path}"


def test_no_error_reaches_the_caller(file, monkeypatch, caplog) -> None:
    def broken(_: Path) -> Any:
        raise RuntimeError("load")

    file.load(STEP)
    monkeypatch.setattr(symbols, "load", broken)
    file.change("[]\n")
    assert messages(caplog) == [f"{file.path} has changed, but not all of it applies"]


def test_what_objects_keep_from_their_construction_is_said(file, monkeypatch, caplog) -> None:
    module: Any = types.ModuleType("vllm.v1.engine.core")
    module.EngineCore = type("EngineCore", (), {"step": lambda self: 1})
    for name in ("vllm", "vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    file.load("[]\n")
    text = "- symbol: vllm.v1.engine.core:EngineCore.step\n"
    file.change(text)
    file.change(text + "  name: stepped\n")
    (message,) = messages(caplog)
    assert message == (
        f"{file.path}:1: objects made before now go on with the EngineCore.step_fn that they have; "
        "they are recorded after a restart"
    )


def test_no_hook_is_changed_after_the_removal(file, engine, taken, caplog) -> None:
    file.load(STEP)
    _symbol_hooks.uninstall(file.installer)
    with caplog.at_level(logging.INFO):
        file.change("- symbol: changing.engine:work\n")
    assert engine.work(1) == 2
    assert taken() == []
    assert messages(caplog) == []


def test_what_the_file_names_no_more_is_passing_also_where_it_was_never_hooked(file, engine) -> None:
    file.load(STEP + "- symbol: changing.engine:Engine.stepp\n- symbol: changing.*:*.later\n")
    assert file.installer.left_out == ["changing.engine:Engine.stepp"]
    assert file.hooks.passing() == []
    file.change("[]")
    assert sorted(file.hooks.passing()) == [
        "changing.engine:Engine.later", "changing.engine:Engine.step", "changing.engine:Engine.stepp",
    ]  # fmt: skip


def test_a_fork_waits_for_a_change_so_that_the_child_can_make_its_own(file, engine, recorder, monkeypatch) -> None:
    file.load(STEP + "- symbol: changing.engine_too:Engine.step\n")
    changing, go_on = threading.Event(), threading.Event()
    bind = symbols.bind

    def slow(*args: Any) -> Any:
        changing.set()
        go_on.wait(10)
        return bind(*args)

    def child() -> list[int]:
        signal.alarm(10)
        importlib.import_module("changing.engine_too")
        return [recorder.timers, file.hooks._hooks["changing.engine_too:Engine.step", None].is_on()]

    monkeypatch.setattr(symbols, "bind", slow)
    drain = threading.Thread(target=file.change, args=[STEP + SIZE + "- symbol: changing.engine_too:Engine.step\n"])
    drain.start()
    changing.wait(10)
    threading.Timer(0.1, go_on.set).start()
    assert in_child(child) == [2, True]
    drain.join(10)


def test_functions_run_while_the_file_changes(file, engine, recorder, taken) -> None:
    file.load(STEP + SIZE)
    one, stop, failures = engine.Engine(), threading.Event(), []

    def run() -> None:
        while not stop.wait(1e-5):
            if one.step([1, 2]) != 2:
                failures.append("result")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = set()
    for turn in range(3000):
        for text in (STEP + TWO, "[]\n", STEP + SIZE):
            file.change(text)
            seen |= {(keys, tuple(values.items())) for _, _, keys, values in taken()}
        if turn > 30 and len(seen) >= 2:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == {
        (("size",), (("size", 2),)),
        (("first", "result"), (("first", 1), ("my.result", 2))),
    }


def test_problems_of_the_file_are_said_by_the_first_process_of_the_service(file, monkeypatch, caplog) -> None:
    session = types.SimpleNamespace(is_owner=False)
    monkeypatch.setattr(_symbol_hooks.native.ProfileSession, "join", lambda: session)
    file.load("- symbol: nonsense\n- symbol: changing.engine:work\n  min_version: x\n")
    assert messages(caplog) == []
    session.is_owner = True
    file.hooks.load()
    assert [message.partition(": ")[0] for message in messages(caplog)] == [f"{file.path}:1", f"{file.path}:2"]


def test_a_symbol_that_makes_a_context_manager_is_recorded_when_the_block_ends(file, taken) -> None:
    file.path.with_name("changing").joinpath("blocks.py").write_text(
        "import contextlib\n@contextlib.contextmanager\ndef block(name): yield name * 2\n"
    )
    text = "- symbol: changing.blocks:block\n  attributes:\n  - name: result\n    expr: return\n"
    file.load(text)
    blocks = importlib.import_module("changing.blocks")
    with blocks.block("a") as value:
        assert (value, taken()) == ("aa", [])
        file.change(text.replace("- name: result", "- name: other"))
    assert taken() == [("Default", "block", ("other",), {"other": "aa"})]
    file.change("[]\n")
    with blocks.block("a"):
        pass
    assert taken() == []
