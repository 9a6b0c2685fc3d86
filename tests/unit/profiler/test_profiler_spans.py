"""Spans and events as OTel sees them: parents, the current span, sampling, failures."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from ascend_opentelemetry.profiler import Level, Profiler
from ascend_opentelemetry.recorder import STATUS_ERROR, RecordSpan, recorder


def start(name: str = "s") -> Profiler:
    return Profiler(Level.INFO).domain("D").span_start(name)


def by_name(records):
    """Name -> trace, span and parent id."""
    return {record[0].name: record[4] and record[4][:3] for record in records}


def test_a_span_has_scope_kind_and_times(traces) -> None:
    before = time.time_ns()
    with start():
        pass
    (record,) = traces.records()
    assert (record[0].name, record[0].scope, record[0].kind) == ("s", "ascend_opentelemetry.D", 1)
    assert before <= record[1] <= record[2]
    assert record[3] == threading.get_ident()
    assert (record[4][2], record[4][3], record[6]) == (0, 1, None)


def test_blocks_nest(traces) -> None:
    with start("outer") as outer, start("inner"):
        assert outer.enable is True
    spans = by_name(traces.records())
    assert spans["inner"][0] == spans["outer"][0]
    assert (spans["inner"][2], spans["outer"][2]) == (spans["outer"][1], 0)


def test_a_span_that_is_started_within_the_block_is_current_too(traces) -> None:
    with Profiler(Level.INFO) as outer:
        outer.span_start("outer")
        with start("inner"):
            pass
    spans = by_name(traces.records())
    assert spans["inner"][2] == spans["outer"][1]


def test_spans_one_after_the_other_in_a_block_are_siblings(traces) -> None:
    with Profiler(Level.INFO) as profiler:
        profiler.span_start("one").span_end().span_start("two").span_end()
        assert trace.get_current_span() is trace.INVALID_SPAN
    spans = by_name(traces.records())
    assert (spans["one"][2], spans["two"][2]) == (0, 0)


def test_without_a_block_a_span_is_not_current(traces) -> None:
    first = start("first")
    assert trace.get_current_span() is trace.INVALID_SPAN
    second = start("second")
    first.span_end()
    second.span_end()
    spans = by_name(traces.records())
    assert (spans["first"][2], spans["second"][2]) == (0, 0)
    assert spans["first"][0] != spans["second"][0]


def test_without_a_block_a_span_is_a_child_of_what_is_current_at_its_start(traces) -> None:
    with start("outer"):
        inner = start("inner")
    inner.span_end()
    spans = by_name(traces.records())
    assert spans["inner"][2] == spans["outer"][1]


def test_spans_of_the_sdk_are_parents_and_children(traces) -> None:
    tracer = TracerProvider().get_tracer("sdk")
    with tracer.start_as_current_span("parent") as parent, start(), tracer.start_as_current_span("child") as child:
        pass
    (record,) = traces.records()
    context = parent.get_span_context()
    assert record[4][::2] == (context.trace_id, context.span_id)
    assert (child.parent.span_id, child.parent.trace_id) == (record[4][1], context.trace_id)


@pytest.mark.parametrize("how", ["sdk", "suppressed", "root", "sampler"])
def test_below_what_is_not_sampled_nothing_is(recording, how) -> None:
    recording.native()
    recording.traces(**{"root": {"step_ratio": 0.0}, "sampler": {"sampler": lambda *_: False}}.get(how, {}))
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("sdk")
    around = {"sdk": lambda: tracer.start_as_current_span("x"), "suppressed": suppress_instrumentation}.get(how, start)
    with around(), start("inner") as inner:
        assert not trace.get_current_span().is_recording()
        inner.event("e")
        Profiler(Level.INFO).event("f")
    assert {record[4] for record in recording.records()} == {None}


def test_below_an_unsampled_root_nothing_becomes_a_root(recording) -> None:
    decisions = []
    recording.traces(sampler=lambda *question: decisions.append(question[1]) or False)
    with start("outer"), start("inner"):
        Profiler(Level.INFO).event("e")
    assert (decisions, recording.records()) == (["outer"], [])


def test_a_span_that_is_not_sampled_has_no_events_that_are_roots(recording) -> None:
    decisions = []
    recording.traces(sampler=lambda *question: decisions.append(question[1]) or False)
    start("outer").event("e").span_end()
    assert (decisions, recording.records()) == (["outer"], [])


def test_an_event_that_is_no_part_of_a_span_is_sampled(recording) -> None:
    decisions = []
    recording.traces(sampler=lambda *question: decisions.append(question[1]) or False)
    Profiler(Level.INFO).event("e")
    assert (decisions, recording.records()) == (["e"], [])


def test_events_are_suppressed_with_instrumentation(recording) -> None:
    recording.native()
    recording.traces()
    with start(), suppress_instrumentation():
        Profiler(Level.INFO).event("e")
    event, span = recording.records()
    assert (event[0].name, event[4], span[6]) == ("e", None, None)


def test_a_span_that_is_started_again_is_one_span(traces) -> None:
    with start("first") as profiler:
        profiler.span_start("second")
    (record,) = traces.records()
    assert (record[0].name, record[4][2]) == ("second", 0)


def test_an_event_is_added_to_the_current_span(recording) -> None:
    recording.native()
    recording.traces()
    before = time.time_ns()
    with start("outer"):
        Profiler(Level.INFO).domain("E").res("r").metric("m", 1).event("e")
    event, span = recording.records()
    assert (event[0].name, event[4], event[0].rows(event)[0][4]) == ("e", None, '{"rid": "r", "m=": 1, "type": 0}')
    ((name, at, attributes),) = span[6].events
    assert (name, attributes, at) == ("e", (("rid", "r"), ("m", 1)), event[1])
    assert before <= at <= span[2]


def test_an_event_is_added_to_the_current_span_of_the_sdk(traces) -> None:
    with TracerProvider().get_tracer("sdk").start_as_current_span("x") as span:
        Profiler(Level.INFO).res(["a", "b"]).event("e")
    (event,) = span.events
    assert (event.name, dict(event.attributes)) == ("e", {"rid": ("a", "b")})
    assert traces.records() == []


def test_an_event_of_the_object_itself_is_added_to_its_open_span(traces) -> None:
    profiler = start()
    with start("current"):
        profiler.link("a", "b")
    profiler.span_end()
    current, span = traces.records()
    assert current[6] is None
    assert [(name, attributes) for name, _, attributes in span[6].events] == [("Link", (("from", "a"), ("to", "b")))]


def test_an_event_outside_of_spans_is_a_span_of_no_length(traces) -> None:
    Profiler(Level.INFO).domain("npu").metric("usage", 1).launch()
    (record,) = traces.records()
    assert (record[0].name, record[0].scope, record[2] - record[1]) == ("Launch", "ascend_opentelemetry.npu", 0)
    assert (record[4][2], record[4][3], list(record[0].attributes(record))) == (0, 1, [("usage", 1)])


def test_an_event_below_a_remote_parent_is_a_span_of_no_length(traces) -> None:
    context = trace.SpanContext(5, 6, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        Profiler(Level.INFO).event("e")
    (record,) = traces.records()
    assert (record[4][0], record[4][2]) == (5, 6)


def test_levels_and_domains_are_of_native_rows_only(recording) -> None:
    recording.native(10, "A")
    recording.traces()
    profiler = Profiler(Level.VERBOSE).domain("B").event("e")
    (record,) = recording.records()
    assert (profiler.enable, record[0].level, record[0].domain, record[0].native_on) == (True, 40, "B", False)
    assert record[4] is not None


def test_a_scope_that_is_switched_off_has_no_spans(recording) -> None:
    recording.native()
    recording.traces(scope_enabled=lambda scope: scope != "ascend_opentelemetry.D")
    with start():
        Profiler(Level.INFO).domain("D").event("e")
        Profiler(Level.INFO).domain("E").event("f")
    assert {record[0].name: record[4] is not None for record in recording.records()} == {
        "e": False, "f": True, "s": False,
    }  # fmt: skip


def test_what_the_program_sets_on_the_current_span_is_recorded(traces) -> None:
    with start():
        trace.get_current_span().set_attribute("k", "v")
    (record,) = traces.records()
    assert record[6].attributes == (("k", "v"),)


def test_an_exception_in_the_block_passes_and_is_the_status(recording) -> None:
    recording.native()
    recording.traces()
    with pytest.raises(LookupError, match="gone"), start():
        raise LookupError("gone")
    (record,) = recording.records()
    extra = record[6]
    assert (extra.status, extra.message) == (STATUS_ERROR, "LookupError: gone")
    assert [(name, dict(attributes)["exception.type"]) for name, _, attributes in extra.events] == [
        ("exception", "LookupError")
    ]
    assert record[0].rows(record)[0][2:] == ("s", "D", '{"type": 2}')


def test_an_exception_without_spans_passes_too(native) -> None:
    with pytest.raises(LookupError), start():
        raise LookupError
    assert native.row() == ("s", "D", '{"type": 2}')


def test_a_generator_that_is_closed_in_the_block_has_not_failed(traces) -> None:
    def generate():
        with start():
            yield 1

    generator = generate()
    next(generator)
    generator.close()
    (record,) = traces.records()
    assert record[6] is None


def test_a_coroutine_that_is_closed_from_elsewhere_is_recorded(traces, caplog) -> None:
    async def body():
        with start():
            await asyncio.sleep(0)

    coroutine = body()
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    assert list(by_name(traces.records())) == ["s"]
    assert caplog.messages == []


def test_tasks_have_spans_of_their_own(traces) -> None:
    async def inner(name: str) -> None:
        with start(name):
            await asyncio.sleep(0)
            Profiler(Level.INFO).event(f"in {name}")

    async def outer() -> None:
        with start("outer"):
            await asyncio.gather(inner("a"), inner("b"))

    asyncio.run(outer())
    records = {record[0].name: record for record in traces.records()}
    assert [records[name][4][2] for name in "ab"] == [records["outer"][4][1]] * 2
    assert [[event[0] for event in records[name][6].events] for name in "ab"] == [["in a"], ["in b"]]


def test_threads_have_spans_of_their_own(traces) -> None:
    def work() -> None:
        with start("thread"):
            pass

    with start("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    spans = by_name(traces.records())
    assert (spans["thread"][2], spans["thread"][0] != spans["main"][0]) == (0, True)


def test_a_span_that_ends_on_another_thread_keeps_its_ids(traces) -> None:
    profiler = start()
    thread = threading.Thread(target=profiler.span_end)
    thread.start()
    thread.join()
    (record,) = traces.records()
    assert (record[3], record[4][3]) == (thread.ident, 1)


def test_a_decorated_function(traces) -> None:
    @Profiler.span("forward", domain="Execute", level=Level.L0)
    def add(a: int, b: int = 1) -> int:
        """Add."""
        assert isinstance(trace.get_current_span(), RecordSpan)
        return a + b

    assert (add(1), add(1, b=2), add.__doc__, str(inspect.signature(add))) == (
        2,
        3,
        "Add.",
        "(a: 'int', b: 'int' = 1) -> 'int'",
    )
    records = traces.records()
    assert [(r[0].name, r[0].domain, r[0].level) for r in records] == [("forward", "Execute", 10)] * 2
    assert records[0][4][1] != records[1][4][1]


def test_a_decorated_function_that_fails(traces) -> None:
    @Profiler.span("f")
    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        fail()
    (record,) = traces.records()
    assert (record[6].status, record[6].message) == (STATUS_ERROR, "LookupError: gone")


def test_a_decorated_coroutine_function(traces) -> None:
    @Profiler.span("f")
    async def double(value: int) -> int:
        await asyncio.sleep(0.02)
        return value * 2

    assert inspect.iscoroutinefunction(double)
    assert asyncio.run(double(4)) == 8
    (record,) = traces.records()
    assert record[2] - record[1] >= 20_000_000


def test_a_decorator_looks_at_the_switches_at_each_call(recording) -> None:
    @Profiler.span("f")
    def call() -> bool:
        return recorder.on

    assert [call(), recording.native(), call(), recording.native_off(), call()] == [False, None, True, None, False]
    assert recording.row() == ("f", "", '{"type": 2}')


def test_generator_functions_are_left_as_they_are(traces, caplog) -> None:
    def generate():
        yield 1

    async def generate_async():
        yield 1

    assert [Profiler.span("f")(function) for function in (generate, generate_async)] == [generate, generate_async]
    assert [message.partition(" is a generator")[0].rpartition(".")[2] for message in caplog.messages] == [
        "generate",
        "generate_async",
    ]


def test_a_fault_of_ours_does_not_reach_the_program(recording, monkeypatch, caplog) -> None:
    recording.native()
    recording.traces()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("ascend_opentelemetry.profiler._profiler.record_type", broken)
    monkeypatch.setattr(recorder, "on_meta", broken)
    with start() as profiler:
        profiler.event("e").launch().link(1, 2).add_meta_info("k", 1).span_end()
    assert recording.records() == []
    assert caplog.messages == [
        "Profiler: a call failed and is not recorded; further failures are not told: RuntimeError: broken"
    ]
