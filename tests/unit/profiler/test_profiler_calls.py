"""Each call and the native row that it makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import ascend_opentelemetry
from ascend_opentelemetry.profiler import Level, Profiler
from ascend_opentelemetry.recorder import recorder

DOCS = Path(__file__).resolve().parents[3] / "docs" / "profiler.md"


def test_the_docs_name_every_call() -> None:
    table = set(re.findall(r"\.(\w+)\(", DOCS.read_text()))
    assert {name for name in vars(Profiler) if not name.startswith("_")} - {"enable"} <= table


def test_the_examples_of_the_docs_run(native) -> None:
    program = "".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL))
    found = {"run": lambda: None}
    exec(program, found)
    found["load_weights"]()
    assert [row[2:] for row in native.rows()] == [
        ("forward", "Execute", '{"type": 2, "rid": ["req-1", "req-2"], "batch_type": "Decode"}'),
        ("Enqueue", "Schedule", '{"rid": "req-1", "QueueSize=": 3, "type": 0}'),
        ("load_weights", "Execute", '{"type": 2}'),
    ]


def test_they_are_exported_by_the_package() -> None:
    assert (ascend_opentelemetry.Profiler, ascend_opentelemetry.Level) == (Profiler, Level)


def test_importing_them_loads_neither_sinks_nor_the_sdk() -> None:
    program = "import json, sys; from ascend_opentelemetry import Profiler, Level; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)
    heavy = ("opentelemetry.sdk", "sqlite3", "yaml", "grpc", "ascend_opentelemetry.native", "ascend_opentelemetry.otlp")
    assert [name for name in loaded if name.startswith(heavy)] == []
    assert "ascend_opentelemetry.profiler" in loaded


def test_the_levels_of_the_reference() -> None:
    assert {name: int(level) for name, level in Level.__members__.items()} == {
        "ERROR": 10, "INFO": 20, "DETAILED": 30, "VERBOSE": 40, "L0": 10, "L1": 20, "L2": 30, "LEVEL_CORE_TRACE": 10,
        "LEVEL_OUTLIER_ENENT": 10, "LEVEL_NORMAL_TRACE": 20, "LEVEL_DETAILED_TRACE": 30,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (lambda p: p.event("e"), '{"type": 0}'),
        (lambda p: p.attr("a", 1).event("e"), '{"a": 1, "type": 0}'),
        (lambda p: p.res("r").event("e"), '{"rid": "r", "type": 0}'),
        (lambda p: p.res(["r", "s"]).event("e"), '{"rid": ["r", "s"], "type": 0}'),
        (lambda p: p.res([{"rid": "r", "iter": 2}]).event("e"), '{"rid": [{"rid": "r", "iter": 2}], "type": 0}'),
        (lambda p: p.metric("m", 0.5).event("e"), '{"m=": 0.5, "type": 0}'),
        (lambda p: p.metric_inc("m", -1).event("e"), '{"m+": -1, "type": 0}'),
        (lambda p: p.metric_scope("s").event("e"), '{"scope#s": 0, "type": 0}'),
        (lambda p: p.metric_scope("s", "v").event("e"), '{"scope#s": "v", "type": 0}'),
        (lambda p: p.metric_scope_as_req_id().event("e"), '{"scope#": "req", "type": 0}'),
        (lambda p: p.attr("a", 1).attr("b", 2).attr("a", 3).event("e"), '{"a": 3, "b": 2, "type": 0}'),
        (lambda p: p.attr("type", "x").event("e"), '{"type": 0}'),
        (lambda p: p.attr("a", None).event("e"), '{"a": null, "type": 0}'),
        (lambda p: p.span_start("e").attr("a", 1).span_end(), '{"type": 2, "a": 1}'),
        (lambda p: p.attr("a", 1).span_start("e").span_end(), '{"a": 1, "type": 2}'),
    ],
)
def test_the_row_of_a_chain(native, chain, expected) -> None:
    assert chain(Profiler(Level.INFO).domain("D")).enable is True
    assert native.row() == ("e", "D", expected)


def test_launch(native) -> None:
    Profiler(Level.INFO).domain("npu").metric("usage", 1).launch()
    assert native.row() == ("Launch", "npu", '{"usage=": 1, "type": 0}')


def test_link_takes_the_place_of_attributes(native) -> None:
    profiler = Profiler(Level.INFO).domain("Request").res("gone").link("a", 2)
    assert native.row() == ("Link", "Request", '{"type": 3, "from": "a", "to": 2}')
    assert profiler.enable is True


def test_one_object_makes_several_rows(native) -> None:
    profiler = Profiler(Level.INFO).domain("D").res("r").event("one")
    profiler.attr("a", 1).event("two")
    profiler.domain("E").span_start("three").span_end().span_end()
    assert [row[2:] for row in native.rows()] == [
        ("one", "D", '{"rid": "r", "type": 0}'),
        ("two", "D", '{"rid": "r", "type": 0, "a": 1}'),
        ("three", "E", '{"rid": "r", "type": 2, "a": 1}'),
    ]


def test_an_event_within_a_span_leaves_it_its_name_and_type(native) -> None:
    Profiler(Level.INFO).span_start("span").event("event").span_end()
    assert [row[2:] for row in native.rows()] == [("event", "", '{"type": 0}'), ("span", "", '{"type": 2}')]


def test_the_times(native) -> None:
    before = time.time_ns()
    profiler = Profiler(Level.INFO).span_start("s")
    between = time.time_ns()
    time.sleep(0.02)
    profiler.event("e").span_end()
    after = time.time_ns()
    event, span = native.rows()
    assert before <= span[0] <= between
    assert 20_000_000 <= span[1] <= after - before + 1_000_000
    assert between + 20_000_000 <= event[0] <= after
    assert event[1] == 0


def test_a_span_without_its_start_is_none(native) -> None:
    assert Profiler(Level.INFO).span_end().enable is True
    assert native.rows() == []


def test_a_span_that_is_started_again_is_one_row(native) -> None:
    profiler = Profiler(Level.INFO).span_start("first")
    between = time.time_ns()
    profiler.span_start("second").span_end()
    ((start, _, name, _, args),) = native.rows()
    assert (name, args, start >= between) == ("second", '{"type": 2}', True)


def test_a_span_that_ends_on_another_thread_is_a_row_of_that_thread(native) -> None:
    profiler = Profiler(Level.INFO).span_start("s")
    before = time.time_ns()
    thread = threading.Thread(target=profiler.span_end)
    thread.start()
    thread.join()
    (record,) = native.records()
    assert record[3] == thread.ident
    assert record[1] <= before <= record[2] <= before + 60_000_000_000


def test_facts_about_the_process(native, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(recorder, "on_meta", lambda *fact: told.append(fact))
    Profiler(Level.INFO).add_meta_info("dpRankId", 0).add_meta_info("none", None)
    assert told == [("dpRankId", "0"), ("none", "None")]
    assert recorder.meta == {"dpRankId": "0", "none": "None"}


@pytest.mark.parametrize(
    ("configured", "level", "on"),
    [
        (20, Level.INFO, True),
        (20, Level.L2, False),
        (10, Level.INFO, False),
        (10, Level.ERROR, True),
        (30, 30, True),
        (30, 31, False),
        (20, "INFO", True),
        (20, "detailed", False),
        (20, "nonsense", True),
        (10, None, False),
    ],
)
def test_rows_up_to_the_configured_level(recording, configured, level, on) -> None:
    recording.native(configured)
    profiler = Profiler(level).add_meta_info("k", 1).event("e").span_start("s").span_end()
    assert profiler.enable is on
    assert len(recording.rows()) == (2 if on else 0)
    assert recorder.meta == ({"k": "1"} if on else {})


def test_rows_of_the_configured_domains(recording) -> None:
    recording.native(20, "A", "B")
    for domain in ("A", "B", "C"):
        Profiler(Level.INFO).domain(domain).event("e")
    Profiler(Level.INFO).event("no domain")
    assert [row[3] for row in recording.rows()] == ["A", "B"]
    assert [Profiler(Level.INFO).domain(domain).enable for domain in ("A", "C")] == [True, False]
    assert Profiler(Level.INFO).domain("C").domain("A").enable is False


def test_what_is_switched_on_later_is_for_the_next_object(recording) -> None:
    early = Profiler(Level.INFO).span_start("early")
    recording.native()
    early.event("e").span_end()
    assert (early.enable, recording.rows()) == (False, [])
    late = Profiler(Level.INFO).span_start("late")
    recording.native_off()
    late.event("e").span_end()
    assert (late.enable, recording.records()) == (True, [])


def test_native_rows_that_open_while_spans_were_on_are_for_the_next_object(traces) -> None:
    early = Profiler(Level.INFO)
    traces.native()
    traces.traces_off()
    early.event("e").span_start("s").span_end()
    assert traces.records() == []


def test_nothing_is_done_when_nothing_is_on(recording) -> None:
    class Explosive:
        def __str__(self) -> str:
            raise AssertionError("looked at")

    value = Explosive()
    profiler = Profiler(value)
    profiler.domain(value).res(value).attr(value, value).metric(value, value).metric_inc(value, value)
    profiler.metric_scope(value, value).metric_scope_as_req_id().add_meta_info(value, value)
    profiler.link(value, value).launch().event(value).span_start(value).span_end()
    with profiler as entered:
        assert entered is profiler
    assert (profiler.enable, recording.records(), recorder.meta) == (False, [], {})


def test_a_full_queue_is_counted(native, monkeypatch) -> None:
    monkeypatch.setattr("ascend_opentelemetry.recorder._recorder.CAPACITY", 1)
    Profiler(Level.INFO).event("taken").event("dropped")
    assert (native.row()[0], recorder.dropped) == ("taken", 1)


def test_after_the_hooks_were_taken_out_it_goes_on(native) -> None:
    Profiler(Level.INFO).event("e")
    recorder.unregister_all()
    recorder.set_native(SimpleNamespace(profiler_level=20, domain=frozenset()))
    Profiler(Level.INFO).event("e")
    assert len(native.rows()) == 2
