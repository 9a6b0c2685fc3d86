"""An endpoint that fails is waited for a moment only, and gets one more attempt when the process ends."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.otlp._otlp_transport import open_transport
from ascend_opentelemetry.otlp._transport import Transport
from ascend_opentelemetry.recorder import Drain
from ascend_opentelemetry.recorder._record import Record

Steps = Callable[..., list[Record]]
WaitFor = Callable[[Callable[[], Any]], None]
MakeSink = Callable[..., OtlpSink]


def refusal(receiver: Any, retry_after: int | None = None) -> Any:
    """An answer that may be tried again."""
    if isinstance(receiver.server, ThreadingHTTPServer):
        return 503, {} if retry_after is None else {"Retry-After": str(retry_after)}, b""

    def answer(context: grpc.ServicerContext) -> bytes:
        if retry_after is not None:
            info = RetryInfo(retry_delay=Duration(seconds=retry_after)).SerializeToString()
            context.set_trailing_metadata((("google.rpc.retryinfo-bin", info),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        return b""

    return answer


def opened(exporter: Any) -> Transport:
    transport = open_transport(exporter)
    assert transport is not None
    return transport


def seconds(function: Callable[[], Any]) -> float:
    started = time.monotonic()
    function()
    return time.monotonic() - started


def test_an_endpoint_fails_until_it_delivers(receiver: Any) -> None:
    transport = opened(receiver.exporter(timeout=0.5))
    assert not transport.failing
    receiver.answers = [refusal(receiver)]
    assert transport.send(b"", 1).cause == transport.outcome.cause != ""
    assert transport.failing
    assert transport.send(b"", 1).cause == transport.outcome.cause == ""
    assert not transport.failing
    transport.shutdown()


@pytest.mark.parametrize("retry_after", [None, 2])
def test_an_endpoint_that_says_when_to_come_again_does_not_fail(
    receiver: Any, wait_for: WaitFor, retry_after: int | None
) -> None:
    transport = opened(receiver.exporter())
    receiver.answers = [refusal(receiver, retry_after)]
    sending = threading.Thread(target=transport.send, args=(b"", 1))
    sending.start()
    wait_for(lambda: transport.outcome.cause)
    time.sleep(0.05)
    assert transport.failing is (retry_after is None)
    transport.shutdown()
    sending.join()
    assert transport.failing


def test_after_the_end_of_retries_each_request_is_one_attempt(receiver: Any, wait_for: WaitFor) -> None:
    transport = opened(receiver.exporter())
    receiver.answers = [refusal(receiver) for _ in range(3)]
    sending = threading.Thread(target=transport.send, args=(b"", 1))
    sending.start()
    wait_for(lambda: transport.outcome.cause)
    transport.end_retries()
    sending.join(0.5)
    assert not sending.is_alive()
    assert len(receiver.requests) == 1
    for attempts in (2, 3):
        assert seconds(lambda: transport.send(b"", 1)) < 0.5
        assert len(receiver.requests) == attempts
    assert transport.send(b"", 1).cause == ""
    transport.shutdown()


def test_a_flush_waits_a_moment_for_an_endpoint_that_fails(
    receiver: Any, make_sink: MakeSink, steps: Steps, wait_for: WaitFor
) -> None:
    receiver.answers = [refusal(receiver) for _ in range(20)]
    sink = make_sink(receiver.exporter(), max_batch=2, max_queue=2)
    sink.write(steps(2))
    wait_for(lambda: receiver.requests)
    sink.write(steps(3, first=3))  # two are sent, two wait, one is pending
    results: list[bool] = []
    assert seconds(lambda: results.append(sink.flush(5))) < 2
    assert results == [False]


def test_a_flush_waits_for_the_time_that_the_endpoint_asked_for(
    receiver: Any, make_sink: MakeSink, steps: Steps
) -> None:
    receiver.answers = [refusal(receiver, 1)]
    sink = make_sink(receiver.exporter())
    sink.write(steps(2))
    assert sink.flush(5)
    assert (sink.exported, sink.dropped) == (2, {})


def test_the_end_brings_each_waiting_request_one_attempt(
    receiver: Any, make_sink: MakeSink, steps: Steps, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [refusal(receiver)]
    sink = make_sink(receiver.exporter(), max_batch=2)
    sink.write(steps(6))
    wait_for(lambda: sink._sender._transport.failing)
    assert seconds(lambda: sink.shutdown(5)) < 2
    assert (sink.exported, sink.dropped) == (6, {})
    assert caplog.records == []


def test_the_end_of_an_endpoint_that_goes_on_failing_is_short_and_said_once(
    receiver: Any, make_sink: MakeSink, steps: Steps, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [refusal(receiver) for _ in range(20)]
    sink = make_sink(receiver.exporter(), max_batch=2)
    sink.write(steps(6))
    wait_for(lambda: sink._sender._transport.failing)
    assert seconds(lambda: sink.shutdown(5)) < 2
    assert (sink.exported, sink.dropped) == (0, {"export_failed": 6})
    assert len(receiver.requests) == 4  # the first one twice
    assert len(caplog.records) == 1


def test_a_new_connection_is_made_for_the_last_attempt(grpc_receiver: Any, make_sink: MakeSink, steps: Steps) -> None:
    exporter = grpc_receiver.exporter()
    grpc_receiver.stop()
    sink = make_sink(exporter)
    sink.write(steps(2))
    sink.request_flush()
    time.sleep(1.3)  # two attempts were made, and the channel waits for a second before it connects again
    again = type(grpc_receiver)(grpc_receiver.port)
    sink.shutdown(2)
    again.stop()
    assert (sink.exported, sink.dropped) == (2, {})


def test_a_forked_child_knows_nothing_of_the_failures_of_its_parent(receiver: Any) -> None:
    transport = opened(receiver.exporter(timeout=3))
    receiver.answers = [refusal(receiver)]
    transport.send(b"", 1)
    transport.end_retries()
    transport.after_fork()
    assert not transport.failing
    receiver.answers = [refusal(receiver, 0)]
    assert transport.send(b"", 1).cause == ""  # retries are on again
    transport.shutdown()


class Hanging(SpanExporter):
    """Fails a number of times, then gives no answer until it is shut down."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.answer = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        if self.failures:
            self.failures -= 1
            return SpanExportResult.FAILURE
        self.answer.wait(10)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.answer.set()


class LateSink(OtlpSink):
    """Comes back from its flush when the time is over."""

    def flush(self, timeout: float) -> bool:
        result = super().flush(timeout)
        time.sleep(0.05)
        return result


def test_spans_without_an_answer_at_the_end_are_counted_and_said(
    resource: Any, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    queue: deque[Record] = deque(steps(3))
    drain, sink = Drain(queue), LateSink(Hanging(), resource)
    drain.start([sink])
    assert seconds(lambda: drain.shutdown(0.3)) < 2
    assert (sink.exported, sink.dropped) == (0, {"shutdown": 3})
    (record,) = caplog.records
    assert record.message == (
        "Cannot export spans to Hanging: no answer (3 spans waited for it when the process ended). They are dropped "
        "and counted until it works again. Give the collector more resources, or raise OTEL_BSP_MAX_QUEUE_SIZE."
    )


def test_an_end_after_a_warning_says_nothing_more(
    make_sink: MakeSink, steps: Steps, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make_sink(Hanging(failures=1))
    sink.write(steps(3))
    assert not sink.flush(5)
    sink.write(steps(2))
    sink.shutdown(0.1)
    assert (sink.exported, sink.dropped) == (0, {"export_failed": 3, "shutdown": 2})
    assert len(caplog.records) == 1
