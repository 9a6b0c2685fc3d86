"""A request in the API server, from its arrival to its last token."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context, trace
from test_vllm_standins import (
    SPAN_ID,
    TRACE_ID,
    TRACEPARENT,
    UNSAMPLED,
    Detokenizer,
    EngineCoreOutput,
    EngineCoreRequest,
    FinishReason,
    ParentRequest,
    PoolingParams,
    RequestState,
    RequestStateStats,
    SamplingParams,
    attributes,
    recording,
    rows,
    spans,
)

from ascend_opentelemetry.recorder import (
    KIND_SERVER,
    REMOTE,
    SAMPLED,
    STATUS_ERROR,
    RecordSpan,
    make_current,
    parse_traceparent,
    recorder,
    remote_context,
)
from ascend_opentelemetry.vllm import _request_trace, _requests, _scope, _tracing
from ascend_opentelemetry.vllm._requests import RequestTracker

ARRIVAL = 1_700_000_000_000_000_000
#: What the engine calls the request.
ID = "cmpl-x-0-deadbeef"


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Both clocks, a second after the arrival."""
    clock = {"wall": ARRIVAL + 10**9, "mono": 50}
    for module in (_requests, _request_trace):
        monkeypatch.setattr(module, "time_ns", lambda: clock["wall"])
        monkeypatch.setattr(module, "monotonic_ns", lambda: clock["mono"])
    return clock


class EngineDeadError(Exception):
    """Says nothing, as vLLM's may."""


def state(request_id: str = ID, tokens: int = 2, stats: RequestStateStats | None = None) -> RequestState:
    return RequestState(request_id, detokenizer=Detokenizer([7] * tokens), stats=stats)


def add_choices(tracker: RequestTracker, n: int, added: int | None = None) -> list[str]:
    """Add the engine requests of one request for ``n`` choices; their ids."""
    parent = ParentRequest(ID, SamplingParams(n=n))
    headers = {"x": "shared"}
    requests = [EngineCoreRequest(f"{index}_{ID}", trace_headers=headers) for index in range(n)]
    for index, request in enumerate(requests[:added]):
        tracker.add(request, parent, index, None)
    assert headers == {"x": "shared"}
    return [request.request_id for request in requests]


def test_one_request_makes_one_span_and_its_native_rows(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    request = EngineCoreRequest()
    tracker.add(request, None, 0, None)
    assert tracker.on is True
    clock["mono"] += 500_000_000
    tracker.tokens([EngineCoreOutput(ID, [1])])
    clock["mono"] += 500_000_000
    tracker.finish(state(stats=RequestStateStats()), FinishReason.LENGTH)
    assert tracker.on is False
    (span,) = spans()
    trace_id, span_id, parent_id, flags = span[4]
    assert (span[0].name, span[0].domain, span[0].kind, parent_id, flags) == (
        "llm_request", "Request", KIND_SERVER, 0, SAMPLED,
    )  # fmt: skip
    assert parse_traceparent(request.trace_headers["traceparent"]) == (trace_id, span_id, SAMPLED)
    assert (span[1], span[2]) == (ARRIVAL, ARRIVAL + 2 * 10**9)
    assert attributes(span) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.id": "cmpl-x-0",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 16,
        "gen_ai.request.choice.count": 1,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.finish_reasons": ["length"],
        "vllm.request.preemptions": 0,
        "gen_ai.latency.e2e": 2.0,
        "gen_ai.latency.time_to_first_token": 1.5,
        "gen_ai.latency.time_in_queue": 0.25,
        "gen_ai.latency.time_in_model_prefill": 0.75,
        "gen_ai.latency.time_in_model_decode": 2.0,
        "gen_ai.latency.time_in_model_inference": 2.75,
    }
    assert (span[6].status, span[6].message, span[6].events) == (
        0, "", (("first_token", ARRIVAL + 1_500_000_000, ()),),
    )  # fmt: skip
    assert rows() == [
        ("httpReq", "Engine", {"rid": "cmpl-x-0", "type": 0}),
        ("tokenize", "Engine", {"type": 2, "rid": "cmpl-x-0"}),
        ("detokenize", "Engine", {"rid": "cmpl-x-0", "type": 0}),
        ("httpRes", "Engine", {"rid": "cmpl-x-0", "recvTokenSize=": 3, "replyTokenSize=": 2, "type": 0}),
    ]
    assert (tracker.children, tracker.waiting, tracker._parents) == ({}, set(), {})


