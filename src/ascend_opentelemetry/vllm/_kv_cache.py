"""EngineCore: blocks freed and prefix-cache hits, as native rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import get_ident
from time import time_ns
from typing import Any

from ascend_opentelemetry.recorder import NativeRow, Record, RecordType, recorder
from ascend_opentelemetry.vllm._rows import KV_CACHE, event_row, kv_values


def blocks(manager: Any) -> tuple[int, int]:
    """Usable and free blocks of a ``KVCacheManager`` (one of its blocks is the null block)."""
    pool = manager.block_pool
    return pool.num_gpu_blocks - 1, pool.get_num_free_blocks()


def _free_rows(record: Record) -> Iterable[NativeRow]:
    request_id, total, free, freed = record[5]
    values = {"rid": request_id, "deviceBlock=": free, **kv_values(total, free, -freed)}
    yield event_row(record[1], record[0].name, record[0].domain, values)


def _hit_rows(record: Record) -> Iterable[NativeRow]:
    request_id, rate, total, free = record[5]
    values = {"rid": request_id, "hitCache": rate, **kv_values(total, free, 0)}
    yield event_row(record[1], record[0].name, record[0].domain, values)


FREE_TYPE = RecordType(KV_CACHE, "Free", native=False, traces=False, rows=_free_rows)
HIT_TYPE = RecordType(KV_CACHE, "CacheHitRate", native=False, traces=False, rows=_hit_rows)


class Free:
    """``KVCacheManager.free(request)``."""

    switch = FREE_TYPE

    def enter(self, args: tuple[Any, ...], kwargs: Any) -> int:  # noqa: ARG002
        return args[0].block_pool.get_num_free_blocks()

    def exit(self, state: int, args: Any, kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        request = args[1] if len(args) > 1 else kwargs["request"]
        total, free = blocks(args[0])
        now = time_ns()
        recorder.emit((FREE_TYPE, now, now, get_ident(), None, (request.request_id, total, free, free - state), None))


class GetComputedBlocks:
    """``KVCacheManager.get_computed_blocks(request) -> (blocks, hit tokens, ...)``."""

    switch = HIT_TYPE

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: Any, kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        request = args[1] if len(args) > 1 else kwargs["request"]
        if error is None and len(result) > 1 and request.num_tokens > 0:
            total, free = blocks(args[0])
            now = time_ns()
            values = (request.request_id, result[1] / request.num_tokens, total, free)
            recorder.emit((HIT_TYPE, now, now, get_ident(), None, values, None))
