"""The hooks of ``AsyncLLM``, ``LLMEngine`` and ``OutputProcessor``: nothing stays behind, whatever a call does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from test_vllm_standins import (
    SPAN_ID,
    TRACE_ID,
    TRACEPARENT,
    Detokenizer,
    EngineCoreOutput,
    EngineCoreRequest,
    FinishReason,
    OutputProcessor,
    ParentRequest,
    RequestState,
    SamplingParams,
    attributes,
    call,
    recording,
    rows,
    spans,
)

from ascend_opentelemetry.recorder import STATUS_ERROR, recorder
from ascend_opentelemetry.vllm import _output_processor
from ascend_opentelemetry.vllm._requests import tracker

ID = "cmpl-x-0-deadbeef"
HEADERS = {"traceparent": TRACEPARENT}


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording()


def add(processor: OutputProcessor, *args: Any, original: Any = OutputProcessor.add_request, **kwargs: Any) -> None:
    call(_output_processor.OutputAddRequest(), original, processor, *args, **kwargs)


def nothing_is_left() -> bool:
    return (tracker.children, tracker.waiting, tracker._parents) == ({}, set(), {})


class AsyncLLM:
    """``add_request`` as far as its hook can tell."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.processor = OutputProcessor()
        self.headers: Any = ()
        self._error = error

    async def add_request(self, request_id: str, trace_headers: Any = None) -> str:
        self.headers = trace_headers
        await asyncio.sleep(0)
        self.request = EngineCoreRequest(ID, request_id, trace_headers=trace_headers)
        add(self.processor, self.request, None)
        if self._error is not None:
            raise self._error
        return "queue"

    async def hooked(self, request_id: str = "cmpl-x-0", **kwargs: Any) -> str:
        hook = call(_output_processor.EngineAddRequest(), AsyncLLM.add_request, self, request_id, **kwargs)
        return await hook


def test_the_clients_headers_reach_the_request_and_not_vllm_which_would_warn() -> None:
    llm = AsyncLLM()
    assert asyncio.run(llm.hooked(trace_headers=HEADERS)) == "queue"
    assert llm.headers is None
    tracker.abort([ID])
    assert (spans()[0][4][0], spans()[0][4][2]) == (TRACE_ID, SPAN_ID)
    assert nothing_is_left()


def test_headers_are_those_of_one_call() -> None:
    async def main() -> None:
        await AsyncLLM().hooked(trace_headers=HEADERS)
        add(OutputProcessor(), EngineCoreRequest("later"))  # in the same task

    asyncio.run(main())
    assert tracker.children[ID].request.ids[0] == TRACE_ID
    assert tracker.children["later"].request.ids[0] != TRACE_ID


def test_vllm_keeps_the_headers_for_its_own_spans_where_only_native_files_are_recorded() -> None:
    recorder.set_traces(False)
    llm = AsyncLLM()
    asyncio.run(llm.hooked(trace_headers=HEADERS))
    assert llm.headers is HEADERS
    assert llm.request.trace_headers is HEADERS  # and so EngineCore gets the client's, not ours
    tracker.abort([ID])
    assert (spans(), len(rows("httpReq"))) == ([], 1)


def test_calls_at_the_same_time_keep_their_own_headers() -> None:
    async def main() -> None:
        other = f"00-{0xF:032x}-{0xE:016x}-01"
        first, second = AsyncLLM(), AsyncLLM()
        second_add = OutputProcessor.add_request

        async def add_second() -> None:
            async def original(self: AsyncLLM, request_id: str, trace_headers: Any = None) -> None:
                await asyncio.sleep(0)
                add(self.processor, EngineCoreRequest("second", request_id), original=second_add)

            await call(
                _output_processor.EngineAddRequest(), original, second, "cmpl-y-0", trace_headers={"traceparent": other}
            )

        await asyncio.gather(first.hooked(trace_headers=HEADERS), add_second())

    asyncio.run(main())
    assert tracker.children[ID].request.ids[0] == TRACE_ID
    assert tracker.children["second"].request.ids[0] == 0xF


def test_a_request_that_could_not_be_sent_has_failed() -> None:
    llm = AsyncLLM(error=ConnectionError("the engine is gone"))
    with pytest.raises(ConnectionError):
        asyncio.run(llm.hooked())
    (span,) = spans()
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "the engine is gone")
    assert nothing_is_left()