def test_a_wall_clock_that_is_set_back_does_not_shorten_the_span(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    clock["wall"] -= 3_600 * 10**9
    clock["mono"] += 10**9
    tracker.tokens([EngineCoreOutput(ID, [1])])
    tracker.finish(state(), FinishReason.STOP)
    (span,) = spans()
    assert span[2] - span[1] == 2 * 10**9
    assert attributes(span)["gen_ai.latency.time_to_first_token"] == 2.0


def test_an_arrival_in_the_future_is_no_negative_duration(clock: dict[str, int]) -> None:
    clock["wall"] = ARRIVAL - 10**9
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.finish(state(), FinishReason.STOP)
    assert [record[2] - record[1] for record in recorder.queue if record[0].name in ("tokenize", "llm_request")] == [
        0,
        0,
    ]


def test_only_the_first_token_is_noted() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.tokens([EngineCoreOutput("other", [1]), EngineCoreOutput(ID)])  # a chunk without tokens
    assert tracker.waiting == {ID}
    tracker.tokens([EngineCoreOutput(ID, [1])])
    first = tracker.children[ID].request.first_token
    tracker.tokens([EngineCoreOutput(ID, [1])])
    assert tracker.children[ID].request.first_token == first > 0
    assert len(rows("detokenize")) == 1


def test_choices_are_one_span_with_rows_of_each(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    ids = add_choices(tracker, 3)
    assert len({parse_traceparent(trace_of(tracker, request_id)) for request_id in ids}) == 1
    tracker.tokens([EngineCoreOutput(ids[1], [1]), EngineCoreOutput(ids[0], [1])])
    for request_id, reason in zip(
        reversed(ids), (FinishReason.LENGTH, FinishReason.STOP, FinishReason.STOP), strict=True
    ):
        assert spans() == []
        tracker.finish(state(request_id, stats=RequestStateStats()), reason)
    (span,) = spans()
    found = attributes(span)
    assert found["gen_ai.request.choice.count"] == 3
    assert found["gen_ai.usage.input_tokens"] == 3
    assert found["gen_ai.usage.output_tokens"] == 6
    assert found["gen_ai.response.finish_reasons"] == ["stop", "stop", "length"]
    assert "gen_ai.latency.time_in_queue" not in found  # of which of the three?
    assert [row[2]["rid"] for row in rows("httpReq")] == ["0_cmpl-x-0", "1_cmpl-x-0", "2_cmpl-x-0"]
    assert [row[2]["rid"] for row in rows("httpRes")] == ["2_cmpl-x-0", "1_cmpl-x-0", "0_cmpl-x-0"]
    assert [row[2]["rid"] for row in rows("detokenize")] == ["1_cmpl-x-0", "0_cmpl-x-0"]
    assert (tracker._parents, tracker.waiting) == ({}, set())


def trace_of(tracker: RequestTracker, request_id: str) -> str:
    ids: Any = tracker.children[request_id].request.ids
    return f"00-{ids[0]:032x}-{ids[1]:016x}-{ids[3]:02x}"


def test_one_aborted_choice_makes_the_request_fail() -> None:
    tracker = RequestTracker()
    ids = add_choices(tracker, 3)
    tracker.finish(state(ids[0]), FinishReason.STOP)
    tracker.abort([ids[1], "unknown"])
    assert spans() == []
    tracker.finish(state(ids[2]), FinishReason.STOP)
    (span,) = spans()
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "aborted before the last token")
    assert attributes(span)["error.type"] == "abort"
    assert attributes(span)["gen_ai.response.finish_reasons"] == ["stop", "abort", "stop"]
    assert (tracker.children, tracker._parents) == ({}, {})


def test_an_abort_before_all_choices_were_added_ends_the_request() -> None:
    tracker = RequestTracker()
    ids = add_choices(tracker, 3, added=2)
    tracker.abort(ids)
    (span,) = spans()
    assert attributes(span)["gen_ai.response.finish_reasons"] == ["abort", "abort"]
    assert (tracker.children, tracker.waiting, tracker._parents) == ({}, set(), {})


def test_a_choice_that_ends_before_the_last_one_is_added_does_not_end_the_request() -> None:
    tracker = RequestTracker()
    parent = ParentRequest(ID, SamplingParams(n=2))
    tracker.add(EngineCoreRequest(f"0_{ID}"), parent, 0, None)
    tracker.finish(state(f"0_{ID}"), FinishReason.STOP)
    assert spans() == []
    tracker.add(EngineCoreRequest(f"1_{ID}"), parent, 1, None)
    tracker.finish(state(f"1_{ID}"), FinishReason.STOP)
    assert len(spans()) == 1


def test_when_the_engine_dies_every_open_request_failed() -> None:
    tracker = RequestTracker()
    add_choices(tracker, 2)
    tracker.add(EngineCoreRequest("cmpl-y-0-cafecafe", "cmpl-y-0"), None, 0, None)
    tracker.fail(EngineDeadError())
    assert [attributes(span)["gen_ai.request.id"] for span in spans()] == ["cmpl-x-0", "cmpl-y-0"]
    for span in spans():
        assert (span[6].status, span[6].message) == (STATUS_ERROR, "EngineDeadError")
        assert attributes(span)["error.type"] == "EngineDeadError"
        assert [event[0] for event in span[6].events] == ["exception"]
    assert (tracker.children, tracker.waiting, tracker._parents) == ({}, set(), {})
    assert rows("httpRes") == []


def test_the_error_of_many_requests_is_written_down_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[BaseException] = []

    def texts(error: BaseException) -> tuple[str, tuple[tuple[str, str], ...]]:
        written.append(error)
        return "dead", (("exception.type", "dead"),)

    monkeypatch.setattr(_requests, "failure_texts", texts)
    tracker = RequestTracker()
    for name in ("a", "b", "c"):
        tracker.add(EngineCoreRequest(name), None, 0, None)
    tracker.fail(EngineDeadError())
    tracker.fail(EngineDeadError())
    assert [span[6].message for span in spans()] == ["dead"] * 3
    assert len(written) == 1


def test_an_id_that_the_client_made_up_is_bounded() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(ID, "x" * 10_000), None, 0, None)
    tracker.finish(state(), FinishReason.STOP)
    assert attributes(spans()[0])["gen_ai.request.id"] == "x" * 256
    assert rows("httpReq")[0][2]["rid"] == "x" * 10_000  # the analyzer joins on it


