"""A process that is ready leaves the span of its start behind."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from ascend_opentelemetry import vllm
from ascend_opentelemetry.hooks import wrap
from ascend_opentelemetry.recorder import RecordSpan, detach, make_current, recorder
from ascend_opentelemetry.vllm._lifecycle import BusyLoop


@pytest.fixture
def inherited():
    """The span that was current where the process was forked."""
    recorder.set_traces(True)
    span = RecordSpan(1, 2, 0, 1)
    token = make_current(span)
    yield span
    detach(token)
    recorder.set_traces(False)


def test_in_the_busy_loop_no_span_is_current(inherited) -> None:
    def run_busy_loop() -> trace.Span:
        return trace.get_current_span()

    loop = wrap(run_busy_loop, BusyLoop(), "vllm.v1.engine.core:EngineCoreProc.run_busy_loop", "here")
    assert loop() is trace.INVALID_SPAN
    assert trace.get_current_span() is inherited


def test_a_busy_loop_that_fails_leaves_the_context_as_it_was(inherited) -> None:
    def run_busy_loop() -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        wrap(run_busy_loop, BusyLoop(), "target", "here")()
    assert trace.get_current_span() is inherited


def test_every_busy_loop_of_vllm_has_it() -> None:
    assert [f"{hooked.module}:{hooked.qualname}" for hooked in vllm.HOOKED if isinstance(hooked.handler, BusyLoop)] == [
        "vllm.v1.engine.core:EngineCoreProc.run_busy_loop",
        "vllm.v1.engine.core:DPEngineCoreProc.run_busy_loop",
        "vllm.v1.executor.multiproc_executor:WorkerProc.worker_busy_loop",
    ]
