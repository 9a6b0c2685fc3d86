"""A small OTLP receiver for tests and the demo: HTTP/protobuf and gRPC, on the loopback interface.

What arrives is appended as OTLP/JSON, one export request a line: traces to the given file, metrics and logs to
files beside it (``x.jsonl`` -> ``x.metrics.jsonl``, ``x.logs.jsonl``).

``python -m devtools.otlp_receiver --file FILE`` prints the endpoints and runs until it is interrupted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import json
import signal
import socket
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from devtools.otlp_json import Span, read_lines, read_spans

try:
    import grpc
except ImportError:  # the receiver then speaks HTTP only
    grpc = None

#: Message classes of each signal: what comes in, what goes back.
MESSAGES: dict[str, tuple[Any, Any]] = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}
_HEX_KEYS = ("traceId", "spanId", "parentSpanId")


class OtlpReceiver:
    """Receives while the ``with`` block runs.

    Args:
        path: file of the traces; it is appended to.
        http_port: port of OTLP/HTTP; 0 for a free one.
        grpc_port: port of OTLP/gRPC; 0 for a free one.

    Attributes:
        delay: seconds before each answer.
        http_status: status of each HTTP answer; data is only kept with 200.
        grpc_status: name of the code of each gRPC answer; data is only kept with ``OK``.
        fail_first: number of requests, from the first one, that get those two; None for all.
        retry_after: seconds after which a refused request may come again, told with HTTP 429 and 503 and gRPC
            RESOURCE_EXHAUSTED and UNAVAILABLE; None to tell nothing. HTTP has whole seconds only.
        rejected: number of spans that the answer to a kept trace request says were rejected, and its message.
        close_mid_body: the HTTP answer to a kept request is cut after half of its body.
        received: number of export requests kept, by signal.
        refused: number of export requests refused by ``http_status`` or ``grpc_status``, by signal.
        encodings: number of HTTP requests by ``Content-Encoding``.
    """

    def __init__(self, path: Path, *, http_port: int = 0, grpc_port: int = 0) -> None:
        self.path = Path(path)
        self.delay = 0.0
        self.http_status = 200
        self.grpc_status = "OK"
        self.fail_first: int | None = None
        self.retry_after: float | None = None
        self.rejected: tuple[int, str] | None = None
        self.close_mid_body = False
        self.received: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.encodings: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _HttpServer(self, http_port)
        self.http_endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._grpc, port = _grpc_server(self, grpc_port) if grpc is not None else (None, None)
        self.grpc_endpoint = f"http://127.0.0.1:{port}" if port else None

    def __enter__(self) -> OtlpReceiver:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        if self._grpc:
            self._grpc.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.close_all()
        if self._grpc:
            self._grpc.stop(grace=None).wait()

    def file(self, signal_name: str = "traces") -> Path:
        """The file of a signal: ``traces``, ``metrics`` or ``logs``."""
        return self.path if signal_name == "traces" else self.path.with_suffix(f".{signal_name}{self.path.suffix}")

    def spans(self) -> list[Span]:
        """The spans received so far, in order."""
        with self._lock:
            return read_spans(self.path)

    def requests(self, signal_name: str) -> list[dict[str, Any]]:
        """The export requests of a signal received so far, as OTLP/JSON."""
        with self._lock:
            return read_lines(self.file(signal_name))

    def wait_delay(self) -> None:
        """Sleeps for ``delay`` seconds, or until the receiver closes."""
        self._closing.wait(self.delay)

    def keep(self, signal_name: str, message: Any) -> None:
        """Appends one export request to the signal's file."""
        line = json.dumps(to_json(message), separators=(",", ":"))
        with self._lock, self.file(signal_name).open("a") as file:
            file.write(line + "\n")
            self.received[signal_name] += 1

    def refuses(self, signal_name: str) -> bool:
        """Whether the next request gets an error for an answer; if so, it is counted."""
        with self._lock:
            if self.fail_first is not None and self.refused.total() >= self.fail_first:
                return False
            self.refused[signal_name] += 1
            return True

    def response(self, signal_name: str) -> Any:
        """The answer to a request that was kept."""
        response = MESSAGES[signal_name][1]()
        if self.rejected and signal_name == "traces":
            response.partial_success.rejected_spans, response.partial_success.error_message = self.rejected
        return response


