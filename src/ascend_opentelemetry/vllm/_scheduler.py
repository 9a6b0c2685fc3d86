"""EngineCore: what ``Scheduler`` does in a step and to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    SAMPLED,
    NativeRow,
    Record,
    RecordSpan,
    RecordType,
    SpanExtra,
    SpanIds,
    child,
    detach,
    getrandbits,
    make_current,
    recorder,
)
from ascend_opentelemetry.vllm._phases import PhaseTracker
from ascend_opentelemetry.vllm._rows import EXECUTE, KV_CACHE, SCHEDULE, event_row, kv_values, queue_row, span_row
from ascend_opentelemetry.vllm._step import Expander, Snapshot, Step

#: Name of the attribute that carries the step's span ids on ``SchedulerOutput`` to the workers.
STEP_ATTRIBUTE = "ascend_otel_step"
#: Key of the native ``Meta`` row with the data-parallel rank.
DP_RANK = "dpRankId"
UNKNOWN_RANK = "-1"
#: As many links as the SDK's default limit for a span.
MAX_LINKS = 128

expander = Expander()


def _schedule_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    start, end = record[1], record[2]
    new = [request_id for request_id, _, _ in step.new]
    if new:
        yield queue_row(start, "Dequeue", new, "WAITING", step.waiting)
        yield queue_row(start, "Enqueue", new, "RUNNING", step.running)
    # not Dequeue and Enqueue: the analyzer would take the time between them for queueing
    for name, ids in (("Preempt", step.preempted), ("Resume", step.resumed)):
        if ids:
            yield queue_row(start, name, ids, "WAITING", step.waiting)
    rid_json = expander.expand(step)
    yield span_row(start, end, record[0].name, record[0].domain, rid_json, {"batch_type": step.batch_type})


def _kv_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    values = {"rid": list(step.scheduled), **kv_values(step.total, step.free, step.allocated)}
    yield event_row(record[1], record[0].name, record[0].domain, values)


def _execute_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    if not step.in_window:
        return  # its schedule row is missing: the analyzer ties the two together
    rid_json = expander.expand(step)
    rest = {"batch_type": step.batch_type, "batch_size": step.tokens}
    yield span_row(record[1], record[2], record[0].name, record[0].domain, rid_json, rest)


def _step_attributes(record: Record) -> Iterable[tuple[str, Any]]:
    step: Step = record[5]
    yield "vllm.step.batch_size", len(step.scheduled)
    yield "vllm.step.scheduled_tokens", step.tokens
    yield "vllm.step.new_requests", len(step.new)
    yield "vllm.step.preempted_requests", len(step.preempted)
    yield "vllm.step.running_requests", step.running
    yield "vllm.step.waiting_requests", step.waiting
    yield "vllm.kv_cache.blocks.used", step.total - step.free
    yield "vllm.kv_cache.blocks.total", step.total


def no_attributes(record: Record) -> Iterable[tuple[str, Any]]:  # noqa: ARG001
    """For spans of a step below the one that says what is in it."""
    return ()


SCHEDULE_TYPE = RecordType(
    SCHEDULE, "batchFrameworkProcessing", native=False, rows=_schedule_rows, attributes=no_attributes
)
KV_STATUS_TYPE = RecordType(KV_CACHE, "KVCacheStatus", native=False, traces=False, rows=_kv_rows)
EXECUTE_TYPE = RecordType(EXECUTE, "modelExec", native=False, rows=_execute_rows, attributes=no_attributes)
UPDATE_TYPE = RecordType(SCHEDULE, "update_from_output", native=False)
STEP_TYPE = RecordType(SCHEDULE, "engine.step", native=False, attributes=_step_attributes)


def _enqueue_rows(record: Record) -> Iterable[NativeRow]:
    request_id, size = record[5]
    yield queue_row(record[1], "Enqueue", request_id, "WAITING", size)


ENQUEUE_TYPE = RecordType(SCHEDULE, "Enqueue", native=False, traces=False, rows=_enqueue_rows)


class SchedulerTracker:
    """State of the scheduler of this process that outlives a call."""

    def __init__(self) -> None:
        self.phases = PhaseTracker()
        #: Steps between ``schedule`` and ``update_from_output``, by ``id(SchedulerOutput)``.
        self.steps: dict[int, Step] = {}
        #: Preempted since the last step with tokens.
        self.preempted: list[str] = []
        self._window = 0

    def snapshot(self, scheduler: Any) -> Snapshot | None:
        """Requests that were there when the native window opened; None if that is known already."""
        if recorder.native is None or self._window == recorder.windows:
            return None
        self._window = recorder.windows
        return [
            (request_id, request.num_prompt_tokens, request.num_output_tokens or int(request.num_computed_tokens > 0))
            for request_id, request in scheduler.requests.items()
        ]


tracker = SchedulerTracker()


def note_rank(vllm_config: Any) -> None:
    """Tell the native files the data-parallel rank of this process, once."""
    if recorder.meta.get(DP_RANK, UNKNOWN_RANK) == UNKNOWN_RANK:
        recorder.set_meta(DP_RANK, str(vllm_config.parallel_config.data_parallel_rank))


class AddRequest:
    """``Scheduler.add_request(request)``."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        note_rank(args[0].vllm_config)
        if recorder.traces_on:
            scheduler, request = args[0], args[1] if len(args) > 1 else kwargs["request"]
            if request.request_id not in scheduler.requests:
                endpoint = scheduler.vllm_config.observability_config.otlp_traces_endpoint
                tracker.phases.add(request, keep_headers=endpoint is not None)

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if ENQUEUE_TYPE.native_on and error is None:
            request = args[1] if len(args) > 1 else kwargs["request"]
            now = time_ns()
            values = (request.request_id, len(args[0].waiting))
            recorder.emit((ENQUEUE_TYPE, now, now, get_ident(), None, values, None))


