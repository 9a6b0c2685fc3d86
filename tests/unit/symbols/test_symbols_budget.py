"""Attributes that take too long are off after a while, and the log says so once."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import _hooked_symbol
from ascend_opentelemetry.hooks import Target
from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.symbols import Attribute, Symbol, _bind, bind, compile_expression

MS = 1_000_000
ATTRIBUTES = (
    Attribute("x", "x", compile_expression("this.x")),
    Attribute("y", "y", compile_expression("this.y | str")),
)


class Clock:
    """Stands still but while attributes are read."""

    def __init__(self) -> None:
        self.now = 1_000_000_000
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return self.now


class Slow:
    """An object whose attribute takes ``ms`` each time."""

    y = 2

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ms = 0.0
        self.reads = 0

    @property
    def x(self) -> int:
        self.reads += 1
        self.clock.now += int(self.ms * MS)
        return 1


def function(this) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_bind, "perf_counter_ns", clock)
    return clock


class Calls:
    def __init__(self, clock: Clock) -> None:
        self.slow = Slow(clock)
        self.said: list[float] = []
        self.read = bind(ATTRIBUTES, function, lambda _, error: pytest.fail(str(error)), self.said.append)

    def __call__(self, ms: float, count: int = 1) -> tuple[Any, ...]:
        self.slow.ms = ms
        values: tuple[Any, ...] = ()
        for _ in range(count):
            values = self.read((self.slow,), {}, None)
        return values


@pytest.fixture
def calls(clock: Clock) -> Calls:
    return Calls(clock)


def test_one_call_of_sixteen_is_measured_beginning_with_the_first(calls: Calls, clock: Clock) -> None:
    calls(0.1)
    assert clock.asked == 2
    calls(0.1, 15)
    assert clock.asked == 2
    calls(0.1)
    assert clock.asked == 4
    calls(0.1, 160)
    assert clock.asked == 24
    assert calls.said == []


def test_two_milliseconds_are_allowed_in_each_call(calls: Calls) -> None:
    assert calls(2, 10_000) == (1, "2")
    assert calls.said == []


def test_an_excess_of_fifty_milliseconds_ends_it(calls: Calls, clock: Clock) -> None:
    assert calls(3, 49) == (1, "2")
    assert (clock.asked, calls.said) == (98, [])
    # the record of the call that was one too many is whole
    assert calls(3) == (1, "2")
    assert calls.said == [0.003]
    assert calls(3, 100) == (None, None)
    assert calls(0) == (None, None)
    assert (calls.slow.reads, clock.asked, calls.said) == (50, 100, [0.003])


def test_a_single_long_call_is_forgiven_two_are_not(calls: Calls, clock: Clock) -> None:
    assert calls(10_000) == (1, "2")
    # each call is measured until the excess is gone
    assert calls(0, 24) == (1, "2")
    assert clock.asked == 50
    assert calls(0, 15) == (1, "2")
    assert clock.asked == 50
    assert calls.said == []
    assert calls(10_000) == (1, "2")
    assert calls.said == []
    assert calls(10_000) == (1, "2")
    assert calls.said == [10.0]
    assert calls(0) == (None, None)


def test_a_failing_expression_counts_too(clock: Clock) -> None:
    class Failing(Slow):
        @property
        def x(self) -> int:
            clock.now += 30 * MS
            raise LookupError

    said: list[float] = []
    errors: list[Exception] = []
    read = bind(ATTRIBUTES, function, lambda _, error: errors.append(error), said.append)
    assert [read((Failing(clock),), {}, None) for _ in range(3)] == [(None, "2"), (None, "2"), (None, None)]
    assert (said, len(errors)) == ([0.03], 1)


def test_each_symbol_has_its_own_budget(clock: Clock) -> None:
    one, other = Calls(clock), Calls(clock)
    one(1000, 2)
    assert one(0) == (None, None)
    assert other(0) == (1, "2")


@pytest.fixture
def _types() -> Iterator[None]:
    yield
    recorder.unregister_all()


@pytest.mark.usefixtures("_types")
def test_it_is_said_once_and_names_the_symbol(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    symbol = Symbol("a.b", "C.f", attributes=ATTRIBUTES, file="s.yaml", line=7)
    timer = _hooked_symbol._timer(symbol, Target("a.b", "C.f", "s.yaml:7"), function)
    slow = Slow(clock)
    slow.ms = 60
    _, take = timer.output
    assert take is not None
    with caplog.at_level(logging.WARNING):
        values = [take((slow,), {}, None) for _ in range(5)]
    assert values == [(1, "2"), (1, "2"), *[(None, None)] * 3]
    assert [record.getMessage() for record in caplog.records] == [
        "s.yaml:7: the attributes of a.b:C.f took 60.0 ms of a call: they are off now; ask for less"
    ]


PROGRAM = """
import sys
from ascend_opentelemetry import _symbol_hooks
from ascend_opentelemetry.hooks import Installer

_symbol_hooks.install(Installer(), sys.argv[1])
assert not {"target_module", "handler_module"} & set(sys.modules)
import json
assert "handler_module" not in sys.modules
import target_module
assert sys.modules["handler_module"].SEEN == [True]
assert target_module.f(1) == ("handled", 1)
"""


def test_a_handler_is_imported_after_its_target_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "target_module.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "handler_module.py").write_text(
        "import sys\nSEEN = ['target_module' in sys.modules and hasattr(sys.modules['target_module'], 'f')]\n"
        "def handler(original, x):\n    return 'handled', original(x)\n"
    )
    path = tmp_path / "symbols.yaml"
    path.write_text("- symbol: target_module:f\n  handler: handler_module:handler\n")
    paths = [str(tmp_path), *sys.path]
    program = f"import sys\nsys.path[:] = {paths!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
