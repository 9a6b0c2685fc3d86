"""The 66 expressions of vllm-ascend's symbols file at a batch of 256 requests, against the same written by hand.

What holds the batch holds 256 requests, what happens to single requests in a step happens to 4. Each symbol is evaluated
as its timer does after a call; the plain functions make the same values, without a bound on their length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from time import thread_time_ns
from types import SimpleNamespace
from typing import Any, NamedTuple

from ascend_opentelemetry import symbols
from ascend_opentelemetry.symbols._render import MAX_TEXT
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "symbols" / "vllm-ascend-main.yaml"
EXPRESSIONS, BATCH, SOME = 66, 256, 4

Values = Callable[[tuple[Any, ...], dict[str, Any], Any], tuple[Any, ...]]


class Call(NamedTuple):
    """A call of a symbol: what the hook passes on, and the values of its attributes as plain Python makes them."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    plain: Values


@dataclass
class ReqMeta:
    """One request of the connector's metadata, with the kinds of fields that vllm-ascend has there."""

    local_block_ids: list[list[int]]
    num_external_tokens: int
    num_computed_tokens: int
    remote_block_ids: list[list[int]]
    remote_host: str
    remote_port: int
    remote_engine_id: str
    remote_request_id: str
    mapping: dict[str, dict[str, Any]] = field(default_factory=dict)


IDS = [f"cmpl-{index:032x}-0-{index:08x}" for index in range(BATCH)]
FEW = IDS[:SOME]
TOKENS = dict.fromkeys(IDS, 1)
PARAMS = {
    "do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": "engine-0", "remote_host": "10.0.0.1",
    "remote_port": 20001, "remote_request_id": IDS[0], "remote_block_ids": [list(range(16))], "token_ids": None,
}  # fmt: skip
META = SimpleNamespace(
    requests={
        name: ReqMeta([list(range(16))], 2048, 0, [list(range(16))], "10.0.0.1", 20001, "engine-0", name)
        for name in FEW
    },
    reqs_in_batch=set(IDS),
    requests_to_send=dict.fromkeys(FEW, 12345.678),
)
REQUEST = SimpleNamespace(request_id=IDS[0], kv_transfer_params=PARAMS, status="WAITING_FOR_REMOTE_KVS")
OUTPUT = SimpleNamespace(finished_recving=set(FEW), finished_sending=set(FEW))
THREAD = SimpleNamespace(tp_rank=3, local_engine_id="engine-7")
WORKER = SimpleNamespace(tp_rank=3, kv_role="kv_consumer")
TRACKER = SimpleNamespace(finished_requests=set(FEW), reqs_to_process=set(IDS))
SCHEDULER = SimpleNamespace(finished_recving_kv_req_ids=set(FEW), failed_recving_kv_req_ids=set())
AGGREGATOR = SimpleNamespace(
    _recv_remaining_count=dict.fromkeys(FEW, 7), _send_remaining_count=dict.fromkeys(FEW, 7), _expected_finished_count=8
)
RUNNER = SimpleNamespace(
    input_batch=SimpleNamespace(req_ids=IDS), dp_rank=1, device=SimpleNamespace(type="npu", index=5)
)
ENQUEUED = {
    "request_id": IDS[0], "remote_request_id": IDS[1], "remote_engine_id": "engine-0", "remote_host": "10.0.0.1",
    "remote_handshake_port": 20001, "offset": 2,
}  # fmt: skip


def _schedule(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(result.num_scheduled_tokens), str(result.num_scheduled_tokens)


def _model_forward(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    runner = args[0]
    return str(runner.input_batch.req_ids), str(runner.dp_rank), str(runner.device.index)


def _match(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1].request_id), str(args[1].kv_transfer_params), str(result)


def _allocated(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1].request_id), str(args[3]), str(args[1].kv_transfer_params)


def _build_meta(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(result.requests), str(result.reqs_in_batch), str(result.requests_to_send)


def _start_load(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[0]._connector_metadata.requests), str(args[0]._connector_metadata.reqs_in_batch)


def _worker_load(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1].requests), str(args[1].reqs_in_batch), str(args[0].tp_rank), str(args[0].kv_role)


def _enqueue(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return (
        str(kwargs["request_id"]), str(kwargs["remote_request_id"]), str(kwargs["remote_engine_id"]),
        str(kwargs["remote_host"]), str(kwargs["remote_handshake_port"]), str(kwargs["offset"]),
        str(args[0].tp_rank), str(args[0].local_engine_id),
    )  # fmt: skip


def _transfer(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1]["remote_request_id"]), str(args[0].tp_rank), str(args[0].local_engine_id)


def _task_done(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1]), str(args[0].finished_requests), str(args[0].reqs_to_process)


