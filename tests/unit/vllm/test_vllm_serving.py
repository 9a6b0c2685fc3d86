"""Requests that never reach the engine, and what the API server knows about those that do."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from time import time_ns
from types import SimpleNamespace
from typing import Any

import pytest
from test_vllm_standins import SPAN_ID, TRACE_ID, TRACEPARENT, UNSAMPLED, attributes, call, recording, spans

from ascend_opentelemetry.hooks import wrap
from ascend_opentelemetry.recorder import KIND_SERVER, STATUS_ERROR, recorder
from ascend_opentelemetry.vllm._refusals import ErrorResponse as ErrorHook
from ascend_opentelemetry.vllm._refusals import ExceptionHandler
from ascend_opentelemetry.vllm._scope import current_scope, request_ids
from ascend_opentelemetry.vllm._serving import Serve

REQUEST = SimpleNamespace(model="tiny")
RAW = SimpleNamespace(headers={"traceparent": TRACEPARENT})


@dataclass
class ErrorInfo:
    message: str = "no such model"
    type: str = "NotFoundError"
    code: int = 404


@dataclass
class ErrorResponse:
    error: ErrorInfo = field(default_factory=ErrorInfo)


class TooLongError(Exception):
    pass


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording(native=False)


def serve(original: Callable[..., Any], *args: Any, handler: Serve | None = None, **kwargs: Any) -> Any:
    return wrap(original, handler or Serve("chat"), "vllm:serve", "test")(None, *args, **kwargs)


def create_error_response(message: Any) -> ErrorResponse:
    return ErrorResponse(ErrorInfo(str(message)))


def run(coroutine: Any) -> Any:
    return contextvars.Context().run(asyncio.run, coroutine)


def test_a_request_that_raises_is_a_span_with_the_exception() -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise TooLongError("too long")

    with pytest.raises(TooLongError) as raised:
        run(serve(create, REQUEST, RAW))
    assert raised.value.__dict__ == {"ascend_otel_reported": True}
    (span,) = spans()
    assert (span[0].name, span[0].kind, span[4][0], span[4][2]) == ("llm_request", KIND_SERVER, TRACE_ID, SPAN_ID)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "error.type": "TooLongError",
        "http.response.status_code": 500,
    }
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "too long")
    (event,) = span[6].events
    assert (event[0], dict(event[2])["exception.message"]) == ("exception", "too long")
    assert span[1] <= span[2]


def test_a_model_that_the_client_made_up_is_bounded_and_in_no_other_text() -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise TooLongError(f"there is no {request.model}")

    name = "x" * 100_000
    with pytest.raises(TooLongError):
        run(serve(create, SimpleNamespace(model=name), RAW))
    (span,) = spans()
    assert attributes(span)["gen_ai.request.model"] == "x" * 256
    details = dict(span[6].events[0][2])
    assert (span[6].message, details) == ("TooLongError", {"exception.type": f"{__name__}.TooLongError"})


def test_the_exception_handler_of_another_task_does_not_report_it_again() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        raise TooLongError("too long")

    async def middleware() -> None:
        try:
            await asyncio.create_task(serve(create, REQUEST))
        except TooLongError as error:
            call(ErrorHook(), create_error_response, error)

    run(middleware())
    assert len(spans()) == 1
    assert spans()[0][0].kind == KIND_SERVER


def test_a_refusal_that_is_returned_is_reported_once() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> ErrorResponse:
        call(ErrorHook(), create_error_response, "no such model")
        return call(ErrorHook(), create_error_response, message="no such model")

    assert run(serve(create, request=REQUEST, raw_request=RAW)) == ErrorResponse()
    (span,) = spans()
    assert attributes(span)["error.type"] == "NotFoundError"
    assert attributes(span)["http.response.status_code"] == 404
    assert (span[6].status, span[6].message, span[6].events) == (STATUS_ERROR, "no such model", ())


def test_older_versions_make_the_refusal_where_no_hook_is() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> ErrorResponse:
        return ErrorResponse()

    run(serve(create, REQUEST))
    assert [attributes(span)["http.response.status_code"] for span in spans()] == [404]


def test_an_error_for_which_no_serving_function_was_called_is_no_request_and_hides_none() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        call(ErrorHook(), create_error_response, "no such model")

    async def main() -> None:
        call(ErrorHook(), create_error_response, ValueError("no such adapter"))
        assert spans() == []
        await asyncio.create_task(serve(create, REQUEST))

    run(main())
    assert [attributes(span)["gen_ai.operation.name"] for span in spans()] == ["chat"]


def test_a_serving_function_that_calls_another_one_is_one_request() -> None:
    async def create_chat(self: Any, request: Any, raw_request: Any) -> ErrorResponse:
        return call(ErrorHook(), create_error_response, "no such model")

    async def create_messages(self: Any, request: Any, raw_request: Any) -> ErrorResponse:
        return await serve(create_chat, SimpleNamespace(model="converted"), raw_request)

    run(serve(create_messages, REQUEST, SimpleNamespace(headers={}, scope={})))
    assert [attributes(span)["gen_ai.request.model"] for span in spans()] == ["tiny"]


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (("VLLMValidationError", "VLLMClientError"), 400),
        (("LoRAAdapterNotFoundError", "VLLMNotFoundError", "VLLMClientError"), 404),
        (("VLLMUnprocessableEntityError", "VLLMClientError"), 422),
        (("VLLMServerError",), 500),
    ],
)
def test_a_refusal_has_the_status_that_vllm_answers_with(kinds: tuple[str, ...], status: int) -> None:
    error: Any = Exception
    for name in reversed(kinds):
        error = type(name, (error,), {})

    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise error("no")

    with pytest.raises(error):
        run(serve(create, REQUEST, RAW))
    assert [attributes(span)["http.response.status_code"] for span in spans()] == [status]


def test_an_error_may_name_its_status() -> None:
    class QueueOverflowError(Exception):
        http_status = HTTPStatus.SERVICE_UNAVAILABLE

    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise QueueOverflowError

    with pytest.raises(QueueOverflowError):
        run(serve(create, REQUEST, RAW))
    (status,) = [attributes(span)["http.response.status_code"] for span in spans()]
    assert (type(status), status) == (int, 503)


def handle(error: Exception, path: str, status: int = 400, **fields: Any) -> Any:
    """What Starlette does with an exception: another task than the serving function's."""

    async def exception_handler(req: Any, exc: Exception) -> Any:
        call(ErrorHook(), create_error_response, exc)
        return SimpleNamespace(status_code=status)

    raw = SimpleNamespace(headers=RAW.headers, url=SimpleNamespace(path=path), **fields)
    return run(wrap(exception_handler, ExceptionHandler(), "vllm:handler", "test")(raw, error))


