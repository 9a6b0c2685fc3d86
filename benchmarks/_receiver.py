"""An OTLP endpoint in a process of its own that only takes and counts: what it costs does not disturb the others.

``python -m benchmarks._receiver`` prints its ports as JSON; for a line on stdin it prints the spans since the last one.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Receiver:
    """Receives while the ``with`` block runs; knows its endpoints and how many spans came."""

    def __enter__(self) -> Receiver:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._receiver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ports = json.loads(self._line())
        self.endpoints = {protocol: f"http://127.0.0.1:{port}" for protocol, port in ports.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def count(self) -> int:
        """Spans that came since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> None:
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/traces"):
                bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    def take(body: bytes, context: Any) -> bytes:
        bodies.append(body)
        return b""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    for signal, handler in (
        ("trace.v1.Trace", take),
        ("metrics.v1.Metrics", lambda *_: b""),
        ("logs.v1.Logs", lambda *_: b""),
    ):
        methods = {"Export": grpc.unary_unary_rpc_method_handler(handler)}
        service = f"opentelemetry.proto.collector.{signal}Service"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"http": http.server_port, "grpc": port}), flush=True)
    for _ in sys.stdin:
        taken, bodies[:] = bodies[:], []
        spans = 0
        for body in taken:
            request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        print(spans, flush=True)


if __name__ == "__main__":
    main()