def _task_poll(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return (str(result),)


def _recv_poll(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(result), str(args[0].tp_rank), str(args[0].local_engine_id)


def _worker_finished(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(result), str(result), str(args[0].tp_rank), str(args[0].kv_role)


def _finished(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(result), str(result), str(args[1])


def _aggregate(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    this, output = args[0], result.kv_connector_output
    return (
        str(output.finished_recving), str(output.finished_sending), str(output.finished_recving),
        str(this._recv_remaining_count), str(this._send_remaining_count), str(this._expected_finished_count),
    )  # fmt: skip


def _xfer_finished(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    this, output = args[0], args[1]
    return (
        str(output.finished_recving), str(output.finished_recving), str(output.finished_sending),
        str(this.finished_recving_kv_req_ids), str(this.failed_recving_kv_req_ids),
    )  # fmt: skip


def _promote(args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
    return str(args[1].request_id), str(args[1].status), str(result), str(args[0].finished_recving_kv_req_ids)


_SCHEDULED = Call((None,), {}, SimpleNamespace(num_scheduled_tokens=TOKENS), _schedule)
CALLS = {
    "RecomputeScheduler.schedule": _SCHEDULED,
    "AsyncRecomputeScheduler.schedule": _SCHEDULED,
    "SchedulerDynamicBatch.schedule": _SCHEDULED,
    "BalanceScheduler.schedule": _SCHEDULED,
    "NPUModelRunner._model_forward": Call((RUNNER,), {}, None, _model_forward),
    "MooncakeConnectorScheduler.get_num_new_matched_tokens": Call((None, REQUEST, 0), {}, (2048, True), _match),
    "MooncakeConnectorScheduler.update_state_after_alloc": Call((None, REQUEST, None, 2048), {}, None, _allocated),
    "MooncakeConnectorScheduler.build_connector_meta": Call((None, None), {}, META, _build_meta),
    "MooncakeConnector.start_load_kv": Call((SimpleNamespace(_connector_metadata=META),), {}, None, _start_load),
    "MooncakeConnectorWorker.start_load_kv": Call((WORKER, META), {}, None, _worker_load),
    "KVCacheRecvingThread.add_request": Call((THREAD,), ENQUEUED, None, _enqueue),
    "KVCacheRecvingThread._transfer_kv_cache": Call((THREAD, PARAMS), {}, None, _transfer),
    "KVCacheTaskTracker.update_done_task_count": Call((TRACKER, IDS[0]), {}, None, _task_done),
    "KVCacheTaskTracker.get_and_clear_finished_requests": Call((TRACKER,), {}, set(FEW), _task_poll),
    "KVCacheRecvingThread.get_and_clear_finished_requests": Call((THREAD,), {}, set(FEW), _recv_poll),
    "MooncakeConnectorWorker.get_finished": Call((WORKER,), {}, (set(FEW), set(FEW)), _worker_finished),
    "MooncakeConnector.get_finished": Call((None, set(FEW)), {}, (set(FEW), set(FEW)), _finished),
    "KVOutputAggregator.aggregate": Call((AGGREGATOR,), {}, SimpleNamespace(kv_connector_output=OUTPUT), _aggregate),
    "Scheduler._update_from_kv_xfer_finished": Call((SCHEDULER, OUTPUT), {}, None, _xfer_finished),
    "Scheduler._try_promote_blocked_waiting_request": Call((SCHEDULER, REQUEST), {}, True, _promote),
}


def _bound(symbol: symbols.Symbol) -> Values:
    def function(*args: Any, **kwargs: Any) -> None: ...

    def failed(attribute: symbols.Attribute, error: Exception) -> None:
        raise error

    return symbols.bind(symbol.attributes, function, failed)


def _load() -> list[tuple[Call, Values]]:
    """Each symbol's call and its bound attributes, checked against the plain values where those are not cut."""
    found = [symbol for symbol in symbols.load(FILE)[0] if symbol.attributes]
    assert sum(len(symbol.attributes) for symbol in found) == EXPRESSIONS
    pairs = []
    for symbol in found:
        call, values = CALLS[symbol.qualname], _bound(symbol)
        for ours, plain in zip(values(*call[:3]), call.plain(*call[:3]), strict=True):
            assert ours == plain or (len(plain) > MAX_TEXT and len(ours) <= MAX_TEXT), symbol.target
        pairs.append((call, values))
    return pairs


def _cost(functions: list[tuple[Call, Values]], rounds: int) -> float:
    """Microseconds for one call of each."""
    prepared = [(function, *call[:3]) for call, function in functions]
    start = thread_time_ns()
    for _ in repeat(None, rounds):
        for function, args, kwargs, result in prepared:
            function(args, kwargs, result)
    return (thread_time_ns() - start) / rounds / 1e3


def run(quick: bool) -> bool:
    """Measure and print; whether the goal is met."""
    if not FILE.is_file():
        print(f"{FILE} is not here: nothing measured")
        return True
    ours = _load()
    plain = [(call, call.plain) for call, _ in ours]
    short = [all(len(text) <= 64 for text in call.plain(*call[:3])) for call, _ in ours]
    some = [pair for pair, is_short in zip(ours, short, strict=True) if is_short]
    some_plain = [pair for pair, is_short in zip(plain, short, strict=True) if is_short]
    measured = interleaved(
        20 if quick else 100,
        {
            "ours, all": lambda: _cost(ours, 20),
            "plain, all": lambda: _cost(plain, 20),
            "ours, short": lambda: _cost(some, 200),
            "plain, short": lambda: _cost(some_plain, 200),
        },
    )
    show_rounds(f"{EXPRESSIONS} expressions at a batch of {BATCH}", "us for one call of each symbol", measured)

    def ratio(what: str) -> list[float]:
        return per_round(measured, lambda mine, theirs: mine / theirs, f"ours, {what}", f"plain, {what}")

    return show_ratios(
        [
            ("expressions / plain Python, all", ratio("all"), 2.0),
            (f"the {len(some)} symbols with short values only", ratio("short"), None),
        ]
    )
