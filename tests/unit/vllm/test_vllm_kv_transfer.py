"""Prefill and decode on two instances: attributes, and the link from one request to the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_vllm_standins import (
    SPAN_ID,
    TRACE_ID,
    TRACEPARENT,
    UNSAMPLED,
    Detokenizer,
    EngineCoreRequest,
    FinishReason,
    Request,
    RequestState,
    SamplingParams,
    Scheduler,
    attributes,
    call,
    recording,
    spans,
)

from ascend_opentelemetry.vllm import _scheduler
from ascend_opentelemetry.vllm._kv_transfer import take_link, transfer_attributes
from ascend_opentelemetry.vllm._requests import RequestTracker

#: What the Mooncake connector of vLLM-Ascend answers after a prefill, shortened.
ANSWER = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[1, 2]],
    "remote_engine_id": "p-0",
    "remote_request_id": "cmpl-x-0-deadbeef",
    "remote_host": "10.0.0.1",
    "remote_port": 5600,
    "last_token_id": 7,
}
SHOWN = {
    "vllm.kv_transfer.do_remote_prefill": True,
    "vllm.kv_transfer.do_remote_decode": False,
    "vllm.kv_transfer.remote_engine_id": "p-0",
    "vllm.kv_transfer.remote_request_id": "cmpl-x-0-deadbeef",
    "vllm.kv_transfer.remote_host": "10.0.0.1",
    "vllm.kv_transfer.remote_port": 5600,
}
ID = "cmpl-x-0-deadbeef"


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording(native=False)


def decoded(params: dict[str, Any] | None) -> Any:
    """The record of a request with these ``kv_transfer_params``."""
    tracker = RequestTracker()
    sampling = SamplingParams(extra_args={"kv_transfer_params": params} if params is not None else None)
    tracker.add(EngineCoreRequest(sampling_params=sampling), None, 0, None)
    tracker.finish(RequestState(ID, detokenizer=Detokenizer([1])), FinishReason.LENGTH)
    (span,) = spans("llm_request")
    return span


def prefilled(answer: Any, traceparent: str = TRACEPARENT) -> None:
    """Free a request whose connector answers so, through the hook."""
    request = Request("a", trace_headers={"traceparent": traceparent})
    _scheduler.tracker.phases.add(request)
    call(_scheduler.FreeRequest(), lambda self, request: answer, Scheduler({"a": request}), request)


@pytest.mark.parametrize("wrap", [lambda answer: answer, lambda answer: (answer, None)])  # before vLLM 0.26, and after
def test_the_answer_of_the_prefill_names_it_and_carries_its_context(wrap: Any) -> None:
    answer = dict(ANSWER)
    prefilled(wrap(answer))
    assert answer == {**ANSWER, "traceparent": TRACEPARENT}
    assert dict(spans("queue")[0][6].attributes) == SHOWN


@pytest.mark.parametrize("answer", [None, {}, (None, None), ({}, {}), {"seen": 1}])
def test_without_a_transfer_nothing_is_added(answer: Any) -> None:
    before = repr(answer)
    prefilled(answer)
    assert repr(answer) == before
    assert spans("queue")[0][6].attributes == ()


def test_a_request_that_is_not_sampled_sends_no_context() -> None:
    answer = dict(ANSWER)
    prefilled(answer, UNSAMPLED)
    assert answer == ANSWER
    assert spans() == []


def test_the_decode_links_to_the_prefill_and_takes_its_context_out() -> None:
    params = {**ANSWER, "traceparent": TRACEPARENT}
    span = decoded(params)
    assert span[6].links == ((TRACE_ID, SPAN_ID, (("vllm.link.kind", "remote_prefill"),)),)
    assert params == ANSWER
    assert {key: value for key, value in attributes(span).items() if "kv_transfer" in key} == SHOWN


@pytest.mark.parametrize("context", [UNSAMPLED, "nonsense", 7, None])
def test_what_is_no_context_of_a_recorded_request_is_no_link(context: Any) -> None:
    params = {**ANSWER, "traceparent": context}
    assert decoded(params)[6].links == ()
    assert params == ANSWER


def test_a_request_on_one_instance_has_nothing_of_it() -> None:
    span = decoded(None)
    assert span[6].links == ()
    assert [key for key in attributes(span) if "kv_transfer" in key] == []
    assert take_link(None) is None


def test_only_known_parameters_of_the_right_type_are_shown_and_texts_are_bounded() -> None:
    params = {"remote_host": "h" * 1000, "remote_port": "5600", "do_remote_decode": 1, "secret": "x"}
    assert dict(transfer_attributes(params)) == {"vllm.kv_transfer.remote_host": "h" * 256}
    assert dict(transfer_attributes({"remote_port": 2**63})) == {}  # vLLM takes it, and OTLP has no such number
    assert dict(transfer_attributes("text")) == dict(transfer_attributes(None)) == {}
