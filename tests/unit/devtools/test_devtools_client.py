from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from devtools.client import Client, mix, new_traceparent

USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.broken_pipe = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Answers as vLLM does, three tokens a choice."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body, dict(self.headers)))
        chat = "messages" in body
        number = f"{'chatcmpl' if chat else 'cmpl'}-{self.headers['X-Request-Id']}"
        if body["model"] != "tiny":
            return self.whole(404, {"error": {"message": "no such model", "code": 404}})
        if body.get("stream"):
            return self.stream(number, chat, body["max_tokens"])
        text = {"message": {"content": "abc"}} if chat else {"text": "abc"}
        choices = [{"index": i, "finish_reason": "length", **text} for i in range(body.get("n", 1))]
        return self.whole(200, {"id": number, "choices": choices, "usage": USAGE})

    def whole(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, number: str, chat: bool, tokens: int) -> None:
        self.send_response(200)
        self.end_headers()
        pieces = [{"delta": {"role": "assistant", "content": ""}}] if chat else []
        pieces += [{"delta": {"content": "a"}} if chat else {"text": "a"} for _ in range(tokens)]
        try:
            for i, piece in enumerate(pieces):
                last = "length" if i == len(pieces) - 1 else None
                self.chunk({"id": number, "choices": [{"index": 0, "finish_reason": last, **piece}]})
            self.chunk({"id": number, "choices": [], "usage": USAGE})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.broken_pipe.set()

    def chunk(self, body: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def client(server: Server) -> Client:
    return Client(f"http://127.0.0.1:{server.server_address[1]}")


def test_completion(server: Server, client: Client) -> None:
    answer = client.completion("hi", n=2, traceparent="00-aa-bb-01")
    [(path, body, headers)] = server.seen
    assert (path, body) == (
        "/v1/completions",
        {"model": "tiny", "max_tokens": 8, "temperature": 0, "prompt": "hi", "n": 2},
    )
    assert (headers["X-Request-Id"], headers["traceparent"]) == (answer.request_id, "00-aa-bb-01")
    assert answer.id == f"cmpl-{answer.request_id}"
    assert (answer.status, answer.texts, answer.finish_reasons) == (200, ["abc", "abc"], ["length", "length"])
    assert (answer.usage, answer.error, answer.chunks) == (USAGE, None, [])
    assert 0 < answer.start < answer.first <= answer.end


def test_streamed_chat_counts_tokens_not_the_role(server: Server, client: Client) -> None:
    answer = client.chat("hi", stream=True, max_tokens=3)
    assert server.seen[0][1]["stream_options"] == {"include_usage": True}
    assert "traceparent" not in server.seen[0][2]
    assert answer.id == f"chatcmpl-{answer.request_id}"
    assert (answer.texts, answer.finish_reasons, answer.usage) == (["aaa"], ["length"], USAGE)
    assert len(answer.chunks) == 3
    assert answer.chunks == sorted(answer.chunks)
    assert answer.start < answer.first == answer.chunks[0] <= answer.chunks[-1] <= answer.end


def test_disconnecting_client_leaves_mid_stream(server: Server, client: Client) -> None:
    answer = client.disconnecting(after=2, max_tokens=500_000)
    assert len(answer.chunks) == 2
    assert (answer.texts, answer.finish_reasons) == (["aa"], [None])
    assert server.broken_pipe.wait(10)


def test_refused_request_keeps_the_error(client: Client) -> None:
    answer = client.completion(model="other")
    assert (answer.status, answer.id, answer.texts) == (404, "", [])
    assert answer.error == {"message": "no such model", "code": 404}


def test_mix_sends_every_kind_once(server: Server, client: Client) -> None:
    answers = mix(client)
    assert sorted(answers) == [
        "chat", "completion", "disconnect", "n", "stop", "stream", "too_long", "unknown_model",
    ]  # fmt: skip
    assert len({answer.request_id for answer in answers.values()}) == len(server.seen) == 8
    assert len(answers["n"].texts) == 3


def test_new_traceparent_is_sampled_and_new() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", first)
    assert first != second
