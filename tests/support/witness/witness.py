"""An independent observer of vLLM: wraps a few functions by plain assignment and logs what it sees.

It is a vLLM plugin (put this folder on ``PYTHONPATH``) and shares no code with the package under test. Each process
appends JSON lines to ``$WITNESS_DIR/<pid>.jsonl`` at once. ``WITNESS_STEP_MS`` makes every step that much slower.
``WITNESS_TAG`` adds a span processor to the provider of the process, as observability products do: it sets the attribute
``witness.tag`` when a span starts, and logs the spans that end.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def _log(kind: str, **fields: Any) -> None:
    path = Path(os.environ["WITNESS_DIR"]) / f"{os.getpid()}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"kind": kind, "time": time.time_ns(), **fields}) + "\n")


def _add_processor(tag: str) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

    class Tagging(SpanProcessor):
        def on_start(self, span: Span, parent_context: Any = None) -> None:
            parent = trace.get_current_span(parent_context).get_span_context().span_id
            span.set_attribute("witness.tag", tag)
            span.set_attribute("witness.parent", f"{parent:016x}" if parent else "")

        def on_end(self, span: ReadableSpan) -> None:
            _log("span", name=span.name, tag=(span.attributes or {}).get("witness.tag"))

    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(Tagging())


def install() -> None:
    """Entry point ``vllm.general_plugins``; runs in the API server, in EngineCore and in each worker."""
    if "WITNESS_DIR" not in os.environ:
        return
    if tag := os.environ.get("WITNESS_TAG"):
        _add_processor(tag)
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.metrics.stats import IterationStats

    schedule = Scheduler.schedule
    finished = IterationStats.update_from_finished_request

    def observed_schedule(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = schedule(self, *args, **kwargs)
        if output.total_num_scheduled_tokens:
            _log("step", tokens=dict(output.num_scheduled_tokens))
        return output

    def observed_finished(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = finished(self, *args, **kwargs)
        stats = self.finished_requests[-1]
        first_token = kwargs["req_stats"].first_token_latency
        fields = {
            name: getattr(stats, name, None)  # the last one is not in older versions
            for name in ("e2e_latency", "queued_time", "prefill_time", "decode_time", "num_prompt_tokens",
                         "num_generation_tokens", "num_preemptions")
        }  # fmt: skip
        _log("finished", request_id=getattr(stats, "request_id", None), time_to_first_token=first_token, **fields)
        return result

    if pause := float(os.environ.get("WITNESS_STEP_MS", 0)) / 1e3:
        # else, on a busy machine, the API server takes outputs as fast as they come and answers late, instrumented
        # or not: its output loop does not yield while outputs wait
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        execute = GPUModelRunner.execute_model

        def slow_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
            time.sleep(pause)
            return execute(self, *args, **kwargs)

        GPUModelRunner.execute_model = slow_execute
    Scheduler.schedule = observed_schedule
    IterationStats.update_from_finished_request = observed_finished
