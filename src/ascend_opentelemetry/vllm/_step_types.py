"""Records of an engine step: native rows and span attributes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ascend_opentelemetry.recorder import NativeRow, Record, RecordType
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._ranks import ranks
from ascend_opentelemetry.vllm._rows import EXECUTE, KV_CACHE, SCHEDULE, encode, kv_values, queue_row
from ascend_opentelemetry.vllm._step import Expander, Step
from ascend_opentelemetry.vllm._step_ids import id_list

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
    args = f'{{"type": 2, "rid": {expander.expand(step)}, "batch_type": "{step.batch_type}"}}'
    yield start, end - start, record[0].name, record[0].domain, args


def _kv_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    blocks = _block_counts(step.total, step.free, step.allocated)
    args = f'{{"rid": {id_list(step.scheduled)}, {blocks}, "type": 0}}'
    yield record[1], 0, record[0].name, record[0].domain, args


@lru_cache(64)
def _block_counts(total: int, free: int, allocated: int) -> str:
    """JSON of the block counts, without braces; few steps change them."""
    return encode(kv_values(total, free, allocated))[1:-1]


def _execute_rows(record: Record) -> Iterable[NativeRow]:
    step: Step = record[5]
    if not step.in_window:
        return  # its schedule row is missing: the analyzer ties the two together
    rid_json = expander.expand(step)
    args = f'{{"type": 2, "rid": {rid_json}, "batch_type": "{step.batch_type}", "batch_size": {step.tokens}}}'
    yield record[1], record[2] - record[1], record[0].name, record[0].domain, args


def _step_attributes(record: Record) -> Iterable[tuple[str, Any]]:
    step: Step = record[5]
    yield keys.VLLM_DATA_PARALLEL_RANK, ranks.data_parallel
    yield keys.VLLM_STEP_BATCH_SIZE, len(step.scheduled)
    yield keys.VLLM_STEP_SCHEDULED_TOKENS, step.tokens
    yield keys.VLLM_STEP_NEW_REQUESTS, len(step.new)
    yield keys.VLLM_STEP_PREEMPTED_REQUESTS, len(step.preempted)
    yield keys.VLLM_STEP_RESUMED_REQUESTS, len(step.resumed)
    yield keys.VLLM_STEP_RUNNING_REQUESTS, step.running
    yield keys.VLLM_STEP_WAITING_REQUESTS, step.waiting
    if step.drafted:
        yield keys.VLLM_SPEC_DECODE_DRAFTED_TOKENS, step.drafted
        yield keys.VLLM_SPEC_DECODE_ACCEPTED_TOKENS, step.accepted
    yield keys.VLLM_KV_CACHE_BLOCKS_USED, step.total - step.free
    yield keys.VLLM_KV_CACHE_BLOCKS_FREE, step.free
    yield keys.VLLM_KV_CACHE_BLOCKS_TOTAL, step.total


def no_attributes(record: Record) -> Iterable[tuple[str, Any]]:  # noqa: ARG001
    """For spans of a step below the one that says what is in it."""
    return ()


SCHEDULE_TYPE = RecordType(
    SCHEDULE, span_names.VLLM_SCHEDULE, native=False, rows=_schedule_rows, attributes=no_attributes
)
KV_STATUS_TYPE = RecordType(KV_CACHE, "KVCacheStatus", native=False, traces=False, rows=_kv_rows)
EXECUTE_TYPE = RecordType(
    EXECUTE, span_names.VLLM_MODEL_EXECUTION, native=False, rows=_execute_rows, attributes=no_attributes
)
UPDATE_TYPE = RecordType(SCHEDULE, span_names.VLLM_UPDATE_FROM_OUTPUT, native=False)
STEP_TYPE = RecordType(SCHEDULE, span_names.VLLM_ENGINE_STEP, native=False, attributes=_step_attributes)
