"""A processor that a program adds when hooks are in place already."""

from __future__ import annotations

from collections import Counter

import pytest

TAKES = """
import time
from fake_vllm.engine import Engine
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

class Noting(SpanProcessor):
    names = []
    def on_end(self, span):
        self.names.append(span.name)

{setup}
deadline = time.monotonic() + 20
while "engineStep" not in Noting.names and time.monotonic() < deadline:
    Engine("x").step([4])
    time.sleep(0.05)
print(sorted(set(Noting.names)))
"""
GLOBAL = "trace.get_tracer_provider().add_span_processor(Noting())"
OWN = """
from ascend_opentelemetry import VLLMInstrumentor
VLLMInstrumentor().instrument()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(Noting())
"""


@pytest.mark.parametrize("exporter", ["none", "otlp"])
def test_with_our_distro(program, receiver, exporter) -> None:
    program.export_to(receiver.grpc_endpoint)
    done = program.run("-c", TAKES.format(setup=GLOBAL), OTEL_TRACES_EXPORTER=exporter)
    assert (done.code, done.out) == (0, "['engineStep', 'program', 'scale']\n"), done.err
    names = Counter(span.name for span in receiver.spans())
    assert bool(names) == (exporter == "otlp")
    assert len({span.span_id for span in receiver.spans()}) == sum(names.values())


def test_with_a_provider_that_the_program_sets_later(program) -> None:
    done = program.run("-c", TAKES.format(setup=OWN), plain=True)
    assert (done.code, done.out) == (0, "['engineStep', 'program', 'scale']\n"), done.err
