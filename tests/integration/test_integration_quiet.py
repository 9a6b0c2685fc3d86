"""What a service tells by itself: no spans of chunks and probes, no headers; ids in vLLM's log lines when asked."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.util import find_spec

import pytest

needs_fastapi = pytest.mark.skipif(
    find_spec("fastapi") is None or find_spec("opentelemetry.instrumentation.fastapi") is None,
    reason="FastAPI and its instrumentation are not installed",
)
needs_logging = pytest.mark.skipif(
    find_spec("opentelemetry.instrumentation.logging") is None,
    reason="opentelemetry-instrumentation-logging is not installed",
)

PROBES = ("/health", "/load", "/metrics", "/ping", "/version")
WORK = ("/v1/models", "/v1/health", "/healthy", "/metricss")

SERVER = f"""\
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient

app = FastAPI()
for path in {PROBES + WORK!r}:
    app.get(path)(lambda: PlainTextResponse("fine"))
app.post("/ping")(lambda: PlainTextResponse("fine"))
app.get("/stream")(lambda: StreamingResponse(iter(["a", "b", "c"])))
client = TestClient(app, headers={{"x-tenant": "blue", "authorization": "Bearer secret"}})
for path in (*{PROBES + WORK!r}, "/health?verbose=1", "/stream"):
    assert client.get(path).status_code == 200
assert client.post("/ping").status_code == 200
"""
ALL = Counter([f"GET {path}" for path in (*PROBES, "/health", *WORK, "/stream")] + ["POST /ping"])
QUIET = Counter([f"GET {path}" for path in (*WORK, "/stream")])


def serve(program, receiver, **environment: str):
    program.export_to(receiver.grpc_endpoint)
    done = program.run("-c", SERVER, **environment)
    assert (done.code, [line for line in done.warnings if "httpx" not in line]) == (0, []), done.err
    return receiver.spans()


@needs_fastapi
def test_chunks_and_probes_are_no_spans_and_headers_no_attributes(program, receiver) -> None:
    spans = serve(program, receiver)
    assert Counter(span.name for span in spans) == QUIET
    assert [key for span in spans for key in span.attributes if "header" in key] == []
    assert b"secret" not in receiver.path.read_bytes()


@needs_fastapi
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "v1/,/stream$"}, ALL - Counter(["GET /v1/models", "GET /v1/health", "GET /stream"])),
        ({"OTEL_PYTHON_EXCLUDED_URLS": "health"}, ALL - Counter({"GET /health": 2, "GET /v1/health": 1, "GET /healthy": 1})),
        ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": ""}, ALL),
        ({"OTEL_PYTHON_EXCLUDED_URLS": ""}, ALL),
    ],
)  # fmt: skip
def test_the_users_own_choice_of_requests_counts(program, receiver, environment, expected) -> None:
    assert Counter(span.name for span in serve(program, receiver, **environment)) == expected


@needs_fastapi
def test_headers_that_the_user_names_are_attributes(program, receiver) -> None:
    name = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST"
    spans = serve(program, receiver, **{name: "x-tenant"})
    headers = {key: value for span in spans for key, value in span.attributes.items() if "header" in key}
    assert headers == {"http.request.header.x_tenant": ["blue"]}


#: vLLM's way to set up its logger, twice as it does, and two lines inside a span.
LOGGING = """\
import logging
from logging.config import dictConfig
from opentelemetry import trace
from ascend_opentelemetry.distro import vllm_plugin

config = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "LINE %(name)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
    "loggers": {
        "vllm": {"handlers": ["out"], "level": "INFO", "propagate": False},
        "vllmish": {"handlers": ["out"], "level": "INFO", "propagate": False},
    },
}
dictConfig(config)
vllm_plugin()
vllm_plugin()
AGAIN
with trace.get_tracer("x").start_as_current_span("work") as span:
    logging.getLogger("vllm.engine").info("%d requests are 100%% %s", 2, "done")
    logging.getLogger("vllmish").info("not vLLM's")
logging.getLogger("vllm").info("outside")
context = span.get_span_context()
print(f"IDS {context.trace_id:032x} {context.span_id:016x}")
"""


def lines(program, *, again: bool, **environment: str) -> tuple[list[str], list[str], str]:
    """Log lines, ids of the span, and all that was printed."""
    text = LOGGING.replace("AGAIN", "dictConfig(config)" if again else "")
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", **environment}
    environment.setdefault("OTEL_LOGS_EXPORTER", "none")
    done = program.run("-c", text, **environment)
    assert done.code == 0, done.err
    (ids,) = re.findall("^IDS (.*)$", done.out, re.MULTILINE)
    return re.findall("^LINE (.*)$", done.out, re.MULTILINE), ids.split(), done.out


@pytest.mark.parametrize("again", [False, True])
def test_lines_of_vllm_carry_ids_when_asked(program, again) -> None:
    found, (trace_id, span_id), _ = lines(program, again=again, OTEL_PYTHON_LOG_CORRELATION="true")
    assert found == [
        f"vllm.engine 2 requests are 100% done [trace_id={trace_id} span_id={span_id} trace_sampled=True]",
        "vllmish not vLLM's",
        "vllm outside",
    ]


@pytest.mark.parametrize("value", ["", "false"])
def test_lines_of_vllm_stay_as_they_are(program, value) -> None:
    found, _, _ = lines(program, again=False, OTEL_PYTHON_LOG_CORRELATION=value)
    assert found == ["vllm.engine 2 requests are 100% done", "vllmish not vLLM's", "vllm outside"]


def test_lines_in_a_format_of_the_user_stay_as_they_are(program) -> None:
    found, _, _ = lines(
        program, again=False, OTEL_PYTHON_LOG_CORRELATION="true", VLLM_LOGGING_CONFIG_PATH="/etc/logging.json"
    )
    assert found == ["vllm.engine 2 requests are 100% done", "vllmish not vLLM's", "vllm outside"]


def log_records(text: str) -> list[dict]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{\n", at)) >= 0:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    # where both are installed, the instrumentation says that the SDK's handler is there
    return [value for value in found if not value.get("body", "Skipping").startswith("Skipping")]


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"},
        pytest.param({}, marks=needs_logging),
    ],
    ids=["sdk", "instrumentation"],
)
def test_an_otel_handler_gets_the_records_of_vllm_once(program, environment) -> None:
    found, (trace_id, span_id), text = lines(program, again=False, OTEL_LOGS_EXPORTER="console", **environment)
    assert found == ["vllm.engine 2 requests are 100% done", "vllmish not vLLM's", "vllm outside"]
    assert [(record["body"], record["trace_id"], record["span_id"]) for record in log_records(text)] == [
        ("2 requests are 100% done", f"0x{trace_id}", f"0x{span_id}"),
        ("outside", f"0x{0:032x}", f"0x{0:016x}"),
    ]
