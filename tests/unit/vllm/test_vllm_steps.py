"""A step of EngineCore, from ``schedule`` to ``update_from_output``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from test_vllm_standins import (
    TRACE_ID,
    TRACEPARENT,
    Request,
    Scheduler,
    SchedulerOutput,
    Window,
    attributes,
    call,
    output,
    recording,
    rows,
    spans,
)

from ascend_opentelemetry.recorder import SAMPLED, STATUS_ERROR, RecordSpan, recorder
from ascend_opentelemetry.vllm import _lifecycle, _steps
from ascend_opentelemetry.vllm._phase_spans import MAX_LINKS
from ascend_opentelemetry.vllm._scheduler import tracker
from ascend_opentelemetry.vllm._step_types import expander
from ascend_opentelemetry.vllm._steps import STEP_ATTRIBUTE

SCHEDULE, EXECUTE, UPDATE = _steps.Schedule(), _steps.ExecuteModel(), _steps.UpdateFromOutput()


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording()


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def schedule(scheduler: Scheduler, out: SchedulerOutput, allocated: int = 0) -> SchedulerOutput:
    def original(self: Scheduler) -> SchedulerOutput:
        self.kv_cache_manager.block_pool.free -= allocated
        return out

    return call(SCHEDULE, original, scheduler)


def execute(out: SchedulerOutput, result: Any = "output") -> Any:
    def original(self: Any, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    return call(EXECUTE, original, None, out, non_block=True)


def update(scheduler: Scheduler, out: SchedulerOutput) -> None:
    call(UPDATE, lambda self, scheduler_output, model_runner_output: None, scheduler, out, "output")


def whole_step(scheduler: Scheduler, out: SchedulerOutput) -> None:
    execute(schedule(scheduler, out))
    update(scheduler, out)


def running(scheduler: Scheduler, *request_ids: str) -> None:
    """Traced requests that are in the scheduler."""
    for request_id in request_ids:
        request = Request(request_id, trace_headers={"traceparent": TRACEPARENT})
        tracker.phases.add(request)
        scheduler.requests[request_id] = request


def names() -> list[str]:
    return [record[0].name for record in recorder.queue]


def test_a_step_is_a_trace_with_three_children(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    scheduler.running, scheduler.waiting = [Request("a")], [Request("w"), Request("v")]
    out = output({"a": 4}, new={"a": 4})
    schedule(scheduler, out, allocated=3)
    execute(out)
    update(scheduler, out)
    step = getattr(out, STEP_ATTRIBUTE)
    assert names() == ["KVCacheStatus", "batchFrameworkProcessing", "modelExec", "update_from_output", "engine.step"]
    assert spans("engine.step")[0][4] == step
    assert step[2:] == (0, SAMPLED)
    for name in ("batchFrameworkProcessing", "modelExec", "update_from_output"):
        (child,) = spans(name)
        assert (child[4][0], child[4][2], child[4][3]) == (step[0], step[1], SAMPLED)
        assert attributes(child) == {}
    assert len({record[4][1] for record in spans()}) == 4
    root = spans("engine.step")[0]
    assert attributes(root) == {
        "vllm.data_parallel.rank": None,
        "vllm.step.batch_size": 1,
        "vllm.step.scheduled_tokens": 4,
        "vllm.step.new_requests": 1,
        "vllm.step.preempted_requests": 0,
        "vllm.step.resumed_requests": 0,
        "vllm.step.running_requests": 1,
        "vllm.step.waiting_requests": 2,
        "vllm.kv_cache.blocks.used": 3,
        "vllm.kv_cache.blocks.free": 97,
        "vllm.kv_cache.blocks.total": 100,
    }
    assert all(root[1] <= child[1] <= child[2] <= root[2] for child in spans())
    phases = tracker.phases.requests["a"]
    assert root[6].links == [(TRACE_ID, phases.prefill_id, (("vllm.request.phase", "prefill"),))]
    assert phases.prefill_steps.ids == [(step[0], step[1])]


def test_the_native_rows_of_a_step(scheduler: Scheduler) -> None:
    scheduler.running, scheduler.waiting = [Request("a")], [Request("w")]
    out = output({"a": 4}, new={"a": 4})
    schedule(scheduler, out, allocated=3)
    execute(out)
    update(scheduler, out)
    rid = [
        {
            "rid": "a", "iter": 0, "type": 0, "num_scheduled_tokens": 4, "num_prompt_tokens": 4,
            "num_computed_tokens": 0,
        }
    ]  # fmt: skip
    assert rows() == [
        (
            "KVCacheStatus", "Schedule.KVCache",
            {
                "rid": ["a"], "TotalBlocks=": 100, "UsedBlocks=": 3, "FreeBlocks=": 97, "UsagePercent=": 0.03,
                "AllocatedBlocks=": 3, "type": 0,
            },
        ),
        ("Dequeue", "Schedule", {"rid": ["a"], "QueueSize=": 1, "scope#QueueName": "WAITING", "type": 0}),
        ("Enqueue", "Schedule", {"rid": ["a"], "QueueSize=": 1, "scope#QueueName": "RUNNING", "type": 0}),
        ("batchFrameworkProcessing", "Schedule", {"type": 2, "rid": rid, "batch_type": "Prefill"}),
        ("modelExec", "Execute", {"type": 2, "rid": rid, "batch_type": "Prefill", "batch_size": 4}),
    ]  # fmt: skip


def test_schedule_and_execute_rows_share_the_bytes_of_their_request_list(scheduler: Scheduler) -> None:
    out = output({"a": 4, 'b"\\é': 2}, new={"a": 4, 'b"\\é': 9})
    whole_step(scheduler, out)
    texts = [
        row[4].partition('"rid": ')[2].partition(', "batch_type"')[0]
        for record in recorder.queue
        if record[0].name in ("batchFrameworkProcessing", "modelExec")
        for row in record[0].rows(record)
        if '"type": 2' in row[4][:12]
    ]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    assert texts[0].startswith('[{"rid": "a", ')


def test_preempted_and_resumed_requests_have_rows_of_their_own(scheduler: Scheduler) -> None:
    tracker.preempted = ["p"]
    whole_step(scheduler, output({"r": 5}, computed={"r": 0}, resumed=("r",)))
    queue = [(name, args["rid"], args["scope#QueueName"]) for name, _, args in rows() if "scope#QueueName" in args]
    assert queue == [("Preempt", ["p"], "WAITING"), ("Resume", ["r"], "WAITING")]
    assert attributes(spans("engine.step")[0])["vllm.step.preempted_requests"] == 1
    assert tracker.preempted == []


def test_a_resumption_is_an_event_of_the_phase(scheduler: Scheduler) -> None:
    running(scheduler, "r")
    whole_step(scheduler, output({"r": 4}, new={"r": 4}))
    whole_step(scheduler, output({"r": 5}, computed={"r": 0}, resumed=("r",)))
    assert [event[0] for event in tracker.phases.requests["r"].events] == ["scheduled", "resumed"]


def test_a_prompt_resumes_behind_what_the_prefix_cache_kept(scheduler: Scheduler) -> None:
    running(scheduler, "r")
    whole_step(scheduler, output({"r": 4}, new={"r": 8}))
    scheduler.requests["r"].num_prompt_tokens = 8
    tracker.phases.preempted(scheduler.requests["r"])
    whole_step(scheduler, output({"r": 4}, computed={"r": 4}, resumed=("r",)))
    assert (tracker.phases.requests["r"].chunks, tracker.phases.requests["r"].left) == (2, 0)


@pytest.mark.parametrize("done", [False, True])
def test_the_model_runs_until_its_future_is_done(scheduler: Scheduler, done: bool) -> None:
    future: Future[Any] = Future()
    if done:
        future.set_result("output")
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    assert execute(out, future) is future
    assert ("modelExec" in names()) is done
    if not done:
        future.set_result("output")
    assert names().count("modelExec") == 1
    update(scheduler, out)
    assert names().count("modelExec") == 1


def test_a_future_that_nobody_asks_ends_with_the_update(scheduler: Scheduler) -> None:
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    future: Future[Any] = Future()
    execute(out, future)  # with async scheduling only the future of sample_tokens is asked
    assert "modelExec" not in names()
    update(scheduler, out)
    future.set_result(None)
    assert names()[2:] == ["modelExec", "update_from_output", "engine.step"]


def test_a_future_that_another_thread_ends(scheduler: Scheduler) -> None:
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    future: Future[Any] = Future()
    execute(out, future)
    thread = threading.Thread(target=future.set_result, args=(None,))
    thread.start()
    thread.join()
    update(scheduler, out)
    assert names().count("modelExec") == 1


@pytest.mark.parametrize("by_future", [False, True])
def test_an_exception_of_the_model_is_that_of_its_span(scheduler: Scheduler, by_future: bool) -> None:
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    if by_future:
        future: Future[Any] = Future()
        execute(out, future)
        future.set_exception(RuntimeError("out of memory"))
    else:
        with pytest.raises(RuntimeError):
            execute(out, RuntimeError("out of memory"))
    (span,) = spans("modelExec")
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "RuntimeError: out of memory")
    assert [event[0] for event in span[6].events] == ["exception"]


def test_a_cancelled_future_is_no_fault(scheduler: Scheduler) -> None:
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    future: Future[Any] = Future()
    execute(out, future)
    future.cancel()
    assert spans("modelExec")[0][6] is None


def test_an_exception_of_the_update_is_that_of_its_span(scheduler: Scheduler) -> None:
    def fail(self: Any, scheduler_output: Any, model_runner_output: Any) -> None:
        raise AssertionError("bad output")

    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    with pytest.raises(AssertionError):
        call(UPDATE, fail, scheduler, scheduler_output=out, model_runner_output="output")
    assert spans("update_from_output")[0][6].status == STATUS_ERROR
    (step,) = spans("engine.step")
    assert (step[6].status, step[6].message) == (STATUS_ERROR, "AssertionError")
    assert tracker.steps == {}


def test_a_step_without_tokens_leaves_nothing(scheduler: Scheduler) -> None:
    out = output({}, finished=("a",))
    whole_step(scheduler, out)
    assert names() == []
    assert tracker.steps == {}
    assert not hasattr(out, STEP_ATTRIBUTE)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_an_empty_step_reports_as_finished_is_forgotten_with_the_next_one(scheduler: Scheduler) -> None:
    """The end of the last request of a batch always comes with an empty step."""
    for number in range(3):
        whole_step(scheduler, output({f"r{number}": 4}, new={f"r{number}": 4}))
        whole_step(scheduler, output({}, finished=(f"r{number}",)))
    whole_step(scheduler, output({"last": 4}, new={"last": 4}, finished=("other",)))
    rows()
    assert list(expander._known) == ["last"]
    assert tracker.finished == set()


def test_an_exception_of_schedule_is_passed_on(scheduler: Scheduler) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("no blocks")

    with pytest.raises(RuntimeError, match="no blocks"):
        call(SCHEDULE, fail, scheduler)
    assert names() == []
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_scheduler_of_another_kind_is_served_and_no_span_stays_current() -> None:
    """One without a KV cache manager."""
    out = output({"a": 4}, new={"a": 4})
    assert call(SCHEDULE, lambda self: out, SimpleNamespace(requests={})) is out
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert names() == []


def test_a_scheduler_that_puts_its_result_into_an_output_of_its_own(scheduler: Scheduler) -> None:
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    extended = SimpleNamespace(num_scheduled_tokens=out.num_scheduled_tokens, more=1)
    execute(extended)  # type: ignore[arg-type]
    update(scheduler, extended)  # type: ignore[arg-type]
    assert names()[1:] == ["batchFrameworkProcessing", "modelExec", "update_from_output", "engine.step"]


def test_the_executor_and_its_base_class_are_one_span(scheduler: Scheduler) -> None:
    seen = []

    def outer(self: Any, scheduler_output: SchedulerOutput) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        execute(scheduler_output)

    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    call(EXECUTE, outer, None, out)
    update(scheduler, out)
    assert [span[4][1] for span in spans("modelExec")] == seen


def test_two_steps_may_be_open(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    first, second = output({"a": 4}, new={"a": 4}), output({"a": 1}, computed={"a": 4})
    futures: list[Future[Any]] = [Future(), Future()]
    execute(schedule(scheduler, first), futures[0])
    execute(schedule(scheduler, second), futures[1])
    assert trace.get_current_span() is trace.INVALID_SPAN
    futures[0].set_result(None)
    scheduler.requests["a"].num_output_tokens = 1
    update(scheduler, first)
    futures[1].set_result(None)
    update(scheduler, second)
    steps = [getattr(out, STEP_ATTRIBUTE) for out in (first, second)]
    assert [span[4] for span in spans("engine.step")] == steps
    assert [span[4][0] for span in spans("modelExec")] == [step[0] for step in steps]
    # the second one was scheduled before the first token was known: for its links it is a prefill step
    assert [dict(span[6].links[0][2])["vllm.request.phase"] for span in spans("engine.step")] == ["prefill", "prefill"]
    iters = [args["rid"][0]["iter"] for name, _, args in rows() if name in ("batchFrameworkProcessing", "modelExec")]
    assert sorted(iters) == [0, 0, 1, 1]
    assert (tracker.steps, tracker.phases.prefilling) == ({}, {})


def test_outputs_that_never_come_back_are_few(scheduler: Scheduler) -> None:
    for _ in range(100):
        schedule(scheduler, output({"a": 1}, computed={"a": 4}))
    assert len(tracker.steps) == 64


@pytest.mark.parametrize("timers", [0, 1])
def test_an_unselected_step_has_rows_and_no_spans(
    scheduler: Scheduler, timers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.step_ratio = 0.0
    monkeypatch.setattr(recorder, "timers", timers)
    out = output({"a": 1}, computed={"a": 4})
    seen = []

    def original(self: Scheduler) -> SchedulerOutput:
        seen.append(trace.get_current_span())
        return out

    execute(call(SCHEDULE, original, scheduler))
    update(scheduler, out)
    assert spans() == []
    assert names() == ["KVCacheStatus", "batchFrameworkProcessing", "modelExec"]
    assert not hasattr(out, STEP_ATTRIBUTE)
    (current,) = seen
    if timers:  # none of them is a root of its own
        assert isinstance(current, RecordSpan)
        assert current.flags == 0
    else:  # nobody would ask
        assert current is trace.INVALID_SPAN


def test_an_unselected_step_is_traced_all_the_same_when_a_traced_request_is_scheduled_first(
    scheduler: Scheduler,
) -> None:
    recorder.step_ratio = 0.0
    running(scheduler, "a")
    whole_step(scheduler, output({"a": 4, "u": 4}, new={"a": 4, "u": 4}))
    (step,) = spans("engine.step")
    (inner,) = spans("batchFrameworkProcessing")
    assert (inner[4][0], inner[4][2]) == step[4][:2]
    assert inner[4][1] not in (0, step[4][1])
    assert len(step[6].links) == 1
    recorder.queue.clear()
    whole_step(scheduler, output({"a": 1}, computed={"a": 4}))
    assert spans() == []


def test_the_configured_sampler_may_refuse_a_step(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    recorder.set_traces(True, lambda *_: False)
    whole_step(scheduler, output({"a": 4}, new={"a": 4}))
    assert spans() == []


def test_links_are_capped_and_only_those_to_traced_requests_are_counted(scheduler: Scheduler) -> None:
    ids = [f"r{number}" for number in range(MAX_LINKS + 3)]
    running(scheduler, *ids)
    scheduled = dict.fromkeys([*ids, *(f"untraced{number}" for number in range(50))], 1)
    whole_step(scheduler, output(scheduled, new=dict.fromkeys(scheduled, 4)))
    extra = spans("engine.step")[0][6]
    assert (len(extra.links), extra.dropped_links) == (128, 3)
    recorder.queue.clear()
    few = dict.fromkeys(["r0", *(f"untraced{number}" for number in range(200))], 1)
    whole_step(scheduler, output(few, computed=few))
    extra = spans("engine.step")[0][6]
    assert (len(extra.links), extra.dropped_links) == (1, 0)


def test_what_a_program_sets_on_the_current_span_is_kept(scheduler: Scheduler) -> None:
    out = output({"a": 4}, new={"a": 4})

    def original(self: Scheduler) -> SchedulerOutput:
        trace.get_current_span().set_attribute("mine", 1)
        return out

    call(SCHEDULE, original, scheduler)
    assert spans("batchFrameworkProcessing")[0][6].attributes == (("mine", 1),)


def test_a_window_that_opens_in_the_middle(scheduler: Scheduler) -> None:
    recorder.set_native(None)
    scheduler.requests = {
        "decoding": Request("decoding", num_prompt_tokens=4, num_output_tokens=3, num_computed_tokens=7),
        "chunked": Request("chunked", num_prompt_tokens=9, num_computed_tokens=5),
        "waiting": Request("waiting", num_prompt_tokens=2),
    }
    whole_step(scheduler, output({"decoding": 1}, computed={"decoding": 6}))
    assert rows("batchFrameworkProcessing") == rows("modelExec") == []
    recorder.queue.clear()
    recorder.set_native(Window())
    whole_step(scheduler, output({}))  # nothing can run: the next step tells what was there
    out = output({"decoding": 1, "chunked": 4, "waiting": 2}, {"waiting": 2}, {"decoding": 7, "chunked": 5})
    whole_step(scheduler, out)
    ((_, _, args),) = rows("batchFrameworkProcessing")
    assert [(entry["rid"], entry["iter"], entry["type"]) for entry in args["rid"]] == [
        ("decoding", 3, 1), ("chunked", 1, 0), ("waiting", 0, 0),
    ]  # fmt: skip
    assert [entry["num_prompt_tokens"] for entry in args["rid"]] == [4, 9, 2]
    recorder.queue.clear()
    whole_step(scheduler, output({"decoding": 1}, computed={"decoding": 8}))
    assert rows("modelExec")[0][2]["rid"][0]["iter"] == 4


@pytest.mark.parametrize("moment", ["in schedule", "before the model runs"])
def test_a_step_that_began_before_the_window_has_no_rows(scheduler: Scheduler, moment: str) -> None:
    recorder.set_native(None)
    out = output({"a": 4}, new={"a": 4})

    def original(self: Scheduler) -> SchedulerOutput:
        if moment == "in schedule":
            recorder.set_native(Window())
        return out

    call(SCHEDULE, original, scheduler)
    recorder.set_native(Window())
    execute(out)
    update(scheduler, out)
    assert rows("batchFrameworkProcessing") == rows("modelExec") == rows("Dequeue") == []
    assert len(spans("engine.step")) == 1


def test_recording_that_ends_in_the_middle_of_a_step(scheduler: Scheduler) -> None:
    recorder.set_traces(False)
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    future: Future[Any] = Future()
    execute(out, future)
    recorder.set_native(None)
    future.set_result(None)
    update(scheduler, out)
    assert names() == ["KVCacheStatus", "batchFrameworkProcessing"]
    # the step is still known, and an empty output at its address is another one
    recorder.set_native(Window())
    empty = output({})
    execute(empty)
    update(scheduler, empty)
    assert names() == ["KVCacheStatus", "batchFrameworkProcessing"]


def test_tracing_that_begins_in_schedule(scheduler: Scheduler) -> None:
    recorder.set_traces(False)
    out = output({"a": 4}, new={"a": 4})

    def original(self: Scheduler) -> SchedulerOutput:
        recorder.set_traces(True)
        return out

    call(SCHEDULE, original, scheduler)
    execute(out)
    update(scheduler, out)
    assert spans() == []
    assert names() == ["KVCacheStatus", "batchFrameworkProcessing", "modelExec"]


def test_a_record_keeps_no_request_alive(scheduler: Scheduler) -> None:
    whole_step(scheduler, output({"a": 4}, new={"a": 4}))
    step = recorder.queue[0][5]
    kept = [getattr(step, name) for name in type(step).__slots__]
    assert not any(isinstance(value, (Scheduler, SchedulerOutput, Request)) for value in kept)


def test_a_wall_clock_that_is_set_in_a_step_leaves_its_parts_within_it(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter(range(100, 0, -1))
    monkeypatch.setattr(_steps, "time_ns", lambda: next(hours) * 3_600 * 10**9)
    running(scheduler, "a")
    whole_step(scheduler, output({"a": 4}, new={"a": 4}))
    (root,) = spans("engine.step")
    assert [span[0].name for span in spans() if not root[1] <= span[1] <= span[2] <= root[2]] == []
    assert root[2] - root[1] < 10**9


def test_a_schedule_that_calls_the_one_of_its_base_class_is_one_step(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    out = output({"a": 4}, new={"a": 4})
    call(SCHEDULE, lambda self: schedule(self, out), scheduler)
    update(scheduler, out)
    schedule(scheduler, following := output({"a": 1}, computed={"a": 4}))
    update(scheduler, following)
    assert [len(spans(name)) for name in ("batchFrameworkProcessing", "engine.step")] == [2, 2]


def test_a_schedule_that_raises_does_not_hide_the_next_one(scheduler: Scheduler) -> None:
    def broken(self: Scheduler) -> None:
        raise RuntimeError("no blocks")

    with pytest.raises(RuntimeError):
        call(SCHEDULE, broken, scheduler)
    whole_step(scheduler, output({"a": 4}, new={"a": 4}))
    assert len(spans("engine.step")) == 1


def drafted(scheduler: Scheduler, tokens: dict[str, list[int]], **fields: Any) -> dict[str, Any]:
    """Attributes of a step that verifies two drafts for ``a`` and three for ``b``."""
    out = output({"a": 3, "b": 4}, computed={"a": 4, "b": 4})
    out.scheduled_spec_decode_tokens = {"a": [7, 8], "b": [7, 8, 9], "c": []}
    for name, value in fields.items():
        setattr(out, name, value)
    execute(schedule(scheduler, out))
    results = SimpleNamespace(
        sampled_token_ids=list(tokens.values()), req_id_to_index={name: index for index, name in enumerate(tokens)}
    )
    call(UPDATE, lambda self, scheduler_output, model_runner_output: None, scheduler, out, results)
    return attributes(spans("engine.step")[-1])


def test_drafts_are_counted_on_the_step_and_for_its_requests(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    found = drafted(scheduler, {"b": [1, 2], "a": [1, 2, 3]})
    assert (found["vllm.spec_decode.drafted_tokens"], found["vllm.spec_decode.accepted_tokens"]) == (5, 3)
    phases = tracker.phases.requests["a"]
    assert (phases.drafted, phases.accepted) == (2, 2)


def test_drafts_that_were_not_verified_do_not_count(scheduler: Scheduler) -> None:
    found = drafted(scheduler, {"a": [], "b": [1]}, num_invalid_spec_tokens={"b": 1})
    assert (found["vllm.spec_decode.drafted_tokens"], found["vllm.spec_decode.accepted_tokens"]) == (2, 0)
    assert "vllm.spec_decode.drafted_tokens" not in drafted(scheduler, {})  # all of them were aborted


def test_drafts_are_not_counted_where_nobody_is_told(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(_steps, "count_drafts", lambda *args: counted.append(args))
    monkeypatch.setattr(recorder, "sample_step", lambda: False)
    out = output({"a": 3}, computed={"a": 4})
    out.scheduled_spec_decode_tokens = {"a": [7, 8]}
    whole_step(scheduler, out)
    assert counted == []
    running(scheduler, "a")  # a traced request tells it
    whole_step(scheduler, out)
    assert len(counted) == 1


def test_a_step_without_drafts_says_nothing_of_them(scheduler: Scheduler) -> None:
    whole_step(scheduler, output({"a": 4}, new={"a": 4}))
    assert "vllm.spec_decode.drafted_tokens" not in attributes(spans("engine.step")[0])


def test_steps_that_are_open_when_the_engine_stops_have_failed(scheduler: Scheduler) -> None:
    running(scheduler, "a")
    out = schedule(scheduler, output({"a": 4}, new={"a": 4}))
    with pytest.raises(RuntimeError):
        execute(out, RuntimeError("out of memory"))
    engine = SimpleNamespace(scheduler=scheduler)
    for _ in range(2):
        call(_lifecycle.EngineShutdown(), lambda self: None, engine)
    (step,) = spans("engine.step")
    assert step[4] == getattr(out, STEP_ATTRIBUTE)
    assert (step[6].status, step[6].message, len(step[6].links)) == (STATUS_ERROR, "the engine stopped", 1)
    (execution,) = spans("modelExec")
    assert execution[4][2] == step[4][1]
    assert execution[6].status == STATUS_ERROR
    assert tracker.steps == {}