def test_only_the_requests_given_fail() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest("a"), None, 0, None)
    tracker.add(EngineCoreRequest("b"), None, 0, None)
    tracker.fail(RuntimeError("no"), ["a", "unknown"])
    assert list(tracker.children) == ["b"]
    assert spans()[0][6].message == "no"


def test_the_text_of_a_refusal_which_may_show_the_request_stays_here() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest("a"), None, 0, None)
    tracker.fail(ValueError("not in the grammar: secret"), ["a"])
    (span,) = spans()
    assert (span[6].message, span[6].events[0][2]) == ("ValueError", (("exception.type", "ValueError"),))


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (FinishReason.ERROR, "the engine reported an error"),
        (FinishReason.ABORT, "aborted before the last token"),  # by the engine: generation was paused
    ],
)
def test_an_end_that_is_a_failure_has_error_status(reason: FinishReason, message: str) -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.finish(state(tokens=0, stats=RequestStateStats(first_token_ts=0.0)), reason)
    (span,) = spans()
    assert (span[6].status, span[6].message) == (STATUS_ERROR, message)
    assert attributes(span)["error.type"] == reason.value
    assert [key for key in attributes(span) if "time_in" in key] == []  # there was no first token


def test_what_ends_twice_or_was_never_added_is_ignored() -> None:
    tracker = RequestTracker()
    tracker.finish(state("unknown"), FinishReason.STOP)
    tracker.abort(["unknown"])
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.abort([ID])
    tracker.finish(state(), FinishReason.STOP)
    assert len(spans()) == 1
    assert rows("httpRes") == []


def test_a_pooling_request_has_no_detokenizer_and_no_parameters() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(sampling_params=None, pooling_params=PoolingParams()), None, 0, None)
    tracker.tokens([EngineCoreOutput(ID)])
    tracker.finish(RequestState(ID), FinishReason.STOP)
    (span,) = spans()
    assert attributes(span)["gen_ai.operation.name"] == "embeddings"
    assert "gen_ai.usage.output_tokens" not in attributes(span)
    assert "gen_ai.request.max_tokens" not in attributes(span)
    assert tracker.waiting == set()


def test_prompt_embeddings_count_as_the_engine_counts_them() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(prompt_token_ids=None), None, 0, None)
    tracker.finish(RequestState(ID, prompt_len=9, detokenizer=Detokenizer([1])), FinishReason.STOP)
    assert attributes(spans()[0])["gen_ai.usage.input_tokens"] == 9
    assert rows("httpRes")[0][2]["recvTokenSize="] == 9