def test_a_request_whose_task_was_cancelled_may_run_on() -> None:
    llm = AsyncLLM(error=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(llm.hooked())
    assert list(tracker.children) == [ID]
    tracker.finish(RequestState(ID, detokenizer=Detokenizer([1])), FinishReason.STOP)
    assert spans()[0][6].status == 0


def test_a_request_that_was_cancelled_before_all_choices_were_added_ends_with_those_there_are() -> None:
    class Cancelled(AsyncLLM):
        async def add_request(self, request_id: str, trace_headers: Any = None) -> str:
            add(self.processor, EngineCoreRequest("0_" + ID), None, ParentRequest(ID, SamplingParams(n=3)), 0)
            raise asyncio.CancelledError

    llm = Cancelled()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call(_output_processor.EngineAddRequest(), Cancelled.add_request, llm, "cmpl-x-0"))
    tracker.finish(RequestState("0_" + ID, detokenizer=Detokenizer([1])), FinishReason.STOP)
    assert [attributes(span)["gen_ai.response.finish_reasons"] for span in spans()] == [["stop"]]
    assert nothing_is_left()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ConnectionError("the engine is gone"), ("ConnectionError", "the engine is gone", ["error", "error"])),
        (asyncio.CancelledError(), ("abort", "aborted before the last token", ["abort", "abort"])),
    ],
)
def test_choices_that_vllm_gives_up_since_one_could_not_be_sent_have_failed(
    error: BaseException, found: tuple[str, str, list[str]]
) -> None:
    class Failing(AsyncLLM):
        async def add_request(self, request_id: str, trace_headers: Any = None) -> str:
            parent = ParentRequest(ID, SamplingParams(n=2))
            ids = [f"{index}_{ID}" for index in range(2)]
            for index, child in enumerate(ids):
                add(self.processor, EngineCoreRequest(child), None, parent, index)
            try:
                await self.send()
            except BaseException:
                await self.abort(ids)
                raise
            return "queue"

        async def send(self) -> None:
            await asyncio.sleep(0)
            raise error

        async def abort(self, ids: list[str]) -> None:
            call(_output_processor.AbortRequests(), OutputProcessor.abort_requests, self.processor, ids)

    with pytest.raises(type(error)):
        asyncio.run(call(_output_processor.EngineAddRequest(), Failing.add_request, Failing(), "cmpl-x-0"))
    (span,) = spans()
    assert (
        attributes(span)["error.type"],
        span[6].message,
        attributes(span)["gen_ai.response.finish_reasons"],
    ) == found
    assert nothing_is_left()


@pytest.mark.parametrize("by_name", [False, True])
def test_a_request_may_be_given_by_name(by_name: bool) -> None:
    processor = OutputProcessor()
    parent = ParentRequest(ID, SamplingParams(n=2))
    if by_name:
        add(processor, request=EngineCoreRequest("1_" + ID), prompt=None, parent_req=parent, request_index=1)
    else:
        add(processor, EngineCoreRequest("1_" + ID), None, parent, 1)
    assert tracker.children["1_" + ID].rid == "1_cmpl-x-0"


def test_a_request_that_vllm_refuses_has_failed() -> None:
    def refuse(self: OutputProcessor, request: Any, prompt: Any = None, *rest: Any) -> None:
        raise ValueError("no such adapter")

    with pytest.raises(ValueError, match="no such adapter"):
        add(OutputProcessor(), EngineCoreRequest(), original=refuse)
    (span,) = spans()
    assert (span[6].status, span[6].message, attributes(span)["error.type"]) == (
        STATUS_ERROR, "ValueError", "ValueError",
    )  # fmt: skip
    assert nothing_is_left()


def test_an_id_that_is_in_use_leaves_the_first_request_alone() -> None:
    def refuse(self: OutputProcessor, request: Any, prompt: Any = None, *rest: Any) -> None:
        raise ValueError("already running")

    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    first = tracker.children[ID]
    with pytest.raises(ValueError, match="already running"):
        add(processor, EngineCoreRequest(), original=refuse)
    assert tracker.children == {ID: first}
    assert spans() == []


def test_further_input_of_a_session_is_no_request_of_its_own() -> None:
    def update(self: OutputProcessor, request: Any, prompt: Any = None, *rest: Any) -> None:
        """``_update_streaming_request_state``: the state stays."""

    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    again = EngineCoreRequest()
    add(processor, again, original=update)
    assert again.trace_headers is None
    assert len(rows("httpReq")) == 1


