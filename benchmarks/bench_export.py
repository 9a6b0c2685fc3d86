"""A span from the hook until an OTLP endpoint in another process has acknowledged it: CPU time of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ascend_opentelemetry.otlp import OtlpSink
from ascend_opentelemetry.recorder import recorder
from benchmarks import bench_otlp
from benchmarks._receiver import Receiver
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds
from benchmarks.bench_hook import KEYS, execute_with, timer
from benchmarks.bench_otlp import BATCH, SPANS, values

RESOURCE = Resource({"service.name": "vllm"})


def run(quick: bool) -> bool:
    """Measure and print; whether the goals are met."""
    measured: dict[str, list[float]] = {}
    rows: list[tuple[str, list[float], float | None]] = []
    hook = timer(execute_with, KEYS)
    with Receiver() as receiver:
        for protocol in ("http", "grpc"):
            for gzip in (False, True):
                name = f"{protocol}, gzip" if gzip else protocol
                ways = _ways(hook, receiver, protocol, gzip)
                times = interleaved(5 if quick else 15, {f"{way}, {name}": call for way, call in ways.items()})
                measured |= times
                ours, sdk = times
                rows.append((f"hook to acknowledgement / SDK, {name}", _ratios(times, ours, sdk), 1 / 5))
    show_rounds(f"Hook to acknowledgement, 5 attributes, batches of {BATCH}", "us a span, process CPU", measured)
    return show_ratios(rows)


def _ratios(times: dict[str, list[float]], ours: str, sdk: str) -> list[float]:
    return per_round(times, lambda mine, theirs: mine / theirs, ours, sdk)


def _ways(hook: Callable[..., Any], receiver: Receiver, protocol: str, gzip: bool) -> dict[str, Callable[[], float]]:
    port = int(receiver.endpoints[protocol].rpartition(":")[2])

    def exporter() -> Any:
        return bench_otlp.exporter(protocol, port, gzip)

    def measure(spans: Callable[[], None], flush: Callable[[], bool]) -> float:
        start = time.process_time()
        spans()
        assert flush()
        spent = (time.process_time() - start) / SPANS * 1e6
        acknowledged = receiver.count()
        assert acknowledged == SPANS, f"{acknowledged} of {SPANS} spans arrived"
        return spent

    def ours() -> float:
        recorder.start([OtlpSink(exporter(), RESOURCE, max_batch=BATCH, max_queue=SPANS)])
        recorder.set_traces(True)

        def spans() -> None:
            for number in range(SPANS):
                hook(*values(number))

        try:
            return measure(spans, lambda: recorder.flush(30))
        finally:
            recorder.shutdown(1)

    def sdk() -> float:
        provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter(), max_queue_size=SPANS, max_export_batch_size=BATCH))
        tracer = provider.get_tracer(__name__)

        def spans() -> None:
            for number in range(SPANS):
                args = values(number)
                with tracer.start_as_current_span("execute_with", attributes=dict(zip(KEYS, args, strict=True))):
                    execute_with(*args)

        try:
            return measure(spans, lambda: provider.force_flush(30_000))
        finally:
            provider.shutdown()

    return {"ours": ours, "SDK": sdk}
