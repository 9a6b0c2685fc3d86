"""What ``Scheduler`` does to a request, and the KV cache rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_vllm_standins import (
    TRACEPARENT,
    KVCacheManager,
    Request,
    RequestStatus,
    Scheduler,
    call,
    recording,
    rows,
    spans,
)

from ascend_opentelemetry.recorder import STATUS_ERROR, recorder
from ascend_opentelemetry.vllm import _kv_cache, _scheduler
from ascend_opentelemetry.vllm._scheduler import tracker


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording()


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What ``recorder.wake`` was called with."""
    calls: list[bool] = []
    monkeypatch.setattr(recorder, "wake", lambda export=False: calls.append(export))
    return calls


def add(scheduler: Scheduler, request: Request, by_name: bool = False) -> None:
    def original(self: Scheduler, request: Request) -> None:
        assert request.request_id not in self.requests, "duplicate request id"
        self.requests[request.request_id] = request
        self.waiting.append(request)

    hook = _scheduler.AddRequest()
    if by_name:
        call(hook, original, scheduler, request=request)
    else:
        call(hook, original, scheduler, request)


def free(scheduler: Scheduler, request: Request) -> None:
    call(_scheduler.FreeRequest(), lambda self, request: self.requests.pop(request.request_id), scheduler, request)


@pytest.mark.parametrize("by_name", [False, True])
def test_an_added_request_waits(by_name: bool) -> None:
    scheduler = Scheduler(waiting=[Request("before")])
    request = Request("a", trace_headers={"traceparent": TRACEPARENT})
    add(scheduler, request, by_name)
    assert rows() == [("Enqueue", "Schedule", {"rid": "a", "QueueSize=": 2, "scope#QueueName": "WAITING", "type": 0})]
    assert list(tracker.phases.requests) == ["a"]
    assert request.trace_headers is None
    assert recorder.meta["dpRankId"] == "0"


def test_further_input_of_a_session_is_not_queued_again() -> None:
    scheduler = Scheduler()
    add(scheduler, Request("a", trace_headers={"traceparent": TRACEPARENT}))
    first = tracker.phases.requests["a"]
    call(_scheduler.AddRequest(), lambda self, request: None, scheduler, Request("a"))
    assert tracker.phases.requests == {"a": first}
    assert len(rows("Enqueue")) == 1


def test_an_id_that_is_in_use_is_vllms_affair() -> None:
    scheduler = Scheduler()
    add(scheduler, Request("a", trace_headers={"traceparent": TRACEPARENT}))
    first = tracker.phases.requests["a"]
    with pytest.raises(AssertionError, match="duplicate"):
        add(scheduler, Request("a"))
    assert tracker.phases.requests == {"a": first}
    assert len(rows()) == 1


def test_without_tracing_a_request_is_left_as_it_is() -> None:
    recorder.set_traces(False)
    request = Request("a", trace_headers={"traceparent": TRACEPARENT})
    add(Scheduler(), request)
    assert tracker.phases.requests == {}
    assert request.trace_headers == {"traceparent": TRACEPARENT}


def test_a_preempted_request_is_noted_for_the_next_step() -> None:
    scheduler = Scheduler()
    request = Request("a", trace_headers={"traceparent": TRACEPARENT})
    add(scheduler, request)
    hook = _scheduler.PreemptRequest()
    call(hook, lambda self, request, timestamp: None, scheduler, request, 1.0)
    call(hook, lambda self, request, timestamp: None, scheduler, request=request, timestamp=1.0)
    assert tracker.preempted == ["a", "a"]
    assert [event[0] for event in tracker.phases.requests["a"].events] == ["preempted", "preempted"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RequestStatus.FINISHED_STOPPED, 0),
        (RequestStatus.FINISHED_ABORTED, 0),  # may be a stop string
        (RequestStatus.FINISHED_ERROR, STATUS_ERROR),
    ],
)
def test_a_freed_request_ends(status: RequestStatus, expected: int) -> None:
    scheduler = Scheduler()
    request = Request("a", trace_headers={"traceparent": TRACEPARENT}, status=status)
    add(scheduler, request)
    free(scheduler, request)
    (span,) = spans()
    assert (span[0].name, span[6].status) == ("queue", expected)
    assert tracker.phases.requests == {}


