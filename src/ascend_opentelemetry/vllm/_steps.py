"""EngineCore: a step, from ``Scheduler.schedule`` over ``Executor.execute_model`` to ``update_from_output``."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    SAMPLED,
    STATUS_ERROR,
    STATUS_UNSET,
    RecordSpan,
    SpanExtra,
    SpanIds,
    child,
    detach,
    getrandbits,
    make_current,
    recorder,
)
from ascend_opentelemetry.vllm._metrics import STEP_METRICS
from ascend_opentelemetry.vllm._phase_spans import MAX_LINKS
from ascend_opentelemetry.vllm._scheduler import preemptible, tracker
from ascend_opentelemetry.vllm._speculation import count_drafts
from ascend_opentelemetry.vllm._step import Step
from ascend_opentelemetry.vllm._step_types import EXECUTE_TYPE, KV_STATUS_TYPE, SCHEDULE_TYPE, STEP_TYPE, UPDATE_TYPE

#: Name of the attribute that carries the step's span ids on ``SchedulerOutput`` to the workers.
STEP_ATTRIBUTE = "ascend_otel_step"


def open_below(step: SpanIds | None) -> RecordSpan | None:
    """Start a span below a step's and make it current; detach its ``token``.

    Args:
        step: ids of a step; None for one that is not traced.

    Returns:
        None where nothing below the span could ask for it: without it only timers of the symbols file become roots.
    """
    if step is None and not (recorder.timers and recorder.traces_on):
        return None
    span = child(step)
    span.token = make_current(span)
    return span


class Schedule:
    """``Scheduler.schedule() -> SchedulerOutput``: the start of a step. One that calls its base class's is one step."""

    switch = recorder

    def __init__(self) -> None:
        self._inside = False

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...] | None:  # noqa: ARG002
        if self._inside:
            return None
        in_window = recorder.native is not None
        snapshot = tracker.snapshot(args[0]) if in_window else None
        before = args[0].kv_cache_manager.block_pool.get_num_free_blocks()
        running = preemptible(args[0])
        traced = recorder.traces_on
        selected = traced and recorder.sample_step()
        root = self._sampled_root() if selected else None
        span = open_below(root)  # last: a hook that fails here is not asked to detach
        self._inside = True
        return time_ns(), monotonic_ns(), traced, selected, root, span, in_window, snapshot, before, running

    @staticmethod
    def _sampled_root() -> SpanIds | None:
        trace_id = recorder.new_trace_id()
        if recorder.sample(trace_id, STEP_TYPE.name, KIND_INTERNAL, {}):
            return trace_id, getrandbits(64), 0, SAMPLED
        return None

    def exit(self, state: tuple[Any, ...] | None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is None:
            return
        self._inside = False
        start, mono, traced, selected, root, span, in_window, snapshot, before, running = state
        if span is not None:
            detach(span.token)
        if running:
            tracker.preempt_gone(running, args[0])
        if error is not None or not result.total_num_scheduled_tokens:
            if snapshot is not None:
                tracker.window = 0  # the next step takes another
            if error is None:
                tracker.finished |= result.finished_req_ids
            return
        scheduler = args[0]
        end = start + monotonic_ns() - mono
        step = Step(start, mono, root, result)
        step.in_window, step.snapshot = in_window, snapshot
        step.preempted, tracker.preempted = tracker.preempted, []
        if tracker.finished:
            step.finished, tracker.finished = tracker.finished | result.finished_req_ids, set()
        step.running, step.waiting = len(scheduler.running), len(scheduler.waiting)
        pool = scheduler.kv_cache_manager.block_pool
        step.total, step.free = pool.num_gpu_blocks - 1, pool.get_num_free_blocks()
        step.allocated = before - step.free
        if traced:
            self._trace(step, result, selected)
        self._keep(step)
        thread = get_ident()
        if STEP_METRICS.on:
            values = len(step.scheduled), step.tokens
            recorder.emit((STEP_METRICS, start, end, thread, step.ids, values, None))
        if KV_STATUS_TYPE.native_on:
            recorder.emit((KV_STATUS_TYPE, end, end, thread, None, step, None))
        if SCHEDULE_TYPE.native_on or step.ids is not None:
            ids = extra = None
            if root is not None and span is not None:
                ids, extra = span.ids, span.extra()
            elif step.ids is not None:
                ids = step.ids[0], getrandbits(64), step.ids[1], SAMPLED
            recorder.emit((SCHEDULE_TYPE, start, end, thread, ids, step, extra))

    def _trace(self, step: Step, output: Any, selected: bool) -> None:
        """Decide on a step that is not sampled yet, carry the ids to the workers, link the requests of the batch.

        A step that the ratio ``selected`` has been before the sampler, which is not asked twice.
        """
        phases = tracker.phases
        first_prefill = False
        for request_id, prompt, computed in step.new:
            first_prefill |= phases.scheduled(request_id, step.mono, prompt, computed)
        if step.resumed and phases.requests:
            computed = dict(zip(step.cached.req_ids, step.cached.num_computed_tokens, strict=False))
            for request_id in step.resumed:
                phases.resumed(request_id, computed.get(request_id, 0))
        if phases.prefilling:
            phases.chunks(step.scheduled, step.mono)
        if first_prefill and not selected:
            step.ids = self._sampled_root()
        if step.ids is None:
            return
        setattr(output, STEP_ATTRIBUTE, step.ids)
        for request_id in step.scheduled:
            request = phases.requests.get(request_id)
            if request is not None:
                request.joined(step.ids[0], step.ids[1])
                step.links.append(request.link)

    @staticmethod
    def _keep(step: Step) -> None:
        steps = tracker.steps
        if len(steps) >= 64:  # outputs that never came back: the engine failed
            del steps[next(iter(steps))]
        steps[id(step.scheduled)] = step


class ExecuteModel:
    """``Executor.execute_model(scheduler_output)``: until the model's result is there, also as a future."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = args[1] if len(args) > 1 else kwargs["scheduler_output"]
        step = tracker.steps.get(id(output.num_scheduled_tokens))
        if step is None or step.executing is not None:
            return None
        mono = monotonic_ns()
        span = open_below(step.ids)
        step.executing = step.start + mono - step.mono, mono, span
        return step, span

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is None:
            return
        step, span = state
        if span is not None:
            detach(span.token)
        if error is None and hasattr(result, "add_done_callback") and not result.done():
            result.add_done_callback(lambda done: end_execution(step, None if done.cancelled() else done.exception()))
        else:
            end_execution(step, error)


def end_execution(step: Step, error: BaseException | None = None) -> None:
    """Record ``modelExec``; a second call does nothing."""
    # one statement: older executors end the future on a thread of their own
    executing, step.executing = step.executing, False
    if not executing:
        return
    start, mono, span = executing
    if EXECUTE_TYPE.native_on or step.ids is not None:
        end = start + monotonic_ns() - mono
        ids = extra = None
        if step.ids is not None:
            if error is not None:
                span.failed(error)
            ids, extra = span.ids, span.extra()
        recorder.emit((EXECUTE_TYPE, start, end, get_ident(), ids, step, extra))


class UpdateFromOutput:
    """``Scheduler.update_from_output(scheduler_output, model_runner_output)``: the end of a step."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        scheduler, output = args[0], args[1] if len(args) > 1 else kwargs["scheduler_output"]
        step = tracker.steps.pop(id(output.num_scheduled_tokens), None)
        if step is None:
            return None
        end_execution(step)
        if step.drafts and recorder.traces_on and (step.ids is not None or tracker.phases.requests):
            # before the call, in which requests end
            results = args[2] if len(args) > 2 else kwargs["model_runner_output"]
            count_drafts(step, tracker.phases, scheduler, results, getattr(output, "num_invalid_spec_tokens", None))
        return step, open_below(step.ids), monotonic_ns()

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is None:
            return
        step, span, mono = state
        if span is not None:
            detach(span.token)
        if not recorder.traces_on:
            return
        if span is not None and step.ids is not None:
            now, thread = monotonic_ns(), get_ident()
            if error is not None:
                span.failed(error)
            zero = step.start - step.mono  # of the step: when the wall clock is set meanwhile, the parts stay within it
            recorder.emit((UPDATE_TYPE, zero + mono, zero + now, thread, span.ids, (), span.extra()))
            status, message = (STATUS_ERROR, type(error).__qualname__) if error is not None else (STATUS_UNSET, "")
            extra = _extra(step, status, message)
            recorder.emit((STEP_TYPE, step.start, zero + now, thread, step.ids, step, extra))
        tracker.phases.step_done(args[0].requests)


def _extra(step: Step, status: int, message: str) -> SpanExtra:
    links = step.links
    return SpanExtra(status, message, links=links[:MAX_LINKS], dropped_links=max(0, len(links) - MAX_LINKS))


def fail_open_steps(message: str) -> None:
    """End the steps that get no ``update_from_output`` any more: the engine is going down."""
    steps, tracker.steps = tracker.steps, {}
    for step in steps.values():
        end_execution(step)
        if step.ids is not None and recorder.traces_on:
            end = step.start + monotonic_ns() - step.mono
            extra = _extra(step, STATUS_ERROR, message)
            recorder.emit((STEP_TYPE, step.start, end, get_ident(), step.ids, step, extra))