class Schedule:
    """``Scheduler.schedule() -> SchedulerOutput``: the start of a step."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:  # noqa: ARG002
        snapshot = tracker.snapshot(args[0])
        span = token = None
        if recorder.traces_on:
            ids = self._sampled_root() if recorder.sample_step() else None
            span = child(ids)
            token = make_current(span)
        before = args[0].kv_cache_manager.block_pool.get_num_free_blocks()
        return time_ns(), monotonic_ns(), span, token, recorder.native is not None, snapshot, before

    @staticmethod
    def _sampled_root() -> SpanIds | None:
        trace_id = getrandbits(128)
        if recorder.sample(trace_id, STEP_TYPE.name, KIND_INTERNAL, {}):
            return trace_id, getrandbits(64), 0, SAMPLED
        return None

    def exit(self, state: tuple[Any, ...], args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        start, mono, span, token, in_window, snapshot, before = state
        if token is not None:
            detach(token)
        if error is not None or not result.total_num_scheduled_tokens:
            return
        scheduler = args[0]
        end = start + monotonic_ns() - mono
        step = Step(start, mono, None, result)
        step.in_window, step.snapshot = in_window, snapshot
        step.preempted, tracker.preempted = tracker.preempted, []
        step.running, step.waiting = len(scheduler.running), len(scheduler.waiting)
        pool = scheduler.kv_cache_manager.block_pool
        step.total, step.free = pool.num_gpu_blocks - 1, pool.get_num_free_blocks()
        step.allocated = before - step.free
        if recorder.traces_on:
            self._trace(step, span, result)
        self._keep(step, result)
        if KV_STATUS_TYPE.native_on:
            recorder.emit((KV_STATUS_TYPE, end, end, get_ident(), None, step, None))
        if SCHEDULE_TYPE.native_on or step.ids is not None:
            ids = None if step.ids is None else (step.ids[0], span.span_id, step.ids[1], SAMPLED)
            recorder.emit((SCHEDULE_TYPE, start, end, get_ident(), ids, step, None))

    def _trace(self, step: Step, span: RecordSpan, output: Any) -> None:
        """Fix the step's ids, carry them to the workers, link the requests of the batch."""
        phases = tracker.phases
        first_prefill = False
        for request_id, _, _ in step.new:
            first_prefill |= phases.scheduled(request_id, step.start)
        for request_id in step.resumed:
            phases.event(request_id, "resumed")
        if span.flags:
            step.ids = (span.trace_id, span.parent_id, 0, SAMPLED)
        elif first_prefill:
            step.ids = self._sampled_root()
            if step.ids is not None:
                span.span_id = getrandbits(64)
        if step.ids is None:
            return
        setattr(output, STEP_ATTRIBUTE, step.ids)
        for request_id in step.scheduled:
            request = phases.requests.get(request_id)
            if request is not None:
                request.joined(step.ids[0], step.ids[1])
                if len(step.links) < MAX_LINKS:
                    step.links.append(request.link)

    @staticmethod
    def _keep(step: Step, output: Any) -> None:
        steps = tracker.steps
        if len(steps) >= 64:  # outputs that never came back: the engine failed
            del steps[next(iter(steps))]
        steps[id(output)] = step


