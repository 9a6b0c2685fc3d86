from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

from ascend_opentelemetry.otlp import SDK_SPAN, OtlpSink
from ascend_opentelemetry.otlp import _report as report_module
from ascend_opentelemetry.recorder._record import Record

Steps = Callable[..., list[Record]]
WaitFor = Callable[[Callable[[], Any]], None]
MakeSink = Callable[..., OtlpSink]


class Gate(SpanExporter):
    """An exporter that takes ``ReadableSpan`` objects once ``open`` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.suppressed: list[Any] = []
        self.threads: set[str] = set()
        self.resources: list[Resource] = []
        self.shutdowns = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.entered.set()
        self.suppressed.append(context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        self.threads.add(threading.current_thread().name)
        self.open.wait(5)
        self.batches.append([span.context.span_id for span in spans])
        self.resources += [span.resource for span in spans]
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.shutdowns += 1


def senders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ascend-otlp-sender"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    gate.open.set()
    yield gate
    gate.open.set()


def test_a_full_batch_goes_out_at_once(gate: Gate, make_sink: MakeSink, steps: Steps) -> None:
    sink = make_sink(gate, max_batch=4, delay=100)
    sink.write(steps(2))
    sink.write([(*steps(1)[0][:4], None, (), None)])  # no span
    sink.write(steps(9, first=3))
    assert sink.flush(2)
    assert gate.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]
    assert (sink.exported, sink.dropped) == (11, {})


def test_a_small_batch_goes_out_after_the_delay(
    gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor
) -> None:
    sink = make_sink(gate, delay=0.1)
    sink.commit()
    sink.write(steps(1))
    sink.commit()
    assert not gate.entered.wait(0.06)
    sink.write(steps(1, first=2))  # the first span counts
    time.sleep(0.06)
    sink.commit()
    wait_for(lambda: sink.exported == 2)
    assert gate.batches == [[1, 2]]


def test_request_flush_does_not_wait_for_the_delay(
    gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor
) -> None:
    sink = make_sink(gate, delay=100)
    sink.request_flush()
    sink.write(steps(1))
    sink.commit()
    sink.request_flush()
    wait_for(lambda: gate.batches == [[1]])
    with sink._batching:  # as if the drain were writing
        sink.request_flush()
    sink.write(steps(1, first=2))
    assert gate.batches == [[1]]
    sink.commit()
    wait_for(lambda: gate.batches == [[1], [2]])
    sink.write(steps(1, first=3))
    sink.commit()
    assert sink._batch.count == 1


def test_a_slow_endpoint_costs_spans_and_no_time(
    gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    gate.open.clear()
    sink = make_sink(gate, max_batch=2, max_queue=6)
    started = time.monotonic()
    sink.write(steps(2))
    assert gate.entered.wait(2)
    with caplog.at_level(logging.INFO, "ascend_opentelemetry"):
        for first in range(3, 43, 4):
            sink.write(steps(4, first=first))
            sink.commit()
            sink.request_flush()
        assert time.monotonic() - started < 0.5
        assert sink.dropped == {"queue_full": 34}
        assert not sink.flush(0.01)
        gate.open.set()
        assert sink.flush(2)
    assert sink.exported == 8
    assert gate.batches == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "queue_full (6 spans wait already)" in caplog.records[0].message
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in caplog.records[0].message


def test_flush_waits_for_room_and_tells_what_was_lost(
    gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor
) -> None:
    gate.open.clear()
    sink = make_sink(gate, max_batch=2, max_queue=2)
    sink.write(steps(2))
    assert gate.entered.wait(2)
    sink.write(steps(3, first=3))  # two are being sent, two wait, one is pending
    threading.Timer(0.05, gate.open.set).start()
    assert sink.flush(2)
    assert (sink.exported, sink.dropped) == (5, {})
    assert gate.batches[-1] == [5]
    gate.result = SpanExportResult.FAILURE
    sink.write(steps(1))
    assert not sink.flush(2)
    assert sink.dropped["export_failed"] == 1


def test_sending_is_suppressed_and_has_its_own_thread(
    gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor
) -> None:
    wait_for(lambda: not senders())  # those of other tests
    sink = make_sink(gate)
    assert senders() == []
    sink.write(steps(1))
    assert sink.flush(2)
    assert gate.suppressed == [True]
    assert gate.threads == {"ascend-otlp-sender"}
    assert [thread.daemon for thread in senders()] == [True]


def test_shutdown_sends_the_rest(gate: Gate, make_sink: MakeSink, steps: Steps) -> None:
    sink = make_sink(gate)
    sink.write(steps(3))
    sink.shutdown(2)
    sink.shutdown(2)
    assert (sink.exported, sink.dropped, gate.shutdowns) == (3, {}, 1)
    sink.write(steps(2))
    sink.request_flush()
    assert sink.dropped == {"already_shutdown": 2}
    started = time.monotonic()
    sink.flush(5)
    assert time.monotonic() - started < 1
    assert gate.batches == [[1, 2, 3]]


def test_shutdown_is_bounded(gate: Gate, make_sink: MakeSink, steps: Steps, wait_for: WaitFor) -> None:
    gate.open.clear()
    sink = make_sink(gate, max_batch=2, max_queue=4)
    sink.write(steps(2))
    assert gate.entered.wait(2)
    sink.write(steps(5, first=3))
    started = time.monotonic()
    sink.shutdown(0.1)
    assert time.monotonic() - started < 0.5
    assert sink.dropped == {"queue_full": 1, "shutdown": 6}
    gate.open.set()
    wait_for(lambda: not senders())
    assert (sink.exported, sink.dropped) == (0, {"queue_full": 1, "shutdown": 6})
    assert sink.flush(5)


def test_one_warning_a_cause_until_it_recovers(
    gate: Gate, make_sink: MakeSink, steps: Steps, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_sink(gate)

    def send(result: SpanExportResult | Exception) -> list[tuple[str, str]]:
        gate.result = result
        caplog.clear()
        sink.write(steps(10))
        sink.flush(2)
        return [(record.levelname, record.message) for record in caplog.records]

    failure = "Cannot export spans to Gate: {}. They are dropped and counted until it works again. {}"
    hint = "See the log of the collector."
    with caplog.at_level(logging.INFO, "ascend_opentelemetry"):
        assert send(SpanExportResult.FAILURE) == [("WARNING", failure.format("not sent (no details)", hint))]
        assert send(SpanExportResult.FAILURE) == []
        assert send(RuntimeError("broken")) == [("WARNING", failure.format("RuntimeError (broken)", hint))]
        assert send(RuntimeError("broken again")) == []
        assert send(SpanExportResult.FAILURE) == []
        assert send(SpanExportResult.SUCCESS) == [("INFO", "Spans reach Gate again; 50 were lost.")]
        assert send(SpanExportResult.SUCCESS) == []
        # one that comes and goes is not named each time
        assert send(SpanExportResult.FAILURE) == []
        assert send(SpanExportResult.SUCCESS) == []
        monkeypatch.setattr(report_module, "_QUIET", 0.0)
        assert len(send(SpanExportResult.FAILURE)) == 1
        assert send(SpanExportResult.SUCCESS) == [("INFO", "Spans reach Gate again; 20 were lost.")]
    assert sink.dropped == {"export_failed": 70}
    assert sink.exported == 40


def test_a_record_that_cannot_be_encoded_is_counted(
    receiver: Any, make_sink: MakeSink, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make_sink(receiver.exporter())
    sink.write([*steps(1), (*steps(1)[0][:4], (-1, 0, 0, 0), (), None), *steps(1)])
    assert sink.flush(2)
    assert (sink.exported, sink.dropped) == (2, {"encode_failed": 1})
    assert receiver.names() == ["engine.step", "engine.step"]


def test_a_new_resource(gate: Gate, make_sink: MakeSink, resource: Resource, steps: Steps) -> None:
    sink = make_sink(gate)
    other = Resource({"process.pid": 8})
    sink.write(steps(1))
    sink.set_resource(other)
    sink.write(steps(1))
    assert sink.flush(2)
    assert gate.resources == [resource, other]


def test_the_standard_variables_set_the_batches(
    gate: Gate, make_sink: MakeSink, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", " 3 ")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "7")
    sink = make_sink(gate, max_batch=100, delay=9, max_queue=100)
    assert (sink._max_batch, sink._delay, sink._sender._max_queue) == (3, 0.05, 7)


@pytest.mark.parametrize("value", ["0", "-5", "many", "1.5", "\u00b2"])
def test_a_bad_setting_gives_the_default_and_a_warning(
    gate: Gate, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", value)
    sink = make_sink(gate)
    assert (sink._max_batch, sink._delay, sink._sender._max_queue) == (512, 1.0, 2048)
    assert [record.message for record in caplog.records] == [
        f"OTEL_BSP_SCHEDULE_DELAY={value!r} is not a whole number above 0; 1000 is used."
    ]


def test_a_batch_is_not_larger_than_the_queue(
    gate: Gate, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "5")
    assert make_sink(gate)._max_batch == 5
    assert "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=512 is more than OTEL_BSP_MAX_QUEUE_SIZE=5" in caplog.text


def test_import_loads_no_transport() -> None:
    code = (
        "import sys, ascend_opentelemetry.otlp\n"
        "print([name for name in ('grpc', 'requests', 'google.protobuf') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("kind", ["gate", "http_receiver"])
def test_spans_are_not_kept(kind: str, request: pytest.FixtureRequest, make_sink: MakeSink, resource: Resource) -> None:
    target = request.getfixturevalue(kind)
    sink = make_sink(target if kind == "gate" else target.exporter())
    span = ReadableSpan("s", SpanContext(1, 2, False), resource=resource, start_time=1, end_time=2)
    kept = weakref.ref(span)
    sink.write([(SDK_SPAN, 1, 2, 0, None, span, None)])
    del span
    assert sink.flush(2)
    gc.collect()
    assert kept() is None
    assert sink.exported == 1