def test_the_end_of_a_session_that_is_idle_ends_the_request() -> None:
    def close(self: OutputProcessor, request: Any, prompt: Any = None, *rest: Any) -> None:
        """``_update_streaming_request_state`` with the last message: ``_finish_request``, and no statistics."""
        del self.request_states[request.request_id]

    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    processor.request_states[ID] = RequestState(ID, prompt_len=5, detokenizer=Detokenizer([1, 2, 3]))
    add(processor, EngineCoreRequest(), original=close)
    (span,) = spans()
    assert span[6].status == 0
    assert attributes(span)["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes(span)["gen_ai.usage.output_tokens"] == 3
    assert nothing_is_left()


def test_outputs_of_a_step_are_listed_and_first_tokens_noted() -> None:
    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    outputs = [EngineCoreOutput(ID, [1]), EngineCoreOutput("other", [1])]
    hook = _output_processor.ProcessOutputs()
    call(hook, lambda self, engine_core_outputs: None, processor, outputs)
    call(hook, lambda self, engine_core_outputs: None, processor, engine_core_outputs=outputs[1:])
    call(hook, lambda self, engine_core_outputs: None, processor, [])
    assert [row[2]["rid"] for row in rows("detokenize")] == ["cmpl-x-0", [ID, "other"], ["other"]]
    assert tracker.waiting == set()


@pytest.mark.parametrize("by_name", [False, True])
def test_a_finished_request_ends_before_its_statistics(by_name: bool) -> None:
    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    state = RequestState(ID, detokenizer=Detokenizer([1]))
    hook = _output_processor.Finished()
    given: Any = {"req_state": state, "finish_reason": FinishReason.STOP} if by_name else {}
    call(hook, lambda *args, **kwargs: None, processor, *(() if by_name else (state, FinishReason.STOP)), **given)
    assert attributes(spans()[0])["gen_ai.response.finish_reasons"] == ["stop"]


def test_aborts_are_those_that_vllm_found() -> None:
    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    add(processor, EngineCoreRequest("other", "y"))
    hook = _output_processor.AbortRequests()
    assert call(hook, OutputProcessor.abort_requests, processor, [ID, "gone"], internal=True) == [ID]
    assert list(tracker.children) == ["other"]
    # the second time, as ``generate`` and a stop string do it
    assert call(hook, OutputProcessor.abort_requests, processor, [ID]) == []
    assert len(spans()) == 1


def test_an_abort_that_raises_is_vllms_affair() -> None:
    def fail(self: OutputProcessor, request_ids: list[str], internal: bool) -> list[str]:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        call(_output_processor.AbortRequests(), fail, OutputProcessor(), [ID], True)


def test_a_dead_engine_fails_what_is_open() -> None:
    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    call(_output_processor.PropagateError(), lambda self, e: None, processor, RuntimeError("dead"))
    call(_output_processor.PropagateError(), lambda self, e: None, processor, e=RuntimeError("dead"))
    assert [span[6].message for span in spans()] == ["dead"]
    assert nothing_is_left()


def test_an_exception_of_a_step_of_llm_fails_what_is_open() -> None:
    def step(self: Any) -> None:
        raise RuntimeError("the model failed")

    add(OutputProcessor(), EngineCoreRequest())
    with pytest.raises(RuntimeError):
        call(_output_processor.EngineStep(), step, SimpleNamespace())
    assert [span[6].message for span in spans()] == ["the model failed"]
    assert nothing_is_left()


def test_an_interrupted_step_of_llm_goes_on_later() -> None:
    def step(self: Any) -> None:
        raise KeyboardInterrupt

    add(OutputProcessor(), EngineCoreRequest())
    with pytest.raises(KeyboardInterrupt):
        call(_output_processor.EngineStep(), step, SimpleNamespace())
    call(_output_processor.EngineStep(), lambda self: None, SimpleNamespace())
    assert list(tracker.children) == [ID]
    assert spans() == []


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_requests_that_end_after_the_window_was_closed_are_forgotten(end: str) -> None:
    recorder.set_traces(False)
    processor = OutputProcessor()
    add(processor, EngineCoreRequest())
    recorder.set_native(None)
    assert recorder.on is False
    if end == "finish":
        call(_output_processor.Finished(), lambda *_: None, processor, RequestState(ID), FinishReason.STOP)
    else:
        call(_output_processor.AbortRequests(), OutputProcessor.abort_requests, processor, [ID])
    assert nothing_is_left()
    assert [record[0].name for record in recorder.queue] == ["httpReq", "tokenize"]


def test_the_request_names_the_model_that_the_engine_serves() -> None:
    llm: Any = AsyncLLM()
    llm.model_config = SimpleNamespace(served_model_name=["tiny", "alias"])
    asyncio.run(llm.hooked())
    assert tracker.children[ID].request.attributes["gen_ai.response.model"] == "tiny"
