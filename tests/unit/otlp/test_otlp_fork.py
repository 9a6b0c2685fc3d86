from __future__ import annotations

import subprocess
import sys
from typing import Any

from ascend_opentelemetry.otlp._otlp_transport import open_transport
from ascend_opentelemetry.otlp._transport import Outcome

# In a process of its own: the threads of the receivers must not be forked.
PROGRAM = """
import logging, os, sys
from opentelemetry.sdk.resources import Resource
from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.recorder._record import RecordType

kind, endpoint = sys.argv[1:]
if kind == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
logging.basicConfig(level=logging.INFO)

def records(name, count):
    return [(RecordType("d", name), 1, 2, 0, (1, number + 1, 0, 1), (), None) for number in range(count)]

sink = OtlpSink(OTLPSpanExporter(endpoint=endpoint, timeout=0.5), Resource({"process": "parent"}))
sink.write(records("before", 2))
assert sink.flush(3), sink.dropped
for _ in range(4):
    sink.write(records("pending", 3))
    pid = os.fork()
    if not pid:
        try:
            sink.after_fork()
            sink.set_resource(Resource({"process": "child"}))
            sink.write(records("child", 4))
            print(sink.flush(3), sink.exported, sink.dropped, flush=True)
            sink.shutdown(1)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    print(sink.flush(3), sink.exported, sink.dropped, flush=True)
sink.shutdown(1)
"""


def test_a_connection_is_not_taken_over(receiver: Any) -> None:
    transport = open_transport(receiver.exporter())
    assert transport is not None
    for _ in range(2):
        assert transport.send(b"", 0) == transport.send(b"", 0) == Outcome()
        transport.after_fork()
    assert transport.send(b"", 0) == Outcome()
    first, again, second, _, third = [headers[":peer"] for headers in receiver.headers]
    assert first == again
    assert len({first, second, third}) == 3
    transport.shutdown()


def test_parent_and_child_have_a_connection_each(receiver: Any) -> None:
    kind, endpoint = type(receiver).__name__[:4].lower(), receiver.exporter()._endpoint
    endpoint = endpoint if "://" in endpoint else f"http://{endpoint}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, endpoint], capture_output=True, text=True, timeout=20, check=False
    )
    rounds = [f"True 4 {{}}\nTrue {exported} {{}}\n" for exported in (5, 8, 11, 14)]
    assert (done.stdout, done.stderr) == ("".join(rounds), "")
    assert [
        (request.resource_spans[0].resource.attributes[0].value.string_value, span.name)
        for request in receiver.requests
        for scope in request.resource_spans[0].scope_spans
        for span in scope.spans
    ] == [("parent", "before")] * 2 + ([("child", "child")] * 4 + [("parent", "pending")] * 3) * 4
    parent, *others = [headers[":peer"] for headers in receiver.headers]
    assert others[1::2] == [parent] * 4
    assert len({parent, *others[::2]}) == 5