def test_a_parameter_that_is_not_set_is_left_out() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(sampling_params=SamplingParams(max_tokens=None)), None, 0, None)
    tracker.finish(state(), FinishReason.STOP)
    assert None not in attributes(spans()[0]).values()
    assert "gen_ai.request.max_tokens" not in attributes(spans()[0])


@pytest.mark.parametrize("asked", [False, True])
def test_dashboards_on_vllms_own_span_find_its_keys_when_it_was_to_trace(
    asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tracing.init_tracer, "asked", asked)
    tracker = RequestTracker()
    for request_id in add_choices(tracker, 2):
        tracker.finish(state(request_id), FinishReason.STOP)
    keys = ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "gen_ai.request.n")
    found = attributes(spans()[0])
    assert [found.get(key) for key in keys] == ([3, 4, 2] if asked else [None, None, None])


def test_a_pooling_request_has_no_number_of_choices_under_vllms_key_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tracing.init_tracer, "asked", True)
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(sampling_params=None, pooling_params=PoolingParams()), None, 0, None)
    tracker.finish(RequestState(ID), FinishReason.STOP)
    found = attributes(spans()[0])
    assert found["gen_ai.usage.prompt_tokens"] == 3
    assert "gen_ai.request.n" not in found


class OldRequest:
    """``EngineCoreRequest`` before vLLM 0.14: one id."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.prompt_token_ids, self.sampling_params = [1], SamplingParams()
        self.arrival_time, self.trace_headers = 1_700_000_000.0, None


def test_before_vllm_0_14_the_id_is_the_clients() -> None:
    tracker = RequestTracker()
    tracker.add(OldRequest("cmpl-x-0"), None, 0, None)
    parent = ParentRequest("cmpl-y-0", SamplingParams(n=2))
    for index in range(2):
        tracker.add(OldRequest(f"{index}_cmpl-y-0"), parent, index, None)
    assert [row[2]["rid"] for row in rows("httpReq")] == ["cmpl-x-0", "0_cmpl-y-0", "1_cmpl-y-0"]
    tracker.abort(list(tracker.children))
    assert [attributes(span)["gen_ai.request.id"] for span in spans()] == ["cmpl-x-0", "cmpl-y-0"]


def test_an_unsampled_request_tells_the_engine_so() -> None:
    recorder.set_traces(True, lambda *_: False)
    tracker = RequestTracker()
    request = EngineCoreRequest(trace_headers={"tracestate": "a=1"})
    tracker.add(request, None, 0, None)
    ids = parse_traceparent(request.trace_headers["traceparent"])
    assert ids is not None
    assert ids[2] == 0
    assert request.trace_headers["tracestate"] == "a=1"
    tracker.finish(state(), FinishReason.STOP)
    assert spans() == []
    assert [row[0] for row in rows()] == ["httpReq", "tokenize", "httpRes"]


def test_a_client_that_does_not_sample_is_followed_with_its_own_ids() -> None:
    tracker = RequestTracker()
    request = EngineCoreRequest()
    tracker.add(request, None, 0, {"traceparent": UNSAMPLED})
    ids = parse_traceparent(request.trace_headers["traceparent"])
    assert ids is not None
    assert (ids[0], ids[2]) == (TRACE_ID, 0)
    tracker.finish(state(), FinishReason.STOP)
    assert spans() == []


@pytest.mark.parametrize("headers_of_request", [False, True])
def test_the_clients_context_is_the_parent(headers_of_request: bool) -> None:
    tracker = RequestTracker()
    headers = {"traceparent": TRACEPARENT}
    # ``LLMEngine.add_request`` hands them on in the request
    request = EngineCoreRequest(trace_headers=dict(headers) if headers_of_request else None)
    tracker.add(request, None, 0, None if headers_of_request else headers)
    tracker.finish(state(), FinishReason.STOP)
    (span,) = spans()
    assert span[4][0::2] == (TRACE_ID, SPAN_ID)
    assert (span[4][3], span[0].kind) == (SAMPLED | REMOTE, KIND_SERVER)


@pytest.mark.parametrize("decision", [True, False])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_sampler_decides_about_what_a_client_sends(flags: str, decision: bool) -> None:
    asked: list[Any] = []
    recorder.set_traces(True, lambda *question: bool(asked.append(question)) or decision)
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, {"traceparent": TRACEPARENT[:-2] + flags})
    tracker.finish(state(), FinishReason.STOP)
    assert len(spans()) == decision
    ((trace_id, name, kind, _, parent),) = asked
    assert (trace_id, name, kind) == (TRACE_ID, "llm_request", KIND_SERVER)
    assert (parent.span_id, parent.trace_flags) == (SPAN_ID, int(flags))


@pytest.mark.parametrize("flags", ["00", "01"])
def test_without_a_sampler_the_client_decides(flags: str) -> None:
    recorder.set_traces(True)
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, {"traceparent": TRACEPARENT[:-2] + flags})
    tracker.finish(state(), FinishReason.STOP)
    assert len(spans()) == int(flags)


def test_what_the_sampler_adds_is_on_the_span() -> None:
    def sampler(trace_id: int, name: str, kind: int, attributes: dict[str, Any], parent: Any) -> bool:
        attributes["sampler.rule"] = "vip"
        return True

    recorder.set_traces(True, sampler)
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.finish(state(), FinishReason.STOP)
    assert attributes(spans()[0])["sampler.rule"] == "vip"


def test_the_headers_of_the_http_request_count_not_what_vllm_hands_on() -> None:
    scope = _scope.Scope("chat", None, SimpleNamespace(headers={"traceparent": TRACEPARENT, "tracestate": "a=1"}))
    token = _scope._current.set(scope)
    try:
        tracker = RequestTracker()
        request = EngineCoreRequest()
        tracker.add(request, None, 0, None)
    finally:
        _scope._current.reset(token)
    tracker.finish(state(), FinishReason.STOP)
    (span,) = spans()
    assert span[4][0::2] == (TRACE_ID, SPAN_ID)
    assert (request.trace_headers["tracestate"], span[6].trace_state) == ("a=1", "a=1")


def test_the_clients_tracestate_travels_on() -> None:
    tracker = RequestTracker()
    request = EngineCoreRequest()
    tracker.add(request, None, 0, {"traceparent": TRACEPARENT, "tracestate": "vendor=1,other=2"})
    assert request.trace_headers["tracestate"] == "vendor=1,other=2"
    plain = EngineCoreRequest("plain")
    tracker.add(plain, None, 0, {"traceparent": TRACEPARENT})
    assert plain.trace_headers.keys() == {"traceparent"}


def test_the_current_span_goes_before_the_clients_context() -> None:
    tracker = RequestTracker()
    token = context.attach(remote_context(1, 2, SAMPLED))
    tracker.add(EngineCoreRequest(), None, 0, {"traceparent": TRACEPARENT})
    context.detach(token)
    tracker.finish(state(), FinishReason.STOP)
    assert spans()[0][4][0] == 1
    assert spans()[0][4][2] == 2


def test_a_timer_around_the_request_that_was_not_selected_does_not_decide_about_it() -> None:
    tracker = RequestTracker()
    token = make_current(RecordSpan(1, 2, 0, 0))
    try:
        tracker.add(EngineCoreRequest("a"), None, 0, None)
        tracker.add(EngineCoreRequest("b"), None, 0, {"traceparent": TRACEPARENT})
    finally:
        context.detach(token)
    tracker.abort(["a", "b"])
    root, child = spans()
    assert (root[4][2], root[4][0] != 1) == (0, True)
    assert (child[4][0], child[4][2]) == (TRACE_ID, SPAN_ID)


def test_a_foreign_span_that_is_not_sampled_decides() -> None:
    tracker = RequestTracker()
    span_context = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(span_context)):
        tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.finish(state(), FinishReason.STOP)
    assert spans() == []


def test_without_tracing_a_request_is_left_as_it_is() -> None:
    recorder.set_traces(False)
    tracker = RequestTracker()
    request = EngineCoreRequest()
    tracker.add(request, None, 0, {"traceparent": TRACEPARENT})
    tracker.finish(state(), FinishReason.STOP)
    assert request.trace_headers is None
    assert spans() == []
    assert [row[0] for row in rows()] == ["httpReq", "tokenize", "httpRes"]


def test_choices_of_a_request_whose_id_is_a_number_keep_the_engines_ids() -> None:
    """The analyzer takes what ``int`` can read for a number: 1_2 would become 12."""
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest("7-cafecafe", "7"), None, 0, None)
    parent = ParentRequest("2-deadbeef", SamplingParams(n=2))
    for index in range(2):
        tracker.add(EngineCoreRequest(f"{index}_2-deadbeef", "2"), parent, index, None)
    assert [row[2]["rid"] for row in rows("httpReq")] == ["7", "0_2-deadbeef", "1_2-deadbeef"]
    tracker.abort(list(tracker.children))
    assert [attributes(span)["gen_ai.request.id"] for span in spans()] == ["7", "2"]


@pytest.mark.parametrize("end", ["finish", "abort", "fail"])
def test_the_drain_is_woken_when_the_last_open_request_ends(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(recorder, "wake", lambda export=False: woken.append(export))
    tracker = RequestTracker()
    for request_id in ("a", "b"):
        tracker.add(EngineCoreRequest(request_id), None, 0, None)
    tracker.abort(["a"])
    assert woken == []
    if end == "finish":
        tracker.finish(state("b"), FinishReason.STOP)
    elif end == "abort":
        tracker.abort(["b"])
    else:
        tracker.fail(EngineDeadError())
    assert True in woken


def test_times_between_tokens_are_told_as_mean_and_maximum(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    for pause, tokens in ((0, 1), (1, 1), (4, 2), (1, 1), (9, 0)):  # s, tokens of an output; speculation gives several
        clock["mono"] += pause * 10**9
        tracker.tokens([EngineCoreOutput(ID, [7] * tokens), EngineCoreOutput("of another process", [1])])
    tracker.finish(state(tokens=5), FinishReason.LENGTH)
    found = attributes(spans()[0])
    assert found["vllm.request.inter_token_latency.mean"] == 1.5
    assert found["vllm.request.inter_token_latency.max"] == 4.0
    assert tracker.sampled == {}


def test_a_single_token_has_no_time_between_tokens(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.tokens([EngineCoreOutput(ID, [1])])
    tracker.finish(state(tokens=1), FinishReason.STOP)
    assert [key for key in attributes(spans()[0]) if "inter_token" in key] == []


def test_the_choices_of_a_request_are_told_together(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    first, second = add_choices(tracker, 2)
    for pause in (0, 2, 1):
        clock["mono"] += pause * 10**9
        tracker.tokens([EngineCoreOutput(first, [1])])
    tracker.tokens([EngineCoreOutput(second, [1])])
    clock["mono"] += 6 * 10**9
    tracker.tokens([EngineCoreOutput(second, [1])])
    for request_id, cached, preemptions in ((first, 4, 1), (second, 9, 2)):
        ended = state(request_id, stats=RequestStateStats(num_preemptions=preemptions))
        ended.num_cached_tokens = cached
        tracker.finish(ended, FinishReason.LENGTH)
    found = attributes(spans()[0])
    assert found["vllm.request.inter_token_latency.mean"] == 3.0
    assert found["vllm.request.inter_token_latency.max"] == 6.0
    assert found["vllm.request.preemptions"] == 3
    assert found["gen_ai.usage.cache_read.input_tokens"] == 4  # the second finds what the first has computed


def test_a_request_that_is_not_sampled_is_not_timed() -> None:
    recorder.set_traces(True, lambda *_: False)
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    assert (tracker.sampled, tracker.waiting) == ({}, {ID})


def test_an_aborted_request_says_what_it_has_generated(clock: dict[str, int]) -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None)
    tracker.tokens([EngineCoreOutput(ID, [1])])
    tracker.tokens([EngineCoreOutput(ID, [1, 2])])
    tracker.abort([ID])
    found = attributes(spans()[0])
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 3)
    assert (tracker.sampled, tracker.waiting) == ({}, set())


def test_without_a_serving_call_the_model_is_that_of_the_engine() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(), None, 0, None, "tiny")
    tracker.finish(state(), FinishReason.STOP)
    found = attributes(spans()[0])
    assert (found["gen_ai.request.model"], found["gen_ai.response.model"]) == ("tiny", "tiny")
    assert "vllm.lora.name" not in found


def test_an_adapter_is_the_model_that_answers() -> None:
    tracker = RequestTracker()
    tracker.add(EngineCoreRequest(lora_request=SimpleNamespace(lora_name="words")), None, 0, None, "tiny")
    tracker.finish(state(), FinishReason.STOP)
    found = attributes(spans()[0])
    assert (found["vllm.lora.name"], found["gen_ai.response.model"], found["gen_ai.request.model"]) == (
        "words", "words", "tiny",
    )  # fmt: skip
