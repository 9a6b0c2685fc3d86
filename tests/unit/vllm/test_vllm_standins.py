"""Stand-ins for the objects of vLLM 0.32.0 that the handlers look at; the end-to-end tests use the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

from ascend_opentelemetry import vllm
from ascend_opentelemetry.hooks import wrap
from ascend_opentelemetry.recorder import Record, RecordType, recorder
from ascend_opentelemetry.vllm import _output_processor, _ranks, _requests, _scheduler, _scope, _step_types, _worker

TRACE_ID, SPAN_ID = 0xABCDEF, 0x1234
TRACEPARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
UNSAMPLED = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-00"


class Window:
    """An open native window that selects everything."""

    profiler_level = 40
    domain: frozenset[str] = frozenset()


@dataclass
class SamplingParams:
    temperature: float = 0.5
    top_p: float = 0.9
    max_tokens: int | None = 16
    n: int = 1
    top_k: int = 0
    seed: int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_p: float = 0.0
    structured_outputs: Any = None
    extra_args: dict[str, Any] | None = None


@dataclass
class PoolingParams:
    dimensions: int | None = None


@dataclass
class EngineCoreRequest:
    request_id: str = "cmpl-x-0-deadbeef"
    external_req_id: str | None = "cmpl-x-0"
    prompt_token_ids: list[int] | None = field(default_factory=lambda: [1, 2, 3])
    sampling_params: SamplingParams | None = field(default_factory=SamplingParams)
    arrival_time: float = 1_700_000_000.0
    trace_headers: dict[str, str] | None = None
    pooling_params: PoolingParams | None = None
    lora_request: Any = None


@dataclass
class ParentRequest:
    request_id: str
    sampling_params: SamplingParams


@dataclass
class Detokenizer:
    output_token_ids: list[int]


@dataclass
class RequestStateStats:
    queued_ts: float = 100.0
    scheduled_ts: float = 100.25
    first_token_ts: float = 101.0
    last_token_ts: float = 103.0
    num_preemptions: int = 0


@dataclass
class RequestState:
    request_id: str
    prompt_len: int = 3
    detokenizer: Detokenizer | None = None
    stats: RequestStateStats | None = None
    num_cached_tokens: int = 0


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value


@dataclass
class EngineCoreOutput:
    request_id: str
    new_token_ids: list[int] = field(default_factory=list)


class RequestStatus(Enum):
    RUNNING = 1
    FINISHED_STOPPED = 2
    FINISHED_ABORTED = 3
    FINISHED_ERROR = 4


@dataclass
class Request:
    request_id: str
    num_prompt_tokens: int = 4
    num_output_tokens: int = 0
    num_computed_tokens: int = 0
    num_preemptions: int = 0
    num_tokens: int = 4
    status: RequestStatus = RequestStatus.FINISHED_STOPPED
    trace_headers: dict[str, str] | None = None


@dataclass
class NewRequestData:
    req_id: str
    prompt_token_ids: list[int] | None
    num_computed_tokens: int = 0
    prompt_embeds: Any = None


@dataclass
class CachedRequestData:
    req_ids: list[str] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)
    resumed_req_ids: set[str] = field(default_factory=set)


@dataclass
class SchedulerOutput:
    scheduled_new_reqs: list[NewRequestData] = field(default_factory=list)
    scheduled_cached_reqs: CachedRequestData = field(default_factory=CachedRequestData)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    finished_req_ids: set[str] = field(default_factory=set)
    scheduled_spec_decode_tokens: dict[str, list[int]] = field(default_factory=dict)

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())


def output(
    scheduled: dict[str, int],
    new: dict[str, int] | None = None,
    computed: dict[str, int] | None = None,
    resumed: tuple[str, ...] = (),
    finished: tuple[str, ...] = (),
) -> SchedulerOutput:
    """A scheduler output: tokens by request; prompt lengths of new requests; computed tokens of the others."""
    computed = computed or {}
    return SchedulerOutput(
        [NewRequestData(request_id, [0] * length) for request_id, length in (new or {}).items()],
        CachedRequestData(list(computed), list(computed.values()), set(resumed)),
        scheduled,
        set(finished),
    )


@dataclass
class BlockPool:
    num_gpu_blocks: int = 101
    free: int = 100

    def get_num_free_blocks(self) -> int:
        return self.free


@dataclass
class KVCacheManager:
    block_pool: BlockPool = field(default_factory=BlockPool)


def config() -> Any:
    """``VllmConfig``."""
    return SimpleNamespace(parallel_config=SimpleNamespace(data_parallel_rank=0, rank=5, tensor_parallel_size=2))


@dataclass
class Scheduler:
    requests: dict[str, Request] = field(default_factory=dict)
    running: list[Request] = field(default_factory=list)
    waiting: list[Request] = field(default_factory=list)
    kv_cache_manager: KVCacheManager = field(default_factory=KVCacheManager)
    vllm_config: Any = field(default_factory=config)


@dataclass
class OutputProcessor:
    """``add_request`` and ``abort_requests`` as far as the hooks can tell."""

    request_states: dict[str, RequestState] = field(default_factory=dict)

    def add_request(
        self, request: EngineCoreRequest, prompt: Any = None, parent_req: Any = None, request_index: int = 0
    ) -> None:
        self.request_states[request.request_id] = RequestState(request.request_id)

    def abort_requests(self, request_ids: list[str], internal: bool = True) -> list[str]:
        return [request_id for request_id in request_ids if self.request_states.pop(request_id, None)]


def call(handler: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``original`` through its hook."""
    return wrap(original, handler, "vllm:function", "test")(*args, **kwargs)


def recording(traces: bool = True, native: bool = True, sampled: bool = True) -> Iterator[None]:
    """Switch recording on, as the symbols file of the package does; forget everything afterwards."""
    _reset()
    recorder.append = recorder.queue.append
    for record_type in vllm.TYPES:
        recorder.register(record_type)
    for types in vllm.NATIVE_TYPES.values():
        for record_type in types:
            record_type.native = True
    # as the SDK's default: a client's decision is followed
    recorder.set_traces(traces, lambda *asked: sampled and (asked[4] is None or asked[4].trace_flags.sampled))
    recorder.set_native(Window() if native else None)
    yield
    for types in vllm.NATIVE_TYPES.values():
        for record_type in types:
            record_type.native = False
    recorder.set_native(None)
    recorder.set_traces(False)
    recorder.unregister_all()
    _reset()


def _reset() -> None:
    recorder.queue.clear()
    for name in (_ranks.DP_RANK, _ranks.TP_RANK, _ranks.PP_RANK):
        recorder.meta.pop(name, None)
    _ranks.ranks.__init__()
    _requests.tracker.__init__()
    _scheduler.tracker.__init__()
    _step_types.expander.__init__()
    _worker.current.depth, _worker.current.ids, _worker.current.scheduled = 0, None, {}
    _output_processor._call.set(None)
    _scope._current.set(None)


def spans(name: str | None = None) -> list[Record]:
    """Records that are spans, in order."""
    return [record for record in recorder.queue if record[4] is not None and name in (None, record[0].name)]


def attributes(record: Record) -> dict[str, Any]:
    """OTel attributes of a record."""
    record_type: RecordType = record[0]
    if record_type.attributes is not None:
        return dict(record_type.attributes(record))
    return dict(zip(record_type.keys, record[5], strict=True))


def rows(name: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """``name, domain, args`` of the native rows of all records, in order."""
    found = [
        (row[2], row[3], json.loads(row[4]))
        for record in recorder.queue
        if record[0].rows is not None
        for row in record[0].rows(record)
    ]
    return [row for row in found if name in (None, row[0])]
