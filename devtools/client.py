"""A client of the OpenAI interface that records its own clock for each request; standard library only."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """One request as its client saw it.

    Attributes:
        request_id: the ``X-Request-Id`` that was sent.
        traceparent: the header that was sent, or None.
        status: HTTP status.
        id: vLLM's id of the answer, "" for an error.
        start: when the request was sent, ns since 1970.
        first: when the first token (streamed) or the first byte (else) came, ns since 1970; 0 for none.
        end: when the answer was complete or the client gave up, ns since 1970.
        chunks: when each streamed token came, ns since 1970.
        texts: the generated text of each choice.
        finish_reasons: of each choice; None where the client left before.
        usage: the ``usage`` object.
        error: the ``error`` object of a refused request.
    """

    request_id: str
    traceparent: str | None
    start: int
    status: int = 0
    id: str = ""
    first: int = 0
    end: int = 0
    chunks: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    finish_reasons: list[str | None] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


class Client:
    """Sends requests to a server, each on a connection of its own.

    Args:
        url: ``http://host:port`` of the server.
        model: name of the served model.
        timeout: seconds without a byte after which a request fails.
    """

    def __init__(self, url: str, model: str = "tiny", timeout: float = 120) -> None:
        self._address = urlsplit(url).netloc
        self._model = model
        self._timeout = timeout

    def completion(self, prompt: Any = "hello world", *, traceparent: str | None = None, **fields: Any) -> Answer:
        """A completion; ``fields`` are further fields of the request's body."""
        return self._send("/v1/completions", {"prompt": prompt, **fields}, traceparent)

    def chat(self, content: str = "hello world", *, traceparent: str | None = None, **fields: Any) -> Answer:
        """A chat completion of one user message; ``fields`` are further fields of the request's body."""
        messages = [{"role": "user", "content": content}]
        return self._send("/v1/chat/completions", {"messages": messages, **fields}, traceparent)

    def disconnecting(self, after: int = 3, *, traceparent: str | None = None, **fields: Any) -> Answer:
        """A streamed completion whose client closes the connection after ``after`` tokens."""
        body = {"prompt": "hello world", "stream": True, "max_tokens": 200, "ignore_eos": True, **fields}
        return self._send("/v1/completions", body, traceparent, leave_after=after)

    def _send(
        self, path: str, fields: dict[str, Any], traceparent: str | None, leave_after: int | None = None
    ) -> Answer:
        body = {"model": self._model, "max_tokens": 8, "temperature": 0, **fields}
        if body.get("stream"):
            body.setdefault("stream_options", {"include_usage": True})
        request_id = f"req-{uuid.uuid4().hex[:12]}"
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        if traceparent:
            headers["traceparent"] = traceparent
        clock = _clock()
        connection = http.client.HTTPConnection(self._address, timeout=self._timeout)
        answer = Answer(request_id, traceparent, start=clock())
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            answer.status = response.status
            if body.get("stream") and response.status == 200:
                _read_stream(response, answer, clock, leave_after)
            else:
                answer.first = clock()
                _read_whole(json.loads(response.read()), answer)
        finally:
            connection.close()
            answer.end = clock()
        return answer


def mix(client: Client, *, traceparents: bool = False) -> dict[str, Answer]:
    """One request of each kind, sent at the same time: kind -> answer.

    Args:
        client: sends them.
        traceparents: each client begins a trace of its own.
    """

    def context() -> dict[str, Any]:
        return {"traceparent": new_traceparent()} if traceparents else {}

    requests: dict[str, Callable[[], Answer]] = {
        "completion": lambda: client.completion("Beijing is a", max_tokens=16, **context()),
        "chat": lambda: client.chat(max_tokens=12, **context()),
        "stream": lambda: client.chat(
            "tell me more about it", stream=True, max_tokens=24, ignore_eos=True, **context()
        ),
        "n": lambda: client.completion(n=3, temperature=1, seed=1, max_tokens=10, ignore_eos=True, **context()),
        "stop": lambda: client.completion(stop=["ldldld"], max_tokens=32, **context()),
        "disconnect": lambda: client.disconnecting(**context()),
        "too_long": lambda: client.completion("hello world " * 200, **context()),
        "unknown_model": lambda: client.completion(model="no-such-model", **context()),
    }
    with ThreadPoolExecutor(len(requests)) as pool:
        running = {kind: pool.submit(send) for kind, send in requests.items()}
        return {kind: future.result() for kind, future in running.items()}


def new_traceparent() -> str:
    """A sampled ``traceparent`` header of a new trace."""
    return f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"


def _clock() -> Callable[[], int]:
    """Nanoseconds since 1970 that never step: the wall clock once, the monotonic clock from there on."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: offset + time.monotonic_ns()


def _read_whole(body: dict[str, Any], answer: Answer) -> None:
    answer.error = body.get("error")
    answer.id = "" if answer.error else body["id"]
    answer.usage = body.get("usage") or {}
    for choice in body.get("choices", ()):
        answer.texts.append(choice["text"] if "text" in choice else choice["message"]["content"])
        answer.finish_reasons.append(choice["finish_reason"])


def _read_stream(
    response: http.client.HTTPResponse, answer: Answer, clock: Callable[[], int], leave_after: int | None
) -> None:
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        now, chunk = clock(), json.loads(line.removeprefix(b"data: "))
        answer.error = chunk.get("error")
        answer.id = answer.id or chunk.get("id", "")
        answer.usage = chunk.get("usage") or answer.usage
        for choice in chunk.get("choices", ()):
            index = choice["index"]
            while len(answer.texts) <= index:
                answer.texts.append("")
                answer.finish_reasons.append(None)
            # the first chunk of a chat only names the role
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text is not None and "role" not in choice.get("delta", ()):
                answer.texts[index] += text
                answer.first = answer.first or now
                answer.chunks.append(now)
            answer.finish_reasons[index] = choice["finish_reason"]
        if leave_after is not None and len(answer.chunks) >= leave_after:
            return
