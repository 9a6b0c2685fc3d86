"""vLLM's own tracing beside ours: one provider, one ``llm_request``, one endpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from test_vllm_standins import call, recording

from ascend_opentelemetry import vllm
from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.vllm import _tracing

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (ENDPOINT, TRACES_ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    yield from recording()


class VllmTracing:
    """``vllm.tracing.otel`` as far as its hook can tell."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def init_tracer(self, instrumenting_module_name: str, otlp_traces_endpoint: str, extra: Any = None) -> str:
        os.environ[TRACES_ENDPOINT] = otlp_traces_endpoint
        self.calls.append((instrumenting_module_name, otlp_traces_endpoint, extra))
        return "vLLM's tracer"


def init(handler: _tracing.InitTracer, *args: Any, **kwargs: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    """What vLLM gets for a tracer, and the calls of its own function."""
    module = VllmTracing()
    return call(handler, module.init_tracer, *args, **kwargs), module.calls


@pytest.mark.parametrize("by_name", [False, True])
def test_vllm_gets_a_tracer_of_the_global_provider_and_makes_none(
    by_name: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer", lambda name: f"tracer of {name}")
    handler = _tracing.InitTracer()
    if by_name:
        found = init(handler, instrumenting_module_name="vllm.llm_engine", otlp_traces_endpoint="http://a:4317")
    else:
        found = init(handler, "vllm.llm_engine", "http://a:4317", {"vllm.process_kind": "worker"})
    assert found == ("tracer of vllm.llm_engine", [])
    assert TRACES_ENDPOINT not in os.environ
    assert handler.asked is True


def test_vllm_traces_by_itself_where_no_spans_are_exported(caplog: pytest.LogCaptureFixture) -> None:
    recorder.set_traces(False)
    handler = _tracing.InitTracer()
    extra = {"vllm.process_kind": "worker"}
    found = init(handler, "vllm.worker", "http://a:4317", extra)
    assert found == ("vLLM's tracer", [("vllm.worker", "http://a:4317", extra)])
    assert handler.asked is False
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variables", "option"),
    [
        ({ENDPOINT: "http://a:4317"}, "http://a:4317"),
        ({ENDPOINT: "http://a:4317/"}, "a:4317"),
        ({ENDPOINT: "http://a:4318"}, "http://a:4318/v1/traces"),
        ({TRACES_ENDPOINT: "http://a:4318/v1/traces/"}, "http://A:4318"),
        ({ENDPOINT: "http://b:4317", TRACES_ENDPOINT: "http://a:4317"}, "grpc://a:4317"),
        ({ENDPOINT: "http://a:4317", TRACES_ENDPOINT: ""}, "http://a:4317"),
    ],
)
def test_nothing_is_said_when_both_endpoints_are_the_same(
    variables: dict[str, str], option: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    init(_tracing.InitTracer(), "vllm.llm_engine", option)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variables", "ours"),
    [
        ({ENDPOINT: "http://b:4318"}, "http://b:4318"),
        ({ENDPOINT: "http://a:4317", TRACES_ENDPOINT: "http://b:4317"}, "http://b:4317"),
        ({}, "the exporter that OTEL_TRACES_EXPORTER names"),
    ],
)
def test_one_warning_names_the_endpoint_that_gets_nothing(
    variables: dict[str, str], ours: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    handler = _tracing.InitTracer()
    for _ in range(2):  # a program may make two LLMs
        init(handler, "vllm.llm_engine", "http://a:4317")
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert warning.getMessage() == (
        f"--otlp-traces-endpoint http://a:4317 gets no spans: all of them, vLLM's own too, go to {ours}; "
        "to have them there, set OTEL_EXPORTER_OTLP_ENDPOINT=http://a:4317, or leave the option out"
    )


@pytest.mark.parametrize("traces", [True, False])
def test_vllm_makes_its_span_of_a_request_only_when_we_make_none(traces: bool) -> None:
    recorder.set_traces(traces)
    made: list[tuple[Any, ...]] = []

    def do_tracing(self: Any, engine_core_output: Any, req_state: Any, iteration_stats: Any) -> None:
        made.append((engine_core_output, req_state, iteration_stats))

    assert call(_tracing.DoTracing(), do_tracing, object(), "output", "state", iteration_stats="stats") is None
    assert made == ([] if traces else [("output", "state", "stats")])


def test_every_name_by_which_vllm_starts_tracing_is_hooked_by_one_handler() -> None:
    names = {(hooked.module, hooked.qualname) for hooked in vllm.HOOKED if hooked.handler is _tracing.init_tracer}
    assert names == {
        ("vllm.tracing.otel", "init_otel_tracer"),
        ("vllm.v1.engine.async_llm", "init_tracer"),
        ("vllm.v1.engine.llm_engine", "init_tracer"),
    }
