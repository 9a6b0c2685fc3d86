from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from opentelemetry.trace import SpanContext

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    KIND_SERVER,
    LEVEL_DETAILED,
    LEVEL_INFO,
    Recorder,
    RecordType,
    _recorder,
)


class Window(NamedTuple):
    profiler_level: int = LEVEL_INFO
    domain: frozenset[str] = frozenset()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.shutdown(1)


def switches(record_type: RecordType) -> tuple[bool, bool, bool]:
    return record_type.on, record_type.traces_on, record_type.native_on


def test_everything_is_off_at_first(recorder) -> None:
    step = recorder.register(RecordType("Execute", "step"))
    assert (recorder.on, recorder.traces_on, recorder.native) == (False, False, None)
    assert switches(step) == (False, False, False)


@pytest.mark.parametrize(
    ("window", "options", "native_on"),
    [
        (None, {}, False),
        (Window(), {}, True),
        (Window(), {"native": False}, False),
        (Window(), {"level": LEVEL_DETAILED}, False),
        (Window(profiler_level=LEVEL_DETAILED), {"level": LEVEL_DETAILED}, True),
        (Window(domain=frozenset({"Execute"})), {}, True),
        (Window(domain=frozenset({"KVCache"})), {}, False),
    ],
)
def test_native_switch(recorder, window, options, native_on) -> None:
    before = recorder.register(RecordType("Execute", "before", **options))
    recorder.set_native(window)
    after = recorder.register(RecordType("Execute", "after", **options))
    assert switches(before) == switches(after) == (native_on, False, native_on)
    assert recorder.on is (window is not None)
    recorder.set_native(None)
    assert switches(before) == (False, False, False)
    assert recorder.on is False


@pytest.mark.parametrize("traces", [True, False])
def test_traces_switch(recorder, traces) -> None:
    record_type = recorder.register(RecordType("Execute", "step", traces=traces))
    recorder.set_traces(True)
    assert switches(record_type) == (traces, traces, False)
    assert (recorder.on, recorder.traces_on) == (True, True)
    recorder.set_traces(False)
    assert switches(record_type) == (False, False, False)


def test_refresh_looks_again(recorder) -> None:
    record_type = recorder.register(RecordType("Execute", "step", native=False))
    recorder.set_native(Window())
    record_type.native = True
    recorder.refresh(record_type)
    assert record_type.native_on is True


def test_windows_are_counted(recorder) -> None:
    recorder.set_native(Window())
    recorder.set_native(None)
    recorder.set_native(Window())
    assert recorder.windows == 2


def test_unregistered_types_stay_off(recorder) -> None:
    record_type = recorder.register(RecordType("Execute", "step"))
    recorder.set_traces(True)
    recorder.unregister_all()
    assert switches(record_type) == (False, False, False)
    recorder.set_native(Window())
    assert switches(record_type) == (False, False, False)


def test_a_full_queue_drops_and_counts_with_one_warning(recorder, number, monkeypatch, caplog) -> None:
    monkeypatch.setattr(_recorder, "CAPACITY", 3)
    with caplog.at_level(logging.WARNING):
        for value in range(5):
            recorder.emit(number(value))
    assert [record[5] for record in recorder.queue] == [(0,), (1,), (2,)]
    assert recorder.dropped == 2
    (said,) = caplog.messages
    assert said == (
        "3 records wait already: new ones are dropped and counted until those are worked off; lower "
        "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, or leave symbols out of the symbols file"
    )


def test_records_reach_the_sinks(recorder, sink, number) -> None:
    recorder.emit(number(1))
    recorder.start([sink])
    recorder.emit(number(2))
    assert recorder.flush(5) is True
    assert sink.values == [1, 2]


def test_after_a_shutdown_records_are_counted_as_dropped(recorder, sink, number) -> None:
    step = recorder.register(RecordType("Execute", "step"))
    recorder.start([sink])
    recorder.set_traces(True)
    recorder.set_native(Window())
    recorder.emit(number(1))
    recorder.shutdown(5)
    assert sink.values == [1]
    assert (recorder.on, recorder.traces_on, recorder.native) == (False, False, None)
    assert switches(step) == (False, False, False)
    recorder.append(number(2))  # as a timer does that was in a call meanwhile
    recorder.emit(number(3))
    assert recorder.dropped == 2
    assert len(recorder.queue) == 0
    recorder.start([sink])
    recorder.emit(number(4))
    assert recorder.flush(5) is True
    assert sink.values == [1, 4]


@pytest.mark.parametrize("method", ["write", "commit"])
def test_what_a_hanging_sink_leaves_in_the_queue_is_counted(recorder, sink, number, until, method) -> None:
    sink.block[method] = threading.Event()
    for value in range(100):
        recorder.emit(number(value))
    recorder.start([sink])
    until(lambda: method in sink.calls)
    for value in range(200):
        recorder.emit(number(value))
    recorder.shutdown(0.2)
    assert recorder.dropped == {"write": 236, "commit": 200}[method]
    sink.block[method].set()
    recorder._drain._thread.join(5)
    assert len(sink.values) + recorder.dropped == 300


def test_records_that_a_sink_lost_are_counted(recorder, sink, number) -> None:
    sink.raises = {"write"}
    recorder.start([sink])
    recorder.emit(number(1))
    recorder.flush(5)
    assert recorder.lost == {"NotingSink": 1}


def test_the_sampler_is_asked_with_what_is_known(recorder) -> None:
    asked = []

    def sampler(trace_id, name, kind, attributes, parent) -> bool:
        asked.append((trace_id, name, kind, attributes, parent))
        return False

    parent = SpanContext(7, 8, is_remote=True)

    assert recorder.sample(1, "llm_request", KIND_SERVER, {"a": 1}) is True
    assert recorder.sample(7, "llm_request", KIND_SERVER, {}, parent) is False  # as it is not sampled there
    recorder.set_traces(True, sampler)
    assert recorder.sample(7, "llm_request", KIND_SERVER, {"a": 1}) is False
    assert recorder.sample(7, "llm_request", KIND_SERVER, {}, parent) is False
    recorder.root(RecordType("Execute", "step"))
    assert asked[:2] == [(7, "llm_request", KIND_SERVER, {"a": 1}, None), (7, "llm_request", KIND_SERVER, {}, parent)]
    assert [call[1:] for call in asked[2:]] == [("step", KIND_INTERNAL, {}, None)]


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 2000), (0.25, 500)])
def test_step_ratio(recorder, ratio, expected) -> None:
    recorder.set_traces(True, step_ratio=ratio)
    selected = sum(recorder.sample_step() for _ in range(2000))
    assert abs(selected - expected) <= (0 if ratio in (0.0, 1.0) else 150)


@pytest.mark.parametrize(("ratio", "sampled", "flags"), [(1.0, True, 1), (0.0, True, 0), (1.0, False, 0)])
def test_root_of_a_lone_timer(recorder, ratio, sampled, flags) -> None:
    recorder.set_traces(True, lambda *_: sampled, ratio)
    span = recorder.root(RecordType("Execute", "step"))
    assert (span.flags, span.parent_id) == (flags, 0)
    assert span.get_span_context().is_valid is True  # else SDK spans below an unsampled one would be roots


def test_meta_is_kept_and_passed_on(recorder) -> None:
    recorder.set_meta("a", "1")
    passed = []
    recorder.on_meta = lambda *entry: passed.append(entry)
    recorder.set_meta("b", "2")
    assert recorder.meta == {"a": "1", "b": "2"}
    assert passed == [("b", "2")]
