"""What vLLM before 0.32 does in other ways: stand-ins in the shape of those versions."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from test_vllm_standins import (
    SPAN_ID,
    TRACE_ID,
    NewRequestData,
    ParentRequest,
    Request,
    RequestStatus,
    Scheduler,
    attributes,
    call,
    output,
    recording,
    rows,
    spans,
)
from test_vllm_standins import SamplingParams as NewSamplingParams

from ascend_opentelemetry.recorder import SAMPLED, recorder
from ascend_opentelemetry.vllm import _lifecycle, _refusals, _requests, _scheduler, _scope, _steps, _worker
from ascend_opentelemetry.vllm._carrier import carried_headers, drop_headers, put_headers
from ascend_opentelemetry.vllm._step_types import expander

HEADERS = {"traceparent": f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"}


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    _scope._current.set(None)
    yield from recording()


@dataclass
class SamplingParams(NewSamplingParams):
    extra_args: dict[str, Any] | None = None


@dataclass
class EngineCoreRequest:
    """Of vLLM 0.9.1: no ``external_req_id``, and no other field may be set, as in a struct."""

    __slots__ = ("arrival_time", "prompt_token_ids", "request_id", "sampling_params")

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: SamplingParams
    arrival_time: float


def request(request_id: str = "cmpl-x-0", params: SamplingParams | None = None) -> EngineCoreRequest:
    return EngineCoreRequest(request_id, [1, 2, 3], params or SamplingParams(), 1_700_000_000.0)


@dataclass
class CachedRequestData:
    """Of vLLM 0.9.1: one a request, filled again for a later step."""

    req_id: str
    num_computed_tokens: int
    resumed_from_preemption: bool = False


@dataclass
class SchedulerOutput:
    """Of vLLM 0.9.1."""

    scheduled_new_reqs: list[NewRequestData] = field(default_factory=list)
    scheduled_cached_reqs: list[CachedRequestData] = field(default_factory=list)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    finished_req_ids: set[str] = field(default_factory=set)
    scheduled_spec_decode_tokens: dict[str, list[int]] = field(default_factory=dict)

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())


def test_a_request_without_headers_carries_them_in_its_extra_arguments() -> None:
    given = {"kv_transfer_params": {"do_remote_decode": True}}
    one = request(params=SamplingParams(extra_args=given))
    put_headers(one, HEADERS)
    assert one.sampling_params.extra_args == {**given, "ascend_otel_trace_headers": HEADERS}
    assert given == {"kv_transfer_params": {"do_remote_decode": True}}
    assert carried_headers(one) == HEADERS
    drop_headers(one)
    assert carried_headers(one) == HEADERS  # they do not travel back, and children share them


@pytest.mark.parametrize("params", [SamplingParams(), None])
def test_a_request_that_carries_nothing_has_no_headers(params: SamplingParams | None) -> None:
    assert carried_headers(SimpleNamespace(sampling_params=params)) is None
    assert carried_headers(SimpleNamespace()) is None


def test_phases_are_below_the_request_also_where_it_has_no_headers() -> None:
    # like AsyncLLM of 0.9.1: children of one call share their parameters
    parent = ParentRequest("cmpl-x-0", SamplingParams(n=2))
    params = copy.copy(parent.sampling_params)
    children = [request(f"{index}_cmpl-x-0", params) for index in range(2)]
    for index, one in enumerate(children):
        _requests.tracker.add(one, parent, index, None)
    assert parent.sampling_params.extra_args is None
    trace = _requests.tracker.children["0_cmpl-x-0"].request
    assert trace.ids is not None
    for one in children:
        engine_request = SimpleNamespace(request_id=one.request_id, sampling_params=one.sampling_params)
        _scheduler.tracker.phases.add(engine_request)
    phases = _scheduler.tracker.phases.requests
    assert {key: (one.trace_id, one.parent_id) for key, one in phases.items()} == dict.fromkeys(
        ("0_cmpl-x-0", "1_cmpl-x-0"), (trace.ids[0], trace.ids[1])
    )
    assert [child.rid for child in _requests.tracker.children.values()] == ["0_cmpl-x-0", "1_cmpl-x-0"]


def test_a_list_of_cached_requests_is_read_when_the_step_is_scheduled() -> None:
    cached = [CachedRequestData("a", 40), CachedRequestData("b", 30, resumed_from_preemption=True)]
    out = SchedulerOutput(
        [NewRequestData("c", [0] * 7)], cached, {"a": 1, "b": 33, "c": 7}, scheduled_spec_decode_tokens={}
    )
    call(_steps.Schedule(), lambda self: out, Scheduler())
    cached[0].num_computed_tokens = cached[1].num_computed_tokens = 99  # filled again before the drain comes to it
    ((_, _, schedule),) = rows("batchFrameworkProcessing")
    assert [(one["rid"], one["num_computed_tokens"], one["num_scheduled_tokens"]) for one in schedule["rid"]] == [
        ("a", 40, 1), ("b", 30, 33), ("c", 0, 7),
    ]  # fmt: skip
    expander.__init__()
    assert [args["rid"] for _, _, args in rows("Resume")] == [["b"]]


@dataclass
class PreemptingScheduler(Scheduler):
    """Of vLLM up to 0.12: ``schedule`` preempts without calling a method for it."""

    victims: tuple[str, ...] = ()

    def schedule(self) -> Any:
        self.running = [one for one in self.running if one.request_id not in self.victims]
        return output({one.request_id: 1 for one in self.running}, computed={})


class TellingScheduler(PreemptingScheduler):
    """Of vLLM from 0.13 on."""

    def _preempt_request(self, request: Request) -> None: ...

    def schedule(self) -> Any:
        for one in self.running:
            if one.request_id in self.victims:
                call(_scheduler.PreemptRequest(), TellingScheduler._preempt_request, self, one)
        return super().schedule()


@pytest.mark.parametrize("kind", [PreemptingScheduler, TellingScheduler])
@pytest.mark.parametrize("victims", [(), ("c", "b"), ("a", "b", "c")])
def test_preemptions_are_known_with_and_without_a_method_for_them(
    kind: type[PreemptingScheduler], victims: tuple[str, ...]
) -> None:
    scheduler = kind(running=[Request(name, status=RequestStatus.RUNNING) for name in "abc"], victims=victims)
    for one in scheduler.running:
        one.trace_headers = dict(HEADERS)
        _scheduler.tracker.phases.add(one)
    phases = dict(_scheduler.tracker.phases.requests)
    call(_steps.Schedule(), kind.schedule, scheduler)
    preempted = {key for key, one in phases.items() if "preempted" in [event[0] for event in one.events]}
    assert preempted == set(victims)
    if len(victims) == 3:  # no tokens in this step: they count for the next one
        scheduler.running, scheduler.victims = [Request("d")], ()
        call(_steps.Schedule(), kind.schedule, scheduler)
    found = [args["rid"] for _, _, args in rows("Preempt")]
    assert [sorted(ids) for ids in found] == ([sorted(victims)] if victims else [])


@pytest.mark.parametrize(("counted", "preemptions"), [({}, 1), ({"num_preemptions": 3}, 3)])
def test_preemptions_of_a_request_are_counted_where_vllm_does_not(counted: dict[str, int], preemptions: int) -> None:
    running = SimpleNamespace(
        request_id="a", trace_headers=dict(HEADERS), sampling_params=None, num_prompt_tokens=4, num_output_tokens=2,
        num_computed_tokens=6, status=RequestStatus.FINISHED_STOPPED, **counted,
    )  # fmt: skip
    tracker = _scheduler.tracker.phases
    tracker.add(running)
    tracker.scheduled("a", 0, 4, 0)
    tracker.step_done({"a": running})
    _scheduler.tracker.preempt(running)
    tracker.finish(running)
    (decode,) = spans("decode")
    assert attributes(decode)["vllm.request.preemptions"] == preemptions


@dataclass
class ErrorResponse:
    """Of vLLM up to 0.10: its fields are not in ``error``."""

    message: str
    type: str
    code: int


class OpenAIServing:
    """Of vLLM up to 0.16: a method makes the answer to a refused request, from a text."""

    def create_error_response(
        self, message: str, err_type: str = "BadRequestError", status_code: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> ErrorResponse:
        return ErrorResponse(message, err_type, status_code.value)

    @staticmethod
    def static(message: str | Exception) -> ErrorResponse:
        return ErrorResponse(str(message), "BadRequestError", 400)


def refuse(method: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """What a serving function does."""

    def serving() -> None:
        _scope.enter_scope(_scope.Scope("chat", None, None))
        call(_refusals.ErrorResponse(), method, *args, **kwargs)

    contextvars.copy_context().run(serving)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_refusal_by_a_method_is_a_request_with_its_message(by_name: bool) -> None:
    arguments = {"message": "no such model"} if by_name else {}
    positional = () if by_name else ("no such model",)
    refuse(
        OpenAIServing.create_error_response, OpenAIServing(), *positional,
        err_type="NotFoundError", status_code=HTTPStatus.NOT_FOUND, **arguments,
    )  # fmt: skip
    (span,) = spans("llm_request")
    assert attributes(span)["error.type"] == "NotFoundError"
    assert attributes(span)["http.response.status_code"] == 404


def test_the_text_of_an_error_that_shows_the_prompt_stays_here() -> None:
    try:
        raise ValueError("cannot parse 'my secret'")
    except ValueError as error:
        refuse(OpenAIServing.create_error_response, OpenAIServing(), str(error))
    (span,) = spans("llm_request")
    assert (span[6].message, span[6].events) == ("BadRequestError", ())


@pytest.mark.parametrize(
    ("method", "arguments"),
    [(OpenAIServing.static, ()), (OpenAIServing.create_error_response, (OpenAIServing(),))],
)
def test_an_exception_is_found_with_and_without_the_serving_object_before_it(
    method: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    refuse(method, *arguments, RuntimeError("no more memory"))
    (span,) = spans("llm_request")
    ((name, _, details),) = span[6].events
    assert (name, dict(details)["exception.type"]) == ("exception", "RuntimeError")


class EngineCoreProc:
    """Of vLLM up to 0.16."""

    def __init__(self, busy: bool) -> None:
        self.scheduler = SimpleNamespace(has_requests=lambda: busy)


class NewEngineCoreProc(EngineCoreProc):
    def _notify_idle_state_callbacks(self) -> None: ...


@pytest.mark.parametrize(
    ("engine", "exports"),
    [(EngineCoreProc(busy=False), [True]), (EngineCoreProc(busy=True), []), (NewEngineCoreProc(busy=False), [])],
)
def test_an_idle_engine_exports_before_it_waits(
    engine: EngineCoreProc, exports: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(recorder, "wake", lambda export=False: woken.append(export))
    call(_lifecycle.InputQueue(), lambda self: None, engine)
    assert woken == exports


@pytest.mark.parametrize("name", ["Preprocess", "Forward", "Postprocess", "Sample", "Bookkeep", "Draft"])
def test_the_phases_were_marked_with_capitals(name: str) -> None:
    marked = call(_worker.RecordFunction(), nullcontext, "Forward")
    assert isinstance(marked, nullcontext)  # outside of a step
    _worker.current.scheduled, _worker.current.ids = {"a": 1}, (TRACE_ID, SPAN_ID, 0, SAMPLED)
    marked = call(_worker.RecordFunction(), nullcontext, name)
    assert marked._type is _worker.TAG_TYPES[name.lower()]