def test_the_drain_is_woken_when_the_last_request_ends_while_vllm_still_lists_it_as_running(
    woken: list[bool],
) -> None:
    scheduler = Scheduler()
    requests = [Request("a"), Request("b")]
    for request in requests:
        add(scheduler, request)
    scheduler.running, scheduler.waiting = requests, []
    free(scheduler, requests[0])
    assert woken == []
    free(scheduler, requests[1])
    assert woken == [False]


def test_a_snapshot_is_taken_once_a_window() -> None:
    scheduler = Scheduler(requests={"a": Request("a", num_output_tokens=2), "b": Request("b", num_computed_tokens=1)})
    assert tracker.snapshot(scheduler) == [("a", 4, 2), ("b", 4, 1)]
    assert tracker.snapshot(scheduler) is None
    recorder.set_native(None)
    tracker.window = 0
    assert tracker.snapshot(scheduler) is None


@pytest.mark.parametrize("by_name", [False, True])
def test_a_freed_cache_says_how_many_blocks_came_back(by_name: bool) -> None:
    manager = KVCacheManager()
    manager.block_pool.free = 90

    def original(self: KVCacheManager, request: Request) -> None:
        self.block_pool.free += 4

    given: Any = {"request": Request("a")} if by_name else {}
    call(_kv_cache.Free(), original, manager, *(() if by_name else (Request("a"),)), **given)
    assert rows() == [
        (
            "Free", "Schedule.KVCache",
            {
                "rid": "a", "deviceBlock=": 94, "TotalBlocks=": 100, "UsedBlocks=": 6, "FreeBlocks=": 94,
                "UsagePercent=": 0.06, "AllocatedBlocks=": -4, "type": 0,
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize("result", [("blocks", 3), ("blocks", 3, 0)])  # up to vLLM 0.25, and after
def test_a_hit_is_a_share_of_the_requests_tokens(result: tuple[Any, ...]) -> None:
    request = Request("a", num_tokens=4)
    call(_kv_cache.GetComputedBlocks(), lambda self, request: result, KVCacheManager(), request)
    assert rows() == [
        (
            "CacheHitRate", "Schedule.KVCache",
            {
                "rid": "a", "hitCache": 0.75, "TotalBlocks=": 100, "UsedBlocks=": 0, "FreeBlocks=": 100,
                "UsagePercent=": 0.0, "AllocatedBlocks=": 0, "type": 0,
            },
        )
    ]  # fmt: skip


def test_no_hit_rate_without_tokens_or_result(caplog: pytest.LogCaptureFixture) -> None:
    hook = _kv_cache.GetComputedBlocks()
    call(hook, lambda self, request: ("blocks", 0), KVCacheManager(), Request("a", num_tokens=0))
    call(hook, lambda self, request: ("blocks",), KVCacheManager(), request=Request("a"))
    with pytest.raises(KeyError):
        call(hook, lambda self, request: {}["x"], KVCacheManager(), Request("a"))
    assert rows() == []
    assert caplog.records == []


def test_a_model_without_a_cache_divides_by_nothing() -> None:
    manager = KVCacheManager()
    manager.block_pool.num_gpu_blocks, manager.block_pool.free = 1, 0
    call(_kv_cache.Free(), lambda self, request: None, manager, Request("a"))
    assert rows()[0][2]["UsagePercent="] == 0


def test_a_scheduler_whose_steps_are_never_seen_does_not_pile_up_preemptions() -> None:
    hook = _scheduler.PreemptRequest()
    for number in range(_scheduler.MAX_PREEMPTED + 5):
        call(hook, lambda self, request: None, Scheduler(), Request(f"r{number}"))
    assert len(tracker.preempted) == 1024
    assert tracker.preempted[-1] == "r1023"