class ExecuteModel:
    """``Executor.execute_model(scheduler_output)``: until the model's result is there, also as a future."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = args[1] if len(args) > 1 else kwargs["scheduler_output"]
        step = tracker.steps.get(id(output))
        if step is None or step.executing is not None:
            return None
        step.executing = (time_ns(), monotonic_ns(), child(step.ids))
        return step, make_current(step.executing[2]) if recorder.traces_on else None

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is None:
            return
        step, token = state
        if token is not None:
            detach(token)
        if error is None and hasattr(result, "add_done_callback") and not result.done():
            result.add_done_callback(lambda _: end_execution(step))
        else:
            end_execution(step, error)


def end_execution(step: Step, error: BaseException | None = None) -> None:
    """Record ``modelExec``; a second call does nothing."""
    if step.executing is None or step.executing is False:
        return
    start, mono, span = step.executing
    step.executing = False
    if EXECUTE_TYPE.native_on or step.ids is not None:
        if error is not None:
            span.failed(error)
        ids = None if step.ids is None else span.ids
        end = start + monotonic_ns() - mono
        recorder.emit((EXECUTE_TYPE, start, end, get_ident(), ids, step, span.extra()))


class UpdateFromOutput:
    """``Scheduler.update_from_output(scheduler_output, model_runner_output)``: the end of a step."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = args[1] if len(args) > 1 else kwargs["scheduler_output"]
        step = tracker.steps.pop(id(output), None)
        if step is None:
            return None
        end_execution(step)
        span = child(step.ids)
        return step, span, make_current(span) if recorder.traces_on else None, time_ns(), monotonic_ns()

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state is None:
            return
        step, span, token, start, mono = state
        if token is not None:
            detach(token)
        if not recorder.traces_on:
            return
        if step.ids is not None:
            now, thread = monotonic_ns(), get_ident()
            if error is not None:
                span.failed(error)
            recorder.emit((UPDATE_TYPE, start, start + now - mono, thread, span.ids, (), span.extra()))
            extra = SpanExtra(links=step.links, dropped_links=max(0, len(step.scheduled) - MAX_LINKS))
            recorder.emit((STEP_TYPE, step.start, step.start + now - step.mono, thread, step.ids, step, extra))
        tracker.phases.step_done(args[0].requests)


class PreemptRequest:
    """``Scheduler._preempt_request(request, ...)``."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        request_id: str = (args[1] if len(args) > 1 else kwargs["request"]).request_id
        tracker.preempted.append(request_id)
        tracker.phases.event(request_id, "preempted")

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class FreeRequest:
    """``Scheduler._free_request(request)``: the end of a request, however it came."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        request = args[1] if len(args) > 1 else kwargs["request"]
        if recorder.traces_on:
            status = request.status.name
            error = "the engine reported an error" if status == "FINISHED_ERROR" else None
            tracker.phases.finish(request, error, aborted=status == "FINISHED_ABORTED")

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if not args[0].running and not args[0].waiting:
            recorder.wake(export=True)
