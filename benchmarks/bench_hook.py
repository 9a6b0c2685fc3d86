"""A hook around a function that does nothing, against the SDK's span around it: CPU time of the calling thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ascend_opentelemetry import symbols
from ascend_opentelemetry.hooks import Timer, TimerSlot, wrap
from ascend_opentelemetry.recorder import RecordSpan, RecordType, detach, make_current, recorder
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds

KEYS = ("gen_ai.request.id", "vllm.batch.size", "vllm.tokens.scheduled", "vllm.phase", "vllm.kv_cache.usage")
VALUES = ("cmpl-4a5b6c7d8e9f-0", 8, 512, "decode", 0.25)


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def execute() -> None: ...


def execute_with(request: str, batch: int, tokens: int, phase: str, usage: float) -> None: ...


def timer(function: Callable[..., Any], keys: Sequence[str] = ()) -> Callable[..., Any]:
    """The hook that a symbols file with an attribute for each parameter gives."""
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    attributes = [
        symbols.Attribute(key, key, symbols.compile_expression(parameter))
        for key, parameter in zip(keys, parameters, strict=True)
    ]
    values = symbols.bind(attributes, function, _unexpected) if attributes else None
    record_type = recorder.register(RecordType("execute", function.__name__, keys))
    slot = TimerSlot()
    slot.set(Timer(record_type, values))
    return wrap(function, slot, f"{__name__}:{function.__name__}", __file__)


def _unexpected(attribute: symbols.Attribute, error: Exception) -> None:
    raise error


def cost(loops: int, call: Callable[..., Any], *args: Any) -> float:
    """Nanoseconds a call, less those of the loop."""
    start = time.thread_time_ns()
    for _ in repeat(None, loops):
        pass
    empty = time.thread_time_ns() - start
    start = time.thread_time_ns()
    for _ in repeat(None, loops):
        call(*args)
    return (time.thread_time_ns() - start - empty) / loops


def run(quick: bool) -> bool:
    """Measure and print; whether the goals are met."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=65_536))
    tracer = provider.get_tracer(__name__)
    hook, hook_with = timer(execute), timer(execute_with, KEYS)

    def sdk() -> None:
        with tracer.start_as_current_span("execute"):
            return execute()

    def sdk_with(request: str, batch: int, tokens: int, phase: str, usage: float) -> None:
        attributes = {KEYS[0]: request, KEYS[1]: batch, KEYS[2]: tokens, KEYS[3]: phase, KEYS[4]: usage}
        with tracer.start_as_current_span("execute_with", attributes=attributes):
            return execute_with(request, batch, tokens, phase, usage)

    def ours(call: Callable[..., Any], *args: Any, on: bool = True, below: bool = False) -> Callable[[], float]:
        def measure() -> float:
            recorder.set_traces(on)
            token = make_current(RecordSpan(1, 2, 0, 1)) if below else None
            nanoseconds = cost(2000, call, *args)
            if token is not None:
                detach(token)
            recorder.set_traces(False)
            recorder.queue.clear()
            return nanoseconds

        return measure

    def child_of_sdk_span() -> float:
        with tracer.start_as_current_span("engine.step"):
            return cost(500, sdk)

    measured = interleaved(
        40 if quick else 150,
        {
            "time.time_ns": lambda: cost(4000, time.time_ns),
            "bare call": lambda: cost(4000, execute),
            "hook, off": ours(hook, on=False),
            "hook, root": ours(hook),
            "hook, child": ours(hook, below=True),
            "hook, root, 5 attributes": ours(hook_with, *VALUES),
            "SDK, root": lambda: cost(500, sdk),
            "SDK, child": child_of_sdk_span,
            "SDK, root, 5 attributes": lambda: cost(500, sdk_with, *VALUES),
        },
    )
    provider.shutdown()
    show_rounds("Hook: CPU time of the calling thread", "ns a call", measured)

    def ratio(name: str, against: str) -> list[float]:
        return per_round(measured, lambda mine, theirs: mine / theirs, name, against)

    added = per_round(measured, lambda off, bare, clock: (off - bare) / clock, "hook, off", "bare call", "time.time_ns")
    return show_ratios(
        [
            ("hook / SDK, root", ratio("hook, root", "SDK, root"), 1 / 8),
            ("hook / SDK, child", ratio("hook, child", "SDK, child"), 1 / 8),
            (
                "hook / SDK, root, 5 attributes",
                ratio("hook, root, 5 attributes", "SDK, root, 5 attributes"),
                1 / 8,
            ),
            ("hook that is off, in calls of time.time_ns", added, 3.0),
        ]
    )
