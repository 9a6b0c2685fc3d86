from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from typing import Any, NamedTuple

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from ascend_opentelemetry.hooks import Timer, _timer, wrap
from ascend_opentelemetry.recorder import SAMPLED, STATUS_ERROR, STATUS_OK, RecordType, SpanExtra


class Window(NamedTuple):
    profiler_level: int = 20
    domain: frozenset[str] = frozenset()


def timed(function: Any, record_type: RecordType, values: Any = None) -> Any:
    return wrap(function, Timer(record_type, values), f"tests:{function.__name__}", "symbols.yaml:3")


def test_a_record_has_times_thread_ids_and_values(recorder, call_type, records) -> None:
    hook = timed(
        lambda *args, **kwargs: time.sleep(0.01) or "result",
        call_type,
        lambda args, kwargs, result: (args, tuple(kwargs.items()), result),
    )
    before = time.time_ns()
    hook(1, key=2)
    after = time.time_ns()
    ((record_type, start, end, thread, ids, values, extra),) = records()
    assert record_type is call_type
    assert before <= start <= end <= after
    assert end - start >= 10_000_000
    assert thread == threading.get_ident()
    assert ids[2:] == (0, SAMPLED)
    assert values == ((1,), (("key", 2),), "result")
    assert extra is None


def test_the_end_follows_the_monotonic_clock(call_type, records, monkeypatch) -> None:
    clocks = iter([1000, 50, 57])
    monkeypatch.setattr(_timer, "time_ns", lambda: next(clocks))
    monkeypatch.setattr(_timer, "monotonic_ns", lambda: next(clocks))
    timed(lambda: None, call_type)()
    ((_, start, end, *_),) = records()
    assert (start, end) == (1000, 1007)


def test_hooks_nest(call_type, records) -> None:
    inner = timed(lambda: None, call_type)
    timed(lambda: (inner(), inner()), call_type)()
    first, second, outer = [record[4] for record in records()]
    assert outer[2] == 0
    for ids in (first, second):
        assert (ids[0], ids[2]) == (outer[0], outer[1])
    assert first[1] != second[1]


def test_threads_have_parents_of_their_own(call_type, records) -> None:
    inner = timed(lambda: None, call_type)

    def start_thread() -> None:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    timed(start_thread, call_type)()
    other, outer = records()
    assert other[4][2] == 0
    assert other[3] != outer[3]


def test_tasks_inherit_their_parent(call_type, records) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    inner = timed(work, call_type)

    async def start_tasks() -> None:
        await asyncio.gather(inner(), inner())

    asyncio.run(timed(start_tasks, call_type)())
    *tasks, outer = [record[4] for record in records()]
    assert {ids[2] for ids in tasks} == {outer[1]}


def test_an_exception_is_an_error_of_the_span(call_type, records) -> None:
    def function() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        timed(function, call_type)()
    ((*_, extra),) = records()
    assert extra[:2] == (STATUS_ERROR, "ValueError: bad")
    ((name, _, attributes),) = extra.events
    assert (name, dict(attributes)["exception.type"]) == ("exception", "ValueError")


def test_what_the_program_sets_lands_in_the_record(call_type, records) -> None:
    def function() -> None:
        span = trace.get_current_span()
        assert span.is_recording()
        span.set_attribute("key", "value")
        span.add_event("event", {"n": 1}, timestamp=5)
        span.set_status(StatusCode.OK)

    timed(function, call_type)()
    ((*_, extra),) = records()
    assert extra == SpanExtra(STATUS_OK, "", [("event", 5, (("n", 1),))], attributes=(("key", "value"),))


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_sdk_spans_and_hooks_are_one_tree(tracer, exporter, call_type, records) -> None:
    def function() -> None:
        tracer.start_span("inner").end()

    with tracer.start_as_current_span("outer"):
        timed(function, call_type)()
    inner, outer = exporter.get_finished_spans()
    ((*_, ids, _, _),) = records()
    assert ids[0] == outer.context.trace_id == inner.context.trace_id
    assert (ids[2], inner.parent.span_id) == (outer.context.span_id, ids[1])


def test_below_an_unsampled_root_there_is_nothing(recorder, tracer, exporter, call_type, records) -> None:
    recorder.set_traces(True, step_ratio=0.0)
    inner = timed(lambda: tracer.start_span("deep").end(), call_type)

    def function() -> None:
        inner()
        tracer.start_span("inner").end()

    timed(function, call_type)()
    assert records() == []
    assert exporter.get_finished_spans() == ()


def test_native_rows_do_not_depend_on_sampling(recorder, call_type, records) -> None:
    recorder.set_native(Window())
    recorder.set_traces(True, step_ratio=0.0)
    inner = timed(lambda: None, call_type)
    timed(inner, call_type)()
    assert [record[4] for record in records()] == [None, None]
    recorder.set_traces(False)
    timed(lambda: None, call_type, lambda *_: ("value",))()
    ((_, start, end, _, ids, values, extra),) = records()
    assert start <= end
    assert (ids, values, extra) == (None, ("value",), None)


def test_a_window_that_closes_meanwhile_leaves_no_row(recorder, call_type, records) -> None:
    recorder.set_traces(False)
    recorder.set_native(Window())
    timed(lambda: recorder.set_native(None), call_type)()
    assert records() == []


def test_off_means_no_record(recorder, call_type, records) -> None:
    recorder.set_traces(False)
    timed(lambda: None, call_type)()
    assert records() == []


def test_a_full_queue_counts(recorder, call_type, records, monkeypatch) -> None:
    monkeypatch.setattr(_timer, "CAPACITY", 2)
    hook = timed(lambda: None, call_type)
    for _ in range(5):
        hook()
    assert (len(records()), recorder.dropped) == (2, 3)


def test_a_call_that_outlives_the_recorder_is_counted(recorder, call_type, records) -> None:
    recorder.start([])

    def function() -> None:
        recorder.shutdown(1)

    timed(function, call_type)()
    recorder.append = recorder.queue.append
    assert (records(), recorder.dropped) == ([], 1)


def test_a_function_that_leaks_a_context_does_not_leak_it_through_the_hook(call_type, records) -> None:
    def function() -> None:
        otel_context.attach(otel_context.set_value("key", "value"))

    timed(function, call_type)()
    assert otel_context.get_value("key") is None


def test_a_sampler_that_raises_costs_the_record_only(recorder, call_type, records, caplog) -> None:
    def sampler(*_: Any) -> bool:
        raise RuntimeError("sampler")

    recorder.set_traces(True, sampler)
    with caplog.at_level(logging.WARNING):
        assert timed(lambda: 5, call_type)() == 5
    assert records() == []
    assert "sampler" in caplog.text


def test_an_abandoned_coroutine_is_recorded_quietly(call_type, records, caplog) -> None:
    """Closed in another context than the one it started in."""

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> Any:
        coroutine = timed(forever, call_type)()
        asyncio.get_running_loop().call_soon(coroutine.send, None)
        await asyncio.sleep(0.01)
        return coroutine

    with caplog.at_level(logging.WARNING):
        coroutine = asyncio.run(main())
        coroutine.close()
        del coroutine
        gc.collect()
    assert caplog.records == []
    ((*_, extra),) = records()
    assert extra is None