def to_json(message: Any) -> Any:
    """An OTLP message as OTLP/JSON: protobuf's JSON with ids in hex and enums as numbers."""
    return _hex_ids(MessageToDict(message, use_integers_for_enums=True))


def _hex_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: base64.b64decode(value).hex() if key in _HEX_KEYS and isinstance(value, str) else _hex_ids(value)
            for key, value in node.items()
        }
    return [_hex_ids(item) for item in node] if isinstance(node, list) else node


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, receiver: OtlpReceiver, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.receiver = receiver
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An exporter that gave up while it waited is no news."""

    def close_all(self) -> None:
        """Closes the listening socket and the connections that exporters keep open."""
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        receiver = cast("_HttpServer", self.server).receiver
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        encoding = self.headers.get("Content-Encoding", "identity")
        receiver.encodings[encoding] += 1
        signal_name = self.path.rsplit("/", 1)[-1]
        receiver.wait_delay()
        if signal_name not in MESSAGES:
            return self._answer(404)
        if receiver.http_status != 200 and receiver.refuses(signal_name):
            return self._answer(receiver.http_status, retry_after=receiver.retry_after)
        try:
            message = MESSAGES[signal_name][0].FromString(_decompress(body, encoding))
        except (DecodeError, OSError, zlib.error, ValueError):
            return self._answer(400)
        receiver.keep(signal_name, message)
        if receiver.close_mid_body:
            return self._answer_half()
        return self._answer(200, receiver.response(signal_name).SerializeToString())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keeps stderr quiet."""

    def _answer_half(self) -> None:
        self._answer(200, b"half", length=8)
        self.close_connection = True

    def _answer(
        self, status: int, body: bytes = b"", *, length: int | None = None, retry_after: float | None = None
    ) -> None:
        self.send_response(status)
        if retry_after is not None and status in (429, 503):
            self.send_header("Retry-After", str(round(retry_after)))
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return body
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    raise ValueError(f"unknown Content-Encoding {encoding}")


def _retry_info(seconds: float) -> bytes:
    from google.rpc.error_details_pb2 import RetryInfo  # comes with the gRPC exporter

    info = RetryInfo()
    info.retry_delay.FromNanoseconds(round(seconds * 1e9))
    return info.SerializeToString()


def _grpc_server(receiver: OtlpReceiver, port: int) -> tuple[Any, int]:
    assert grpc is not None
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])

    def handler(signal_name: str, request: Any, response: Any) -> Any:
        def export(message: Any, context: Any) -> Any:
            receiver.wait_delay()
            status = receiver.grpc_status
            if status != "OK" and receiver.refuses(signal_name):
                if receiver.retry_after is not None and status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
                    context.set_trailing_metadata((("google.rpc.retryinfo-bin", _retry_info(receiver.retry_after)),))
                context.abort(grpc.StatusCode[status], "injected by the test")
            receiver.keep(signal_name, message)
            return receiver.response(signal_name)

        return grpc.unary_unary_rpc_method_handler(
            export, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    for signal_name, (request, response) in MESSAGES.items():
        service = request.DESCRIPTOR.full_name.replace(request.DESCRIPTOR.name, "")
        service += request.DESCRIPTOR.name.removeprefix("Export").removesuffix("Request")
        methods = {"Export": handler(signal_name, request, response)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    return server, server.add_insecure_port(f"127.0.0.1:{port}")


def main() -> None:
    """Runs a receiver until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="devtools.otlp_receiver", description="A small OTLP receiver on the loopback")
    parser.add_argument("--file", type=Path, required=True, help="file that gets the traces as OTLP/JSON lines")
    parser.add_argument("--http-port", type=int, default=0, help="port of OTLP/HTTP (default: a free one)")
    parser.add_argument("--grpc-port", type=int, default=0, help="port of OTLP/gRPC (default: a free one)")
    options = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    # blocked before the first thread exists, so that sigwait alone gets them
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with OtlpReceiver(options.file, http_port=options.http_port, grpc_port=options.grpc_port) as receiver:
        print(f"http {receiver.http_endpoint}", flush=True)
        print(f"grpc {receiver.grpc_endpoint or 'not available: no grpcio'}", flush=True)
        signal.sigwait(signals)
        print(f"received {dict(receiver.received)}", flush=True)


if __name__ == "__main__":
    main()
