"""Words in prompts, outputs, headers and the API key of real requests, and every byte that left the service."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from devtools.client import new_traceparent
from tests.support.service import Service, serve

#: Nothing of these may arrive anywhere. Lower case and without blanks, so that no tokenizer or escape changes them.
CANARIES = {
    "prompt": "canaryprompt",
    "chat": "canarychat",
    "long": "canarylong",
    "stream": "canarystream",
    "unread": "canaryunread",
    "wrong type": "canarytype",
    "field": "canaryfield",
    "image": "canaryimage",
    "pattern": "canarypattern",
    "header": "canaryheader",
    "cookie": "canarycookie",
    "key": "canarykey",
    "wrong key": "canarywrong",
    "baggage": "canarybaggage",
}
PROBES = ("/health", "/load", "/metrics", "/ping", "/version")
#: What does arrive, in each of the outputs: the search is no blind one.
REQUEST_ID = "visible-request"


class Sent:
    """Requests and what came back."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.traceparent = new_traceparent()
        self.answers: dict[str, tuple[int, str]] = {}

    def send(self, name: str, path: str, body: Any = "", *, method: str = "POST", **headers: str) -> None:
        sent = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {CANARIES['key']}",
            "X-Canary": CANARIES["header"],
            "Cookie": f"session={CANARIES['cookie']}",
            "baggage": f"tier=gold,secret={CANARIES['baggage']}",
            **headers,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._service.server.port, timeout=120)
        try:
            connection.request(method, path, body if isinstance(body, str) else json.dumps(body), sent)
            response = connection.getresponse()
            self.answers[name] = response.status, response.read().decode()
        finally:
            connection.close()

    def completion(self, name: str, prompt: Any, fields: dict[str, Any] | None = None, **headers: str) -> None:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 24, "ignore_eos": True, "temperature": 0}
        self.send(name, "/v1/completions", body | (fields or {}), **headers)


def outputs(folder: Path) -> dict[str, bytes]:
    """Everything that the service has left, less what the observer of the tests notes."""
    files = [path for path in folder.rglob("*") if path.is_file() and "witness" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def sent(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, Sent]:
    folder = tmp_path_factory.mktemp("canary")
    environment = {
        "VLLM_API_KEY": CANARIES["key"],
        "OTEL_PYTHON_LOG_CORRELATION": "true",
        "OTEL_PYTHON_VLLM_BAGGAGE_KEYS": "tier",
        "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
    }
    with serve(folder, vllm_python, tiny_model, args=["--enable-log-requests"], env=environment) as service:
        sent = Sent(service)
        sent.completion(
            "prompt", f"tell {CANARIES['prompt']}", traceparent=sent.traceparent, **{"X-Request-Id": REQUEST_ID}
        )
        sent.completion("n", f"tell {CANARIES['prompt']}", {"n": 2, "temperature": 1, "seed": 1})
        sent.completion("stream", f"tell {CANARIES['stream']}", {"stream": True})
        chat = {"model": "tiny", "messages": [{"role": "user", "content": CANARIES["chat"]}], "max_tokens": 8}
        sent.send("chat", "/v1/chat/completions", chat)
        sent.completion("long", f"{CANARIES['long']} " * 300)
        sent.completion("wrong type", {CANARIES["wrong type"]: 1})
        sent.completion("field", "x", {"max_tokens": CANARIES["field"]})
        sent.send("unread", "/v1/completions", f'{{"prompt": "{CANARIES["unread"]}')
        image = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:9/{CANARIES['image']}.png"}}
        sent.send("image", "/v1/chat/completions", chat | {"messages": [{"role": "user", "content": [image]}]})
        sent.completion("pattern", "x", {"structured_outputs": {"regex": f"{CANARIES['pattern']}("}})
        sent.completion("wrong key", "x", Authorization=f"Bearer {CANARIES['wrong key']}")
        for path in PROBES:
            sent.send(path, path, method="GET")
    return service, sent


pytestmark = pytest.mark.vllm


def test_the_requests_were_answered_as_meant(sent) -> None:
    _, requests = sent
    assert {name: status for name, (status, _) in requests.answers.items()} == {
        "prompt": 200, "n": 200, "stream": 200, "chat": 200,
        "long": 400, "image": 400, "pattern": 400, "wrong type": 400, "field": 400, "unread": 400, "wrong key": 401,
        **dict.fromkeys(PROBES, 200),
    }  # fmt: skip


def test_the_search_would_find_what_is_there(sent) -> None:
    service, _ = sent
    found = outputs(service.folder)
    databases = [name for name in found if name.endswith(".db")]
    assert {"traces.jsonl", "server.log"} < set(found)
    assert len(databases) >= 2
    for name in ("traces.jsonl", "server.log"):
        assert REQUEST_ID.encode() in found[name], name
    assert sum(REQUEST_ID.encode() in found[name] for name in databases) >= 2


@pytest.mark.parametrize("name", CANARIES)
def test_no_word_of_a_request_left_the_service(sent, name) -> None:
    service, _ = sent
    word = CANARIES[name].encode()
    found = outputs(service.folder)
    if name == "pattern":
        del found["server.log"]  # vLLM itself logs the parameters of requests when asked
    assert [file for file, text in found.items() if word in text.lower()] == []


def test_no_output_left_the_service(sent) -> None:
    service, requests = sent
    texts = [choice["text"] for name in ("prompt", "n") for choice in json.loads(requests.answers[name][1])["choices"]]
    assert len(texts) == 3
    for text in texts:
        piece = max(text.split(), key=len).encode()
        assert len(piece) >= 8, text
        assert [file for file, content in outputs(service.folder).items() if piece in content] == []


def test_spans_are_those_of_work_with_the_allowed_baggage(sent) -> None:
    service, _ = sent
    spans = service.spans()
    requests = [span for span in spans if span.name == "llm_request"]
    assert len(requests) >= 5
    assert {span.attributes.get("tier") for span in requests if span.status_code != 2} == {"gold"}
    assert [span.name for span in spans if "secret" in span.attributes] == []
    targets = Counter(span.attributes["http.target"] for span in spans if "http.target" in span.attributes)
    assert targets == {"/v1/completions": 9, "/v1/chat/completions": 2}


def test_lines_of_the_log_carry_the_ids_of_the_request(sent) -> None:
    service, requests = sent
    trace_id = requests.traceparent.split("-")[1]
    lines = [line for line in service.server.log_path.read_text().splitlines() if f"trace_id={trace_id} " in line]
    assert [line for line in lines if REQUEST_ID in line and line.endswith("trace_sampled=True]")] != []
