"""Queue, prefill and decode spans of a request in EngineCore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_vllm_standins import SPAN_ID, TRACE_ID, TRACEPARENT, UNSAMPLED, Request, attributes, recording, spans

from ascend_opentelemetry.recorder import REMOTE, SAMPLED, STATUS_ERROR, recorder
from ascend_opentelemetry.vllm import _phase_spans, _phases
from ascend_opentelemetry.vllm._phase_spans import MAX_CHUNKS, MAX_LINKS, Phases, Steps
from ascend_opentelemetry.vllm._phases import PhaseTracker

#: What the clocks show when a request arrives.
WALL, MONO = 1_700_000_000_000_000_000, 5_000


class Clock:
    """The two clocks."""

    def __init__(self) -> None:
        self.wall, self.mono = WALL, MONO

    def forward(self, ns: int) -> None:
        self.wall += ns
        self.mono += ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_phase_spans, "time_ns", lambda: clock.wall)
    for module in (_phase_spans, _phases):
        monkeypatch.setattr(module, "monotonic_ns", lambda: clock.mono)
    return clock


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording(native=False)


def added(tracker: PhaseTracker, request_id: str = "a", traceparent: str | None = TRACEPARENT) -> Request:
    request = Request(request_id, trace_headers={"traceparent": traceparent} if traceparent else None)
    tracker.add(request)
    return request


def times(name: str) -> tuple[int, int]:
    """Start and end of the only span of this name, in ns after the arrival."""
    (record,) = spans(name)
    return record[1] - WALL, record[2] - WALL


def names() -> list[str]:
    return [record[0].name for record in spans()]


def test_a_request_has_three_phases_one_after_the_other(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    clock.forward(100)
    assert tracker.scheduled("a", clock.mono, 4, 2) is True
    clock.forward(200)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    clock.forward(300)
    request.num_output_tokens, request.num_preemptions = 3, 0
    tracker.finish(request)
    assert names() == ["queue", "prefill", "decode"]
    assert [times(name) for name in names()] == [(0, 100), (100, 300), (300, 600)]
    assert [attributes(record) for record in spans()] == [
        {"vllm.request.id": "a"},
        {
            "vllm.request.id": "a",
            "gen_ai.usage.input_tokens": 4,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "vllm.request.chunks": 0,
        },
        {"vllm.request.id": "a", "gen_ai.usage.output_tokens": 3, "vllm.request.preemptions": 0},
    ]
    assert {(record[4][0], record[4][2], record[4][3]) for record in spans()} == {(TRACE_ID, SPAN_ID, SAMPLED | REMOTE)}
    assert len({record[4][1] for record in spans()}) == 3
    assert {record[6].status for record in spans()} == {0}
    assert (tracker.requests, tracker.prefilling) == ({}, {})


def test_the_wall_clock_counts_only_at_the_arrival(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    for step in (3_600 * 10**9, -7_200 * 10**9):  # set an hour forward, then two back
        clock.wall += step
        clock.forward(50)
        if step > 0:
            tracker.scheduled("a", clock.mono, 4, 0)
        else:
            request.num_output_tokens = 1
            tracker.step_done({"a": request})
    clock.forward(50)
    tracker.finish(request)
    assert [times(name) for name in names()] == [(0, 50), (50, 100), (100, 150)]


def test_a_request_of_one_token_has_no_decode(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    clock.forward(10)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.requests["a"].joined(7, 8)
    clock.forward(10)
    request.num_output_tokens = 1
    tracker.finish(request)  # vLLM frees it before ``update_from_output`` is over
    assert names() == ["queue", "prefill"]
    assert times("prefill") == (10, 20)
    assert spans("prefill")[0][6].links == [(7, 8, (("vllm.step.position", "first"),))]
    assert tracker.prefilling == {}


def test_two_chunks_and_one_token_make_no_decode(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.requests["a"].joined(7, 8)
    tracker.requests["a"].joined(9, 10)  # the second chunk
    clock.forward(10)
    request.num_output_tokens = 1
    tracker.finish(request)
    assert names() == ["queue", "prefill"]
    links = [(link[0], dict(link[2])["vllm.step.position"]) for link in spans("prefill")[0][6].links]
    assert links == [(7, "first"), (9, "last")]


def test_a_request_aborted_in_the_queue_has_waited_to_the_end(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    clock.forward(100)
    tracker.step_done({})  # the last step of others
    clock.forward(100)
    tracker.finish(request, aborted=True)
    assert names() == ["queue"]
    assert times("queue") == (0, 100)


def test_an_abort_ends_the_phase_with_the_last_step_that_was_done(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(10)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    clock.forward(10)
    tracker.step_done({"a": request})
    clock.forward(1_000)
    tracker.finish(request, aborted=True)
    assert times("decode") == (10, 20)


def test_an_abort_in_the_first_decode_step_keeps_the_span_that_this_step_links_to(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.requests["a"].joined(7, 8)
    clock.forward(10)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    tracker.requests["a"].joined(9, 10)
    linked = tracker.requests["a"].link
    tracker.finish(request, aborted=True)
    (decode,) = spans("decode")
    assert (decode[4][0], decode[4][1]) == linked[:2]
    assert times("decode") == (10, 10)
    assert decode[6].links == [(9, 10, (("vllm.step.position", "last"),))]


def test_a_preemption_in_the_prefill_is_its_event(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    tracker.preempted(request)
    clock.forward(5)
    assert tracker.scheduled("a", clock.mono, 4, 0) is True  # it was scheduled before: the phase goes on
    tracker.event("a", "resumed")
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    clock.forward(5)
    tracker.finish(request)
    assert times("prefill") == (0, 15)
    assert spans("prefill")[0][6].events == [
        ("preempted", WALL + 5, ()), ("resumed", WALL + 10, ()), ("first_token", WALL + 15, ()),
    ]  # fmt: skip
    assert spans("decode")[0][6].events == [("finished", WALL + 20, ())]
    assert spans("queue")[0][6].events == []


def test_a_preemption_in_the_decode_is_its_event(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    tracker.preempted(request)  # in the nanosecond in which the decode begins
    clock.forward(5)
    tracker.event("a", "resumed")
    request.num_preemptions = 1
    tracker.finish(request)
    assert [event[0] for event in spans("decode")[0][6].events] == ["preempted", "resumed", "finished"]
    assert [event[0] for event in spans("prefill")[0][6].events] == ["first_token"]
    assert attributes(spans("decode")[0])["vllm.request.preemptions"] == 1
    tracker.event("a", "resumed")  # after the end: nothing


def test_the_last_phase_carries_the_error(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    clock.forward(5)
    tracker.finish(request, "the engine reported an error")
    assert [(record[6].status, record[6].message) for record in spans()] == [
        (0, ""), (0, ""), (STATUS_ERROR, "the engine reported an error"),
    ]  # fmt: skip


def test_an_error_in_the_queue_or_prefill_is_that_of_the_phase(clock: Clock) -> None:
    tracker = PhaseTracker()
    tracker.finish(added(tracker, "a"), "bad")
    prefilling = added(tracker, "b")
    tracker.scheduled("b", clock.mono, 4, 0)
    tracker.finish(prefilling, "bad")
    assert [(record[0].name, record[6].status) for record in spans()] == [
        ("queue", STATUS_ERROR), ("queue", 0), ("prefill", STATUS_ERROR),
    ]  # fmt: skip


def test_when_the_engine_stops_every_open_request_failed(clock: Clock) -> None:
    tracker = PhaseTracker()
    running, waiting = added(tracker, "a"), added(tracker, "b")
    added(tracker, "gone")
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.scheduled("gone", clock.mono, 4, 0)
    tracker.fail_all({"a": running, "b": waiting}, "the engine stopped")
    assert [(record[0].name, record[5][0], record[6].message) for record in spans()] == [
        ("queue", "a", ""), ("prefill", "a", "the engine stopped"), ("queue", "b", "the engine stopped"),
    ]  # fmt: skip
    assert (tracker.requests, tracker.prefilling) == ({}, {})


def test_a_request_without_a_context_is_a_trace_of_its_own() -> None:
    tracker = PhaseTracker()
    for request_id, traceparent in (("a", None), ("b", "nonsense")):
        tracker.finish(added(tracker, request_id, traceparent))
    first, second = spans()
    assert first[4][2] == second[4][2] == 0
    assert len({first[4][0], second[4][0], TRACE_ID}) == 3


def test_a_request_without_a_context_is_sampled_by_the_configured_sampler() -> None:
    recorder.set_traces(True, lambda *_: False)
    tracker = PhaseTracker()
    added(tracker, traceparent=None)
    assert tracker.requests == {}


def test_an_unsampled_request_has_no_phases_but_its_headers_are_taken_too() -> None:
    tracker = PhaseTracker()
    request = added(tracker, traceparent=UNSAMPLED)
    assert (tracker.requests, request.trace_headers) == ({}, None)
    assert tracker.scheduled("a", 1, 4, 0) is False
    tracker.event("a", "preempted")
    tracker.finish(request)
    assert spans() == []


def test_first_and_last_step_are_linked(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    phases: Any = tracker.requests["a"]
    tracker.scheduled("a", clock.mono, 4, 0)
    assert phases.link == (TRACE_ID, phases.prefill_id, (("vllm.request.phase", "prefill"),))
    phases.joined(1, 11)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    assert phases.link == (TRACE_ID, phases.decode_id, (("vllm.request.phase", "decode"),))
    phases.joined(2, 12)
    phases.joined(3, 13)
    clock.forward(5)
    tracker.finish(request)
    assert spans("queue")[0][6].links == ()
    assert spans("prefill")[0][6].links == [(1, 11, (("vllm.step.position", "first"),))]
    assert spans("decode")[0][6].links == [(2, 12, ()), (3, 13, (("vllm.step.position", "last"),))]
    assert [record[6].dropped_links for record in spans()] == [0, 0, 0]
    assert [dict(record[6].attributes) for record in spans()] == [{}, {}, {}]


def test_only_the_first_and_the_last_step_of_a_request_are_marked(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.requests["a"].joined(1, 11)
    tracker.requests["a"].joined(2, 12)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    tracker.requests["a"].joined(3, 13)
    tracker.finish(request)
    assert spans("prefill")[0][6].links == [(1, 11, (("vllm.step.position", "first"),)), (2, 12, ())]
    assert spans("decode")[0][6].links == [(3, 13, (("vllm.step.position", "last"),))]


def test_more_steps_than_a_span_may_link_to_are_counted_and_the_last_one_is_linked(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    for step in range(1, MAX_LINKS + 3):
        tracker.requests["a"].joined(step, 10 * step)
    tracker.finish(request)
    decode = spans("decode")[0][6]
    assert [link[0] for link in decode.links] == [*range(1, MAX_LINKS), MAX_LINKS + 2]
    assert decode.links[-1][2] == (("vllm.step.position", "last"),)
    assert (decode.dropped_links, decode.attributes) == (2, (("vllm.request.steps", MAX_LINKS + 2),))


def test_each_chunk_of_a_prompt_is_an_event_and_no_step_after_it(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 8, 2)
    for tokens in (4, 2, 1):  # an engine that schedules ahead asks for the second token before it has the first
        tracker.chunks({"a": tokens, "other": 3}, clock.mono)
        clock.forward(10)
    tracker.chunks({"other": 3}, clock.mono)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    tracker.finish(request)
    assert spans("prefill")[0][6].events == [
        ("scheduled", WALL, (("vllm.request.scheduled_tokens", 4),)),
        ("chunk", WALL + 10, (("vllm.request.scheduled_tokens", 2),)),
        ("first_token", WALL + 30, ()),
        ("finished", WALL + 30, ()),
    ]
    assert attributes(spans("prefill")[0])["vllm.request.chunks"] == 2
    assert attributes(spans("prefill")[0])["gen_ai.usage.cache_read.input_tokens"] == 2


def test_chunks_are_counted_beyond_those_that_are_events(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 1_000, 0)
    for _ in range(MAX_CHUNKS + 5):
        tracker.chunks({"a": 1}, clock.mono)
    tracker.finish(request)
    assert [event[0] for event in spans("prefill")[0][6].events].count("chunk") == MAX_CHUNKS - 1
    assert attributes(spans("prefill")[0])["vllm.request.chunks"] == MAX_CHUNKS + 5


def test_a_prompt_that_was_preempted_is_computed_again(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.chunks({"a": 4}, clock.mono)
    tracker.preempted(request)
    tracker.chunks({"a": 4}, clock.mono)
    tracker.finish(request)
    assert attributes(spans("prefill")[0])["vllm.request.chunks"] == 2


def test_a_prompt_that_resumes_computes_what_the_prefix_cache_has_lost(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.chunks({"a": 2}, clock.mono)
    tracker.preempted(request)
    tracker.resumed("a", 2)
    tracker.chunks({"a": 2}, clock.mono)
    tracker.chunks({"a": 1}, clock.mono)  # scheduled before the first token was known
    tracker.finish(request)
    assert attributes(spans("prefill")[0])["vllm.request.chunks"] == 2


def test_an_id_that_the_client_made_up_is_bounded(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker, "x" * 10_000)
    tracker.scheduled(request.request_id, clock.mono, 4, 0)
    request.num_output_tokens = 1
    tracker.step_done({request.request_id: request})
    clock.forward(10)
    tracker.finish(request)
    assert [attributes(record)["vllm.request.id"] for record in spans()] == ["x" * 256] * 3


def test_the_last_phase_counts_the_drafts(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.speculated("a", 3, 1)
    tracker.speculated("a", 2, 0)
    tracker.speculated("unknown", 2, 0)
    tracker.finish(request)
    assert dict(spans("prefill")[0][6].attributes) == {
        "vllm.spec_decode.drafted_tokens": 5, "vllm.spec_decode.accepted_tokens": 1,
    }  # fmt: skip
    assert spans("queue")[0][6].attributes == ()


def test_the_baggage_that_came_with_the_request_is_on_all_its_spans_below_our_own_attributes(clock: Clock) -> None:
    tracker = PhaseTracker()
    headers = {"traceparent": TRACEPARENT, "baggage": "user=ann%20b,vllm.request.id=evil"}
    request = Request("a", trace_headers=headers)
    tracker.add(request)
    tracker.scheduled("a", clock.mono, 4, 0)
    tracker.finish(request)
    assert [dict(record[6].attributes) for record in spans()] == [{"user": "ann b"}, {"user": "ann b"}]


def test_a_failed_request_is_not_finished(clock: Clock) -> None:
    tracker = PhaseTracker()
    tracker.finish(added(tracker), "bad")
    assert spans("queue")[0][6].events == []


def test_without_a_traced_prefill_step_the_decode_keeps_its_link(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    tracker.requests["a"].joined(3, 13)
    clock.forward(5)
    tracker.finish(request)
    assert spans("prefill")[0][6].links == []
    assert spans("decode")[0][6].links == [(3, 13, (("vllm.step.position", "last"),))]


def test_a_session_that_gets_more_input_goes_on_in_its_phase(clock: Clock) -> None:
    tracker = PhaseTracker()
    request = added(tracker)
    tracker.scheduled("a", clock.mono, 4, 0)
    clock.forward(5)
    request.num_output_tokens = 1
    tracker.step_done({"a": request})
    request.num_output_tokens = 0  # vLLM clears the outputs of a session with each new input
    tracker.scheduled("a", clock.mono + 10**6, 4, 0)
    tracker.step_done({"a": request})
    clock.forward(5)
    tracker.finish(request)
    assert [times(name) for name in names()] == [(0, 0), (0, 5), (5, 10)]


def test_phases_keep_nothing_of_the_request() -> None:
    phases = Phases(1, 2)
    values = [getattr(phases, name) for name in Phases.__slots__]
    assert all(isinstance(value, (int, list, tuple, str, Steps)) for value in values)