def test_a_body_that_does_not_parse_belongs_to_the_trace_of_its_client() -> None:
    handle(ValueError("the whole body"), "/v1/chat/completions", scope={"server": ("10.0.0.7", 8000)})
    (span,) = spans()
    assert (span[4][0], span[4][2]) == (TRACE_ID, SPAN_ID)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "server.address": "10.0.0.7",
        "server.port": 8000,
        "error.type": "ValueError",
        "http.response.status_code": 400,
    }
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "ValueError")
    assert [dict(event[2]) for event in span[6].events] == [{"exception.type": "ValueError"}]


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/completions", "text_completion"),
        ("/prefix/v1/chat/completions", "chat"),
        ("/v1/chat/completions/batch", "chat"),
        ("/cohere/v2/chat", "chat"),
        ("/inference/v1/generate", "text_completion"),
        ("/v1/responses", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/embeddings", "embeddings"),
        ("/v2/rerank", "rerank"),
        ("/score", "score"),
        ("/classify", "classify"),
        ("/pooling", "pooling"),
    ],
)
def test_the_path_tells_what_an_unread_request_was_for(path: str, operation: str) -> None:
    handle(TooLongError("no"), path, 500)
    assert [attributes(span)["gen_ai.operation.name"] for span in spans()] == [operation]


def test_what_asks_nothing_of_the_model_is_no_request_to_it() -> None:
    handle(ValueError("no text"), "/tokenize")
    assert spans() == []


def test_the_exception_handler_leaves_what_a_serving_function_raised_to_its_span() -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise TooLongError("too long")

    with pytest.raises(TooLongError) as raised:
        run(serve(create, REQUEST, RAW))
    handle(raised.value, "/v1/chat/completions")
    assert len(spans()) == 1


