"""Cost of OTLP export: this package against the SDK.

    python benchmarks/bench_otlp.py [--rounds N]

Part 1 encodes the same 512 spans with 5 attributes, both ways in turn. Part 2 takes spans until a receiver in another
process has acknowledged them, same batch size and compression, and counts the CPU time of the whole process: tuple
records -> OtlpSink, and start_as_current_span -> BatchSpanProcessor -> OTLPSpanExporter. Hooks are not part of it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

BATCH = 512
SPANS = 8 * BATCH
KEYS = ("gen_ai.request.id", "vllm.batch.size", "vllm.tokens.scheduled", "vllm.phase", "vllm.kv_cache.usage")


def values(number: int) -> tuple[Any, ...]:
    return f"cmpl-{number // 8:024x}-0", number % 32, number * 7 % 8192, ("prefill", "decode")[number % 2], number / 7e5


def receive(protocol: str) -> None:
    """Acknowledge everything; prints the port first."""
    if protocol == "grpc":
        from concurrent import futures

        import grpc

        server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(lambda body, context: b"")
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
        server.wait_for_termination()
    else:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()


def interleaved(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(way())
    return times


def row(what: str, ours: list[float], sdk: list[float]) -> None:
    ratios = [theirs / mine for mine, theirs in zip(ours, sdk, strict=True)]
    print(
        f"{what:24}{statistics.median(ours):9.2f}{min(ours):9.2f}{statistics.median(sdk):9.2f}{min(sdk):9.2f}"
        f"{statistics.median(ratios):9.1f}   {min(ratios):.1f}-{max(ratios):.1f}"
    )


def head(title: str) -> None:
    print(f"\n{title}\n{'us a span':24}{'ours':>9}{'min':>9}{'SDK':>9}{'min':>9}{'ratio':>9}   spread")


def records(record_type: Any, first: int, count: int) -> list[Any]:
    bits, now = random.getrandbits, time.time_ns
    return [
        (record_type, now(), now(), 1, (bits(128), bits(64), bits(64), 1), values(number), None)
        for number in range(first, first + count)
    ]


def bench_encoding(rounds: int) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource

    from ascend_opentelemetry.otlp import SDK_SPAN, to_readable
    from ascend_opentelemetry.otlp._encoder import SpanEncoder
    from ascend_opentelemetry.recorder._record import RecordType

    record_type, resource = RecordType("execute", "execute_model", KEYS), Resource({"service.name": "vllm"})
    batches = [records(record_type, first * BATCH, BATCH) for first in range(8)]
    spans = [[to_readable(record, resource) for record in batch] for batch in batches]
    carried = [[(SDK_SPAN, 0, 0, 0, None, span, None) for span in batch] for batch in spans]
    encoder = SpanEncoder(resource)

    def ours(source: list[list[Any]]) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            for batch in source:
                encoder.add(batch)
                encoder.take()
            return (time.process_time() - start) / SPANS * 1e6

        return run

    def sdk() -> float:
        start = time.process_time()
        for batch in spans:
            encode_spans(batch).SerializeToString()
        return (time.process_time() - start) / SPANS * 1e6

    times = interleaved(rounds * 4, {"records": ours(batches), "spans": ours(carried), "sdk": sdk})
    head("Encoding, 5 attributes, CPU time")
    row("records", times["records"], times["sdk"])
    row("ReadableSpan objects", times["spans"], times["sdk"])


def exporter(protocol: str, port: int, gzip: bool) -> Any:
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        return OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", compression=compression)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    compression = Compression.Gzip if gzip else Compression.NoCompression
    return OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", compression=compression)


def bench_export(rounds: int, protocol: str, gzip: bool) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from ascend_opentelemetry.otlp import OtlpSink
    from ascend_opentelemetry.recorder._record import RecordType

    receiver = subprocess.Popen([sys.executable, __file__, "--receive", protocol], stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        resource = Resource({"service.name": "vllm"})
        sink = OtlpSink(exporter(protocol, port, gzip), resource, max_batch=BATCH, max_queue=SPANS)
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(
            BatchSpanProcessor(exporter(protocol, port, gzip), max_queue_size=SPANS, max_export_batch_size=BATCH)
        )
        tracer = provider.get_tracer("ascend_opentelemetry.execute")
        record_type = RecordType("execute", "execute_model", KEYS)

        def ours() -> float:
            queue: deque[Any] = deque()
            start = time.process_time()
            for first in range(0, SPANS, 64):
                queue.extend(records(record_type, first, 64))
                sink.write([queue.popleft() for _ in range(64)])
            assert sink.flush(30)
            return (time.process_time() - start) / SPANS * 1e6

        def sdk() -> float:
            start = time.process_time()
            for number in range(SPANS):
                with tracer.start_as_current_span("execute_model", attributes=dict(zip(KEYS, values(number)))):  # noqa: B905
                    pass
            assert provider.force_flush(30000)
            return (time.process_time() - start) / SPANS * 1e6

        interleaved(1, {"ours": ours, "sdk": sdk})
        times = interleaved(rounds, {"ours": ours, "sdk": sdk})
        assert sink.exported == SPANS * (rounds + 1), sink.dropped
        row(f"{protocol}, {'gzip' if gzip else 'no compression'}", times["ours"], times["sdk"])
        sink.shutdown(1)
        provider.shutdown()
    finally:
        receiver.kill()
        receiver.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--receive", choices=["grpc", "http"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        receive(options.receive)
        return
    bench_encoding(options.rounds)
    head(f"Until acknowledged, batches of {BATCH}, CPU time of the process")
    for protocol in ("http", "grpc"):
        for gzip in (False, True):
            bench_export(options.rounds, protocol, gzip)


if __name__ == "__main__":
    main()
