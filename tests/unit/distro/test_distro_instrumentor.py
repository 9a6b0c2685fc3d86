"""``VLLMInstrumentor`` and what it makes of a symbols file."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import VLLMInstrumentor, _instrumentor, _symbol_hooks, vllm
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.hooks import Installer
from ascend_opentelemetry.recorder import Recorder

MODULE = "program_under_test"


class ListSink:
    def __init__(self) -> None:
        self.records: list[Any] = []

    def write(self, records: Any) -> None:
        self.records += records

    def commit(self) -> None: ...
    def request_flush(self) -> None: ...
    def after_fork(self) -> None: ...

    def flush(self, timeout: float) -> bool:
        return True

    def shutdown(self, timeout: float) -> None: ...

    @property
    def named(self) -> list[tuple[str, str, Any]]:
        return [(record[0].domain, record[0].name, dict(zip(record[0].keys, record[5]))) for record in self.records]  # noqa: B905


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module: Any = types.ModuleType(MODULE)

    def work(x: int, y: int = 2) -> int:
        return x + y

    class Engine:
        def step(self, batch: list[int]) -> int:
            return len(batch)

    module.work, module.Engine = work, Engine
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, global_recorder: Recorder) -> Iterator[Runtime]:
    runtime = Runtime()
    monkeypatch.setattr(_instrumentor, "runtime", runtime)
    yield runtime
    runtime.shutdown()


@pytest.fixture
def traced(runtime: Runtime, sink: ListSink, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO", "1")
    runtime.add_traces([sink], lambda *_: True)
    return runtime


@pytest.fixture
def instrumentor() -> Iterator[VLLMInstrumentor]:
    instrumentor = VLLMInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


@pytest.fixture
def symbols(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "symbols.yaml"
        path.write_text(text)
        return path

    return write


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("ascend_opentelemetry")]


TIMER = f"""
- symbol: {MODULE}:work
  domain: Work
  name: adds
  attributes:
  - name: x
    expr: x
  - name: sum
    expr: return
    otel_name: work.sum
- symbol: {MODULE}:Engine.step
"""


def test_timers_with_attributes(traced, instrumentor, symbols, program, sink, global_recorder) -> None:
    instrumentor.instrument(symbols=symbols(TIMER))
    assert program.work(1, y=4) == 5
    assert program.Engine().step([1, 2]) == 2
    assert global_recorder.flush(5) is True
    assert sink.named == [("Work", "adds", {"x": 1, "sum": 5}), ("Default", "step", {})]
    record = sink.records[0]
    assert list(record[0].attributes(record)) == [("x", 1), ("work.sum", 5)]
    assert sink.records[1][0].attributes is None


def test_the_path_of_the_environment(
    traced, instrumentor, symbols, program, sink, global_recorder, monkeypatch
) -> None:
    monkeypatch.setenv("PROFILING_SYMBOLS_PATH", str(symbols(TIMER)))
    instrumentor.instrument()
    program.work(1)
    global_recorder.flush(5)
    assert sink.named == [("Work", "adds", {"x": 1, "sum": 3})]


def test_uninstrument_restores_all_and_can_be_undone(
    traced, instrumentor, symbols, program, sink, global_recorder
) -> None:
    functions = program.work, vars(program.Engine)["step"]
    path = symbols(TIMER)
    for _ in range(3):
        instrumentor.instrument(symbols=path)
        assert program.work is not functions[0]
        program.work(1)
        instrumentor.uninstrument()
        assert (program.work, vars(program.Engine)["step"]) == functions
        assert program.work is functions[0]
        program.work(1)
    assert len(sink.records) == 3  # uninstrument has flushed
    assert global_recorder._types == []


def test_spans_of_others_still_flow_after_uninstrument(
    traced, instrumentor, symbols, program, sink, global_recorder
) -> None:
    instrumentor.instrument(symbols=symbols(TIMER))
    hook = program.work
    instrumentor.uninstrument()
    hook(1)  # kept by somebody: it records nothing any more
    from ascend_opentelemetry.recorder import RecordType

    global_recorder.emit((RecordType("", "sdk span"), 1, 2, 3, (1, 2, 0, 1), (), None))
    global_recorder.flush(5)
    assert sink.named == [("", "sdk span", {})]


def test_without_traces_uninstrument_ends_everything(runtime, instrumentor, symbols, program, global_recorder) -> None:
    instrumentor.instrument(symbols=symbols(TIMER))
    assert runtime.started is True
    instrumentor.uninstrument()
    assert (runtime.started, global_recorder.on) == (False, False)


def test_instrumenting_twice_hooks_once(traced, instrumentor, symbols, program, sink, global_recorder) -> None:
    instrumentor.instrument(symbols=symbols(TIMER))
    hook = program.work
    VLLMInstrumentor().instrument(symbols=symbols(TIMER))
    assert program.work is hook
    program.work(1)
    global_recorder.flush(5)
    assert len(sink.records) == 1


def test_one_bad_item_costs_itself_only(traced, instrumentor, symbols, program, sink, global_recorder, caplog) -> None:
    path = symbols(
        f"""