@pytest.mark.parametrize("taken", [False, True])
def test_what_fails_after_the_serving_function_belongs_to_its_request(taken: bool) -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> str:
        scope = current_scope()
        assert scope is not None
        scope.reported = taken  # as RequestTracker.add does
        return "inf"

    connection = {"server": ("10.0.0.7", 8000)}
    run(serve(create, REQUEST, SimpleNamespace(headers={}, scope=connection)))
    served = time_ns()
    handle(ValueError("inf is no JSON"), "/v1/chat/completions", scope=connection)
    found = [(attributes(span)["gen_ai.request.model"], span[1] <= served <= span[2]) for span in spans()]
    assert found == ([] if taken else [("tiny", True)])


def test_a_client_that_leaves_before_the_engine_has_the_request_is_an_abort() -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> None:
        await asyncio.sleep(60)  # tokenizes

    async def main() -> None:
        task = asyncio.ensure_future(serve(create, REQUEST, RAW))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    (span,) = spans()
    assert attributes(span)["error.type"] == "abort"
    assert "http.response.status_code" not in attributes(span)
    assert (span[6].status, span[6].message) == (STATUS_ERROR, "aborted before the engine had the request")


@pytest.mark.parametrize("taken", [False, True])
def test_a_stream_that_is_left_before_its_request_is_an_abort(taken: bool) -> None:
    async def chunks() -> AsyncGenerator[int, None]:
        scope = current_scope()
        assert scope is not None
        scope.reported = taken  # as RequestTracker.add does
        yield 1
        raise AssertionError

    async def create(self: Any, request: Any, raw_request: Any) -> AsyncGenerator[int, None]:
        return chunks()

    async def main() -> None:
        stream = await serve(create, REQUEST, RAW)
        await anext(stream)
        await stream.aclose()

    run(main())
    assert [attributes(span)["error.type"] for span in spans()] == ([] if taken else ["abort"])


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (("127.0.0.1", 8000), {"server.address": "127.0.0.1", "server.port": 8000}),
        (("/run/vllm.sock", None), {"server.address": "/run/vllm.sock"}),
        (None, {}),
    ],
)
def test_a_request_says_at_which_address_the_server_got_it(server: Any, found: dict[str, Any]) -> None:
    async def create(self: Any, request: Any, raw_request: Any) -> None:
        raise TooLongError("too long")

    with pytest.raises(TooLongError):
        run(serve(create, REQUEST, SimpleNamespace(headers={}, scope={"server": server})))
    (span,) = spans()
    assert {key: value for key, value in attributes(span).items() if key.startswith("server.")} == found


def test_an_error_after_the_engine_request_is_not_another_request() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        scope = current_scope()
        assert scope is not None
        scope.reported = True  # as RequestTracker.add does
        raise TooLongError("engine died")

    async def main() -> None:
        try:
            await serve(create, REQUEST)
        except TooLongError as error:
            call(ErrorHook(), create_error_response, error)

    run(main())
    assert spans() == []


def test_an_error_response_that_fails_itself_is_not_recorded() -> None:
    def fail(message: Any) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        call(ErrorHook(), fail, "x")
    assert spans() == []


def test_a_stream_works_in_the_scope_of_its_request() -> None:
    seen = []

    async def chunks() -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                seen.append(current_scope())
                yield number
        finally:
            seen.append("closed")

    async def create(self: Any, request: Any, raw_request: Any = None) -> AsyncGenerator[int, None]:
        return chunks()

    async def read(stream: AsyncGenerator[int, None], stop: int) -> list[int]:
        numbers = []
        async for number in stream:
            numbers.append(number)
            if number == stop:
                break
        await stream.aclose()
        assert seen[-1] == "closed"  # not when the garbage collector finds it
        return numbers

    async def main(stop: int) -> list[int]:
        stream = await asyncio.create_task(serve(create, REQUEST))
        return await asyncio.create_task(read(stream, stop))  # the task that sends the response

    assert run(main(9)) == [0, 1, 2]
    assert [getattr(scope, "model", scope) for scope in seen] == ["tiny", "tiny", "tiny", "closed"]
    seen.clear()
    assert run(main(0)) == [0]


def test_a_stream_that_is_refused_has_been_answered_before() -> None:
    async def chunks() -> AsyncGenerator[str, None]:
        yield str(call(ErrorHook(), create_error_response, "the queue is full"))

    async def create(self: Any, request: Any, raw_request: Any = None) -> AsyncGenerator[str, None]:
        return chunks()

    async def main() -> None:
        stream = await asyncio.create_task(serve(create, REQUEST))
        async for _ in stream:
            pass

    run(main())
    (span,) = spans()
    assert attributes(span)["error.type"] == "NotFoundError"
    assert "http.response.status_code" not in attributes(span)


