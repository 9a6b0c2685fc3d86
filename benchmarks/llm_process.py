"""One configuration of an in-process ``LLM`` that waits for rounds: what ``bench_llm`` starts.

A line on stdin runs one round; the answer is a line of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

PROMPTS, TOKENS = 8, 100


def prepare(way: str) -> Callable[[], Any]:
    """Switch telemetry on before vLLM is imported; gives what sends all that is pending."""
    if way == "ours":
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        from ascend_opentelemetry import VLLMInstrumentor
        from ascend_opentelemetry.distro import AscendConfigurator, AscendDistro
        from ascend_opentelemetry.recorder import recorder

        AscendDistro().configure()
        AscendConfigurator().configure()
        VLLMInstrumentor().instrument()
        # metrics go out when it is their time, once a minute, and not with all that a round leaves to be sent
        PeriodicExportingMetricReader.force_flush = lambda *_, **__: True
        return recorder.flush
    if way == "stock":
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
        trace.set_tracer_provider(provider)
        return provider.force_flush
    return lambda: None


def main(way: str, model: str) -> None:
    flush = prepare(way)
    from vllm import LLM, SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

    steps = 0
    original = LLMEngine.step

    def step(engine: Any) -> Any:
        nonlocal steps
        steps += 1
        return original(engine)

    LLMEngine.step = step
    endpoint = {"otlp_traces_endpoint": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]} if way == "stock" else {}
    llm = LLM(
        model, max_model_len=256, enforce_eager=True, max_num_seqs=PROMPTS, seed=0, disable_log_stats=False, **endpoint
    )
    params = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    prompts = [f"hello world {number}" for number in range(PROMPTS)]
    print(json.dumps({"ready": way}), flush=True)
    since = time.process_time()
    for _ in sys.stdin:
        idle = time.process_time() - since
        gc.collect()
        steps = 0
        wall, cpu = time.perf_counter(), time.process_time()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        done = time.process_time() - cpu
        flush()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(
            json.dumps({"cpu": cpu, "generate": done, "wall": wall, "steps": steps, "tokens": tokens, "idle": idle}),
            flush=True,
        )
        since = time.process_time()


if __name__ == "__main__":
    main(*sys.argv[1:])