- symbol: {MODULE}:work
  domain: [1]
- symbol: nonsense
- symbol: {MODULE}:missing
- symbol: {MODULE}.*:*.step
- symbol: {MODULE}:Engine.step
  attributes:
  - name: wrong
    expr: no_such_parameter
  - name: right
    expr: batch | len
"""
    )
    with caplog.at_level(logging.WARNING):
        instrumentor.instrument(symbols=path)
        program.work(1)
        program.Engine().step([1, 2])
    global_recorder.flush(5)
    assert sink.named == [("Default", "work", {}), ("Default", "step", {"wrong": None, "right": 2})]
    said = messages(caplog)
    assert len(said) == 4
    assert said[0].startswith(f"{path}:3: domain: ")
    assert said[1].startswith(f"{path}:4: symbol: ")
    assert said[2] == f"{path}:5: {MODULE}:missing does not exist in this version; it is left out"
    assert said[3].startswith(f"{path}:7: attribute wrong of {MODULE}:Engine.step has no value: ExpressionError: ")


HANDLERS = {
    "no_such_module:handler": "ModuleNotFoundError: No module named 'no_such_module'",
    "handlers_under_test:missing": "AttributeError: module 'handlers_under_test' has no attribute 'missing'",
    "handlers_under_test:NUMBER": "TypeError: it is not callable",
    "handlers_that_exit:handler": "SystemExit: 1",
    "handlers_that_raise:handler": "ZeroDivisionError: division by zero",
}


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "handlers_under_test.py").write_text(
        "NUMBER = 1\ndef handler(original, *args, **kwargs):\n    return 'handled', original(*args, **kwargs)\n"
    )
    (tmp_path / "handlers_that_exit.py").write_text("raise SystemExit(1)\n")
    (tmp_path / "handlers_that_raise.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("handlers_under_test", "handlers_that_exit", "handlers_that_raise"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_that_cannot_be_used_is_a_timer(
    traced, instrumentor, symbols, program, sink, global_recorder, caplog, handler
) -> None:
    path = symbols(f"- symbol: {MODULE}:work\n  handler: {handler}\n  domain: Work\n  name: adds\n")
    with caplog.at_level(logging.WARNING):
        instrumentor.instrument(symbols=path)
        assert program.work(1) == 3
        assert program.work(1) == 3
    global_recorder.flush(5)
    assert sink.named == [("Work", "adds", {})] * 2
    assert messages(caplog) == [
        f"{path}:1: handler {handler} cannot be used ({HANDLERS[handler]}); {MODULE}:work is timed instead"
    ]


@pytest.mark.usefixtures("handlers")
def test_a_handler_of_the_users(traced, instrumentor, symbols, program, sink, global_recorder, caplog) -> None:
    instrumentor.instrument(symbols=symbols(f"- symbol: {MODULE}:work\n  handler: handlers_under_test:handler\n"))
    assert program.work(1) == ("handled", 3)
    assert messages(caplog) == []
    global_recorder.flush(5)
    assert sink.records == []


def test_naming_a_built_in_handler_asks_for_its_native_rows(traced, instrumentor, symbols) -> None:
    schedule = vllm.NATIVE_TYPES["schedule"][0]
    assert schedule.native is False
    text = "- symbol: vllm.v1.core.sched.scheduler:Scheduler.schedule\n  handler: ascend_opentelemetry.vllm:schedule\n"
    instrumentor.instrument(symbols=symbols(text))
    assert schedule.native is True
    instrumentor.uninstrument()
    assert schedule.native is False


def test_a_failure_inside_does_not_reach_the_program(runtime, instrumentor, monkeypatch, caplog) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("install")

    monkeypatch.setattr(_symbol_hooks, "install", broken)
    instrumentor.instrument()
    assert messages(caplog) == ["vLLM is not instrumented"]


def test_built_in_hooks_ask_for_no_module_and_no_function(global_recorder, symbols, caplog, monkeypatch) -> None:
    hooked = vllm.HOOKED[0]
    monkeypatch.setitem(sys.modules, hooked.module, types.ModuleType(hooked.module))
    before = set(sys.modules)
    installer = Installer()
    _symbol_hooks.install(installer, symbols("[]"))
    assert {name for name in set(sys.modules) - before if name.partition(".")[0] in ("vllm", "vllm_ascend")} == set()
    assert messages(caplog) == []
    assert set(vllm.TYPES) <= set(global_recorder._types)
    _symbol_hooks.uninstall(installer)
    assert global_recorder._types == []
