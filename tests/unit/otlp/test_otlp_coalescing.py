"""Small requests that queue up behind a slow one leave as one."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from ascend_opentelemetry.otlp._encoder import SpanEncoder
from ascend_opentelemetry.otlp._sender import Sender
from ascend_opentelemetry.otlp._transport import Outcome
from ascend_opentelemetry.recorder import RecordType

TYPE = RecordType("Domain", "name", ("index",))


class SlowTransport:
    """Holds its first request until it is let go."""

    takes_bytes = True
    endpoint = "nowhere"
    failing = False
    outcome = Outcome()

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []
        self.started = threading.Event()
        self.go_on = threading.Event()

    def send(self, payload: bytes, spans: int) -> Outcome:
        self.started.set()
        assert self.go_on.wait(5)
        self.sent.append((payload, spans))
        return Outcome("", "", 0)

    def shutdown(self) -> None: ...


def payload(index: int) -> bytes:
    encoder = SpanEncoder(Resource({"service.name": "test"}))
    encoder.add([(TYPE, 1, 2, 3, (index + 1, index + 1, 0, 1), (index,), None)])
    return encoder.take()


def indexes(content: bytes) -> list[int]:
    message: Any = ExportTraceServiceRequest.FromString(content)
    return [
        span.attributes[0].value.int_value
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_waiting_payloads_leave_together_up_to_a_batch() -> None:
    transport: Any = SlowTransport()
    sender = Sender(transport, max_queue=100, max_batch=3)
    sender.put(payload(0), 1)
    assert transport.started.wait(5)
    for index in range(1, 6):
        sender.put(payload(index), 1)
    transport.go_on.set()
    assert sender.flush(5)
    assert [(indexes(content), spans) for content, spans in transport.sent] == [
        ([0], 1), ([1, 2, 3], 3), ([4, 5], 2),
    ]  # fmt: skip
    assert sender.exported == 6
    sender.close(1)
