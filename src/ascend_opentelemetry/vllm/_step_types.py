"""Records of an engine step: native rows and span attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ascend_opentelemetry.recorder import NativeRow, Record, RecordType
from ascend_opentelemetry.vllm._ranks import ranks
from ascend_opentelemetry.vllm._rows import EXECUTE, KV_CACHE, SCHEDULE, event_row, kv_values, queue_row, span_row
from ascend_opentelemetry.vllm._step import Expander, Step

expander = Expander()


def _schedule_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    if not step.in_window:
        return  # the window opened meanwhile: what ran before it is known from the next step on
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
    yield "vllm.data_parallel.rank", ranks.data_parallel
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
