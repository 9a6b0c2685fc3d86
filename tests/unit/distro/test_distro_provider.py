"""``VLLMInstrumentor`` with a provider that the program made: what it configures holds for records too."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, TracerProvider, _TracerConfig
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, get_current_span

from ascend_opentelemetry import VLLMInstrumentor, _instrumentor
from ascend_opentelemetry._provider import as_sampler, as_scope_switch, as_trace_ids
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.recorder import KIND_INTERNAL, KIND_SERVER, Recorder

MODULE = "program_of_the_provider"


class NotingSampler(Sampler):
    """Takes every root but those named ``no``; raises for those named ``broken``."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def should_sample(
        self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None
    ) -> SamplingResult:
        self.asked.append(
            (get_current_span(parent_context).get_span_context(), trace_id, name, kind, attributes, links)
        )
        if name == "broken":
            raise RuntimeError("no answer")
        return SamplingResult(Decision.DROP if name == "no" else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "noting"


class Ids(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        return 0xABC


class Program(types.ModuleType):
    """``outer`` calls ``inner``; ``broken`` and ``no`` do nothing."""

    outer: Callable[[], None]
    inner: Callable[[], None]
    broken: Callable[[], None]
    no: Callable[[], None]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    module = Program(MODULE)
    exec("def inner(): ...\ndef outer(): inner()\ndef broken(): ...\ndef no(): ...", vars(module))
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, global_recorder: Recorder) -> Iterator[Runtime]:
    monkeypatch.setenv("OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO", "1")
    runtime = Runtime()
    monkeypatch.setattr(_instrumentor, "runtime", runtime)
    yield runtime
    runtime.shutdown()


@pytest.fixture
def instrument(runtime: Runtime, program: Program, tmp_path: Path) -> Iterator[Callable[..., None]]:
    symbols = tmp_path / "symbols.yaml"
    symbols.write_text(
        "".join(
            [f"- symbol: {MODULE}:{name}\n  domain: '{name.title()}'\n" for name in ("outer", "inner", "broken", "no")]
        )
    )
    instrumentor = VLLMInstrumentor()
    yield lambda provider, **options: instrumentor.instrument(tracer_provider=provider, symbols=symbols, **options)
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


Make = Callable[..., tuple[TracerProvider, InMemorySpanExporter]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a provider whose exporter gets spans when it is flushed, and not before."""
    made = []

    def make(**options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
        provider, exporter = TracerProvider(shutdown_on_exit=False, **options), InMemorySpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
        made.append(provider)
        return provider, exporter

    yield make
    for provider in made:
        provider.shutdown()


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


@pytest.mark.parametrize("processor", [None, ConcurrentMultiSpanProcessor])
def test_a_flush_of_the_provider_brings_the_records_that_wait(make, instrument, program, processor) -> None:
    provider, exporter = make(active_span_processor=processor and processor())
    instrument(provider, meter_provider=object(), logger_provider=object())
    for number in (1, 2, 3):
        program.outer()
        assert provider.force_flush(5000) is True
        assert names(exporter) == ["inner", "outer"] * number


def test_a_shutdown_of_the_provider_brings_the_records_that_wait(make, instrument, program) -> None:
    provider, exporter = make()
    instrument(provider)
    program.outer()
    provider.shutdown()
    assert names(exporter) == ["inner", "outer"]
    program.outer()
    assert provider.force_flush(5000) is False
    assert names(exporter) == ["inner", "outer"]


def test_nothing_becomes_a_span_where_instrumentation_is_suppressed(make, instrument, program) -> None:
    provider, exporter = make()
    instrument(provider)
    with suppress_instrumentation():
        program.outer()
    with provider.get_tracer("x").start_as_current_span("span"), suppress_instrumentation():
        program.inner()
    program.inner()
    provider.force_flush()
    assert sorted(names(exporter)) == ["inner", "span"]


def test_a_sampler_is_asked_once_a_root(make, instrument, program) -> None:
    sampler = NotingSampler()
    provider, exporter = make(sampler=sampler)
    instrument(provider)
    program.outer()
    program.no()
    provider.force_flush()
    assert [(call[0].is_valid, *call[2:]) for call in sampler.asked] == [
        (False, "outer", SpanKind.INTERNAL, {}, ()),
        (False, "no", SpanKind.INTERNAL, {}, ()),
    ]
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {sampler.asked[0][1]}
    assert names(exporter) == ["inner", "outer"]


def test_a_sampler_that_raises_is_said_once_and_costs_its_roots_only(make, instrument, program, caplog) -> None:
    provider, exporter = make(sampler=NotingSampler())
    instrument(provider)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            program.broken()
        program.outer()
    provider.force_flush()
    assert names(exporter) == ["inner", "outer"]
    assert [record.getMessage() for record in caplog.records] == [
        "the sampler NotingSampler raised RuntimeError: no answer; roots that it cannot decide about are not traced"
    ]


@pytest.mark.parametrize(
    ("sampler", "flags", "expected"),
    [
        (DEFAULT_ON, 1, True), (DEFAULT_ON, 0, False), (ALWAYS_ON, 0, True), (ALWAYS_OFF, 1, False),
    ],
)  # fmt: skip
def test_a_sampler_sees_the_parent_of_another_service(sampler, flags, expected) -> None:
    parent = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(flags))
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    assert as_sampler(provider)(7, "llm_request", KIND_SERVER, {}, parent) is expected


def test_attributes_and_parent_reach_the_sampler() -> None:
    sampler = NotingSampler()
    ask, parent = as_sampler(TracerProvider(sampler=sampler, shutdown_on_exit=False)), SpanContext(7, 8, is_remote=True)
    assert ask(7, "llm_request", KIND_SERVER, {"a": 1}, parent) is True
    assert ask(9, "no", KIND_INTERNAL, {}, None) is False
    assert sampler.asked == [
        (parent, 7, "llm_request", SpanKind.SERVER, {"a": 1}, ()),
        (get_current_span().get_span_context(), 9, "no", SpanKind.INTERNAL, {}, ()),
    ]


def test_roots_have_the_trace_ids_of_the_provider(make, instrument, program) -> None:
    provider, exporter = make(id_generator=Ids())
    instrument(provider)
    program.outer()
    provider.force_flush()
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {0xABC}
    assert as_trace_ids(make()[0]) is None


def test_a_scope_that_is_off_gives_no_spans_and_its_children_go_one_up(make, instrument, program) -> None:
    def configure(scope: Any) -> _TracerConfig:
        return _TracerConfig(is_enabled=scope.name != "ascend_opentelemetry.Outer")

    provider, exporter = make(_tracer_configurator=configure)
    instrument(provider)
    with provider.get_tracer("x").start_as_current_span("span"):
        program.outer()
    provider.force_flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert sorted(spans) == ["inner", "span"]
    assert spans["inner"].parent.span_id == spans["span"].context.span_id


def test_a_configurator_that_raises_switches_nothing_off(caplog) -> None:
    def configure(scope: Any) -> _TracerConfig:
        raise RuntimeError("scope")

    enabled = as_scope_switch(TracerProvider(_tracer_configurator=configure, shutdown_on_exit=False))
    with caplog.at_level(logging.ERROR):
        assert [enabled("ascend_opentelemetry.A") for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1  # by the SDK, once a scope


def test_another_provider_after_uninstrument(make, instrument, program, runtime) -> None:
    functions = program.outer, program.inner
    exporters = []
    for _ in range(3):
        provider, exporter = make()
        exporters.append((provider, exporter))
        instrument(provider)
        instrument(provider)  # a repeated call changes nothing
        assert program.outer is not functions[0]
        program.outer()
        VLLMInstrumentor().uninstrument()
        VLLMInstrumentor().uninstrument()
        assert (program.outer, program.inner) == functions
        assert (runtime.started, runtime.has_traces) == (False, False)
        program.outer()
        assert len(provider._active_span_processor._span_processors) == 1
    for provider, exporter in exporters:
        provider.force_flush()
        assert names(exporter) == ["inner", "outer"]


def test_uninstrument_leaves_the_provider_to_its_owner(instrument, program) -> None:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(provider)
    VLLMInstrumentor().uninstrument()
    with provider.get_tracer("x").start_as_current_span("after"):
        program.outer()
    assert names(exporter) == ["after"]