def test_an_exception_of_a_stream_reaches_the_client() -> None:
    async def chunks() -> AsyncGenerator[int, None]:
        yield 1
        raise TooLongError("later")

    async def create(self: Any, request: Any, raw_request: Any = None) -> AsyncGenerator[int, None]:
        return chunks()

    async def main() -> list[int]:
        return [chunk async for chunk in await serve(create, REQUEST)]

    with pytest.raises(TooLongError, match="later"):
        run(main())


def test_prompts_of_one_http_request_share_a_trace() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> list[Any]:
        return [request_ids(None, {}) for _ in range(2)]

    first, second = run(serve(create, REQUEST))
    assert first[0] == second[0]
    assert first[1] != second[1]
    other, _ = run(serve(create, REQUEST))
    assert other[0] != first[0]


def test_a_refused_request_of_a_client_that_does_not_sample_is_not_recorded() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        raise TooLongError("too long")

    with pytest.raises(TooLongError):
        run(serve(create, REQUEST, SimpleNamespace(headers={"traceparent": UNSAMPLED})))
    assert spans() == []


class Hostile:
    """A request that nothing can be read from."""

    @property
    def model(self) -> str:
        raise RuntimeError("not now")


def test_a_fault_of_ours_reaches_neither_the_client_nor_the_log_twice(caplog: pytest.LogCaptureFixture) -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> str:
        return "answer"

    handler = Serve("chat")
    with caplog.at_level(logging.WARNING, logger="ascend_opentelemetry"):
        assert [run(serve(create, Hostile(), handler=handler)) for _ in range(3)] == ["answer"] * 3
    assert [record.message for record in caplog.records] == ["a call of a serving function is not recorded"]


def test_a_sampler_that_raises_does_not_hide_the_error_of_the_request() -> None:
    def sampler(*_: Any) -> bool:
        raise RuntimeError("sampler")

    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        raise TooLongError("too long")

    recorder.set_traces(True, sampler)
    with pytest.raises(TooLongError):
        run(serve(create, REQUEST))
    assert spans() == []


def test_without_tracing_the_function_is_only_called() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> Any:
        return current_scope()

    recorder.set_traces(False)
    assert run(serve(create, REQUEST)) is None


def test_a_serving_function_that_calls_the_one_of_its_base_class_is_one_request() -> None:
    async def base(self: Any, request: Any, raw_request: Any = None) -> None:
        scope = current_scope()
        assert scope is not None
        seen.append(scope.operation)
        raise TooLongError("too long")

    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        await serve(base, request, raw_request, handler=Serve("pooling"))

    seen: list[str] = []
    with pytest.raises(TooLongError):
        run(serve(create, REQUEST, RAW, handler=Serve("score")))
    assert seen == ["score"]
    assert [attributes(span)["gen_ai.operation.name"] for span in spans()] == ["score"]


@pytest.mark.parametrize("error", [TooLongError("too long"), asyncio.CancelledError()])
@pytest.mark.parametrize("taken", [False, True])
def test_a_serving_function_that_calls_another_one_tells_of_an_end_once(error: BaseException, taken: bool) -> None:
    async def inner(self: Any, request: Any, raw_request: Any = None) -> None:
        scope = current_scope()
        assert scope is not None
        scope.reported = taken  # as RequestTracker.add does
        raise error

    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        await serve(inner, SimpleNamespace(model="tiny"), handler=Serve("chat"))

    with pytest.raises(type(error)):
        run(serve(create, REQUEST, RAW, handler=Serve("messages")))
    assert [attributes(span)["gen_ai.operation.name"] for span in spans()] == ([] if taken else ["chat"])


def test_the_operation_may_depend_on_the_request() -> None:
    async def create(self: Any, request: Any, raw_request: Any = None) -> None:
        raise TooLongError("too long")

    for request in (SimpleNamespace(kind="score", stream=True), SimpleNamespace(kind="rerank")):
        with pytest.raises(TooLongError):
            run(serve(create, request, handler=Serve(lambda serving, request: request.kind)))
    first, second = map(attributes, spans())
    assert (first["gen_ai.operation.name"], second["gen_ai.operation.name"]) == ("score", "rerank")
    assert first["gen_ai.request.stream"] is True
    assert "gen_ai.request.stream" not in second
