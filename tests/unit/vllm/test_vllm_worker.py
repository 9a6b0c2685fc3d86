"""The model runner's step in a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from test_vllm_standins import (
    SPAN_ID,
    TRACE_ID,
    SchedulerOutput,
    attributes,
    call,
    config,
    output,
    recording,
    rows,
    spans,
)

from ascend_opentelemetry.hooks import wrap
from ascend_opentelemetry.recorder import SAMPLED, STATUS_ERROR, forwards, recorder
from ascend_opentelemetry.vllm import _worker
from ascend_opentelemetry.vllm._device_time import device_time
from ascend_opentelemetry.vllm._lifecycle import WorkerShutdown
from ascend_opentelemetry.vllm._steps import STEP_ATTRIBUTE
from ascend_opentelemetry.vllm._worker import current

STEP = (TRACE_ID, SPAN_ID, 0, SAMPLED)
RUNNER, SAMPLE = _worker.ModelRunner(), _worker.SampleTokens()


@pytest.fixture(autouse=True)
def _recording() -> Iterator[None]:
    yield from recording()


class ModelRunner:
    """A model runner, its functions hooked as ``GPUModelRunner``'s are."""

    def __init__(self, body: Any = None) -> None:
        self.vllm_config = config()
        self._body = body or (lambda: None)

    def execute_model(self, out: SchedulerOutput, **kwargs: Any) -> Any:
        return call(RUNNER, lambda self, scheduler_output, dummy_run=False: self._body(), self, out, **kwargs)

    def sample_tokens(self) -> Any:
        return call(SAMPLE, lambda self, grammar_output: self._body(), self, None)


def traced(out: SchedulerOutput) -> SchedulerOutput:
    setattr(out, STEP_ATTRIBUTE, STEP)
    return out


def record_function(name: str, inner: Any = None) -> Any:
    original = wrap(lambda name: inner or nullcontext(name), _worker.RecordFunction(), "vllm:record_function", "test")
    return original(name)


def test_a_step_of_the_runner_is_a_child_of_the_engines_step() -> None:
    runner = ModelRunner()
    runner.execute_model(traced(output({"a": 4, "b": 1})))
    runner.sample_tokens()
    execute, sample = spans()
    assert [execute[0].name, sample[0].name] == ["modelRunnerExec", "sample_tokens"]
    for span in (execute, sample):
        assert (span[4][0], span[4][2], span[4][3]) == (TRACE_ID, SPAN_ID, SAMPLED)
    assert execute[4][1] != sample[4][1]
    assert attributes(execute) == {
        "vllm.step.batch_size": 2,
        "vllm.worker.rank": 5,
        "vllm.data_parallel.rank": 0,
        "vllm.tensor_parallel.rank": 1,
        "vllm.pipeline_parallel.rank": 2,
        "vllm.time.kind": "host",
    }
    assert attributes(sample) == {"vllm.time.kind": "host"}
    assert rows() == [("modelRunnerExec", "Execute", {"type": 2, "rid": [{"rid": "a"}, {"rid": "b"}]})]
    assert current.depth == 0
    assert recorder.meta["dpRankId"] == "0"


def test_traced_forwards_are_told_while_they_happen_and_remembered(monkeypatch) -> None:
    class Watcher:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def begin(self, span_id: int) -> None:
            self.told.append(span_id)

        def end(self) -> None:
            self.told.append("end")

    watcher = Watcher()
    monkeypatch.setattr(forwards, "watcher", watcher)
    begin = time.time_ns()
    runner = ModelRunner(lambda: watcher.told.append("runs"))
    runner.execute_model(traced(output({"a": 4})))
    runner.execute_model(output({"a": 4}))
    runner.execute_model(traced(output({"a": 4})), dummy_run=True)
    runner.sample_tokens()
    (span,) = [span for span in spans() if span[0] is _worker.RUNNER_TYPE]
    assert watcher.told == [span[4][1], "runs", "end", "runs", "runs", "runs"]
    (forward,) = forwards.ended_after(begin)
    assert forward == (span[1], span[2], span[4])
    assert forwards.ended_after(span[2]) == []


def test_every_rank_has_a_span_of_its_own_below_the_step() -> None:
    out = traced(output({"a": 1}))
    for _ in range(2):
        ModelRunner().execute_model(out)
    first, second = spans()
    assert (first[4][0], first[4][2]) == (second[4][0], second[4][2]) == (TRACE_ID, SPAN_ID)
    assert first[4][1] != second[4][1]


def test_a_runner_that_calls_its_base_class_is_one_span() -> None:
    out = traced(output({"a": 1}))
    base = ModelRunner()
    ModelRunner(lambda: base.execute_model(out)).execute_model(out)
    ModelRunner(base.sample_tokens).sample_tokens()
    assert [span[0].name for span in spans()] == ["modelRunnerExec", "sample_tokens"]
    assert len(rows()) == 1
    assert current.depth == 0


def test_sampling_inside_of_execute_is_part_of_it() -> None:
    out = traced(output({"a": 1}))
    ModelRunner(ModelRunner().sample_tokens).execute_model(out)
    assert [span[0].name for span in spans()] == ["modelRunnerExec"]


def test_an_unselected_step_has_rows_and_no_spans() -> None:
    seen = []
    runner = ModelRunner(lambda: seen.append(trace.get_current_span().get_span_context().trace_flags))
    runner.execute_model(output({"a": 1}))
    runner.sample_tokens()
    assert spans() == []
    assert [row[0] for row in rows()] == ["modelRunnerExec"]
    assert seen == [0, 0]


def test_a_step_without_tokens_wakes_the_drain_and_belongs_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(recorder, "wake", lambda export=False: woken.append(export))
    runner = ModelRunner()
    runner.execute_model(traced(output({"a": 1})))
    recorder.queue.clear()
    runner.execute_model(output({}, finished=("a",)))
    assert woken == [True]
    assert list(recorder.queue) == []
    assert (current.depth, current.ids, current.scheduled) == (0, None, {})
    with record_function("gpu_model_runner: forward"):  # a dummy run
        pass
    assert list(recorder.queue) == []


def test_an_exception_is_that_of_the_span() -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        ModelRunner(fail).execute_model(traced(output({"a": 1})))
    with pytest.raises(RuntimeError):
        ModelRunner(fail).sample_tokens()
    assert [(span[6].status, span[6].message) for span in spans()] == [
        (STATUS_ERROR, "RuntimeError: out of memory")
    ] * 2
    assert current.depth == 0


def test_a_runner_that_the_hook_cannot_read_is_served_and_the_next_one_recorded() -> None:
    out = traced(output({"a": 1}))
    assert call(RUNNER, lambda self, scheduler_output: "result", SimpleNamespace(), out) == "result"
    ModelRunner().execute_model(out)
    assert [span[0].name for span in spans()] == ["modelRunnerExec"]


def test_a_step_may_be_given_by_name() -> None:
    call(RUNNER, lambda self, scheduler_output: None, ModelRunner(), scheduler_output=traced(output({"a": 1})))
    assert len(spans("modelRunnerExec")) == 1


@pytest.mark.parametrize("name", ["gpu_model_runner: forward", "forward"])
def test_the_phases_that_vllm_marks_are_children_of_the_runners_span(name: str) -> None:
    def body() -> None:
        outside = trace.get_current_span()
        with record_function(name) as entered:
            assert entered == name
            trace.get_current_span().set_attribute("mine", 1)
        assert trace.get_current_span() is outside

    ModelRunner(body).execute_model(traced(output({"a": 4, "b": 1})))
    forward, runner = spans()
    assert (forward[0].name, forward[0].domain, forward[4][0], forward[4][2]) == (
        "forward", "Execute", TRACE_ID, runner[4][1],
    )  # fmt: skip
    assert attributes(forward) == {"vllm.time.kind": "host"}
    assert forward[6].attributes == (("mine", 1),)
    assert runner[1] <= forward[1] <= forward[2] <= runner[2]
    assert rows("forward") == [("forward", "Execute", {"type": 2, "rid": ["a", "b"]})]


def test_other_marks_are_left_to_vllm() -> None:
    out = traced(output({"a": 1}))
    inner = nullcontext()

    def body() -> None:
        assert record_function("schedule: allocate_slots", inner) is inner
        assert record_function("gpu_model_runner: eplb", inner) is inner

    ModelRunner(body).execute_model(out)
    recorder.set_traces(False)
    recorder.set_native(None)
    assert record_function("forward", inner) is inner


def test_a_mark_in_an_unselected_step_has_a_row_only() -> None:
    def body() -> None:
        with record_function("forward"):
            pass

    ModelRunner(body).execute_model(output({"a": 1}))
    assert spans() == []
    assert [row[0] for row in rows()] == ["forward", "modelRunnerExec"]


class Suppressing:
    """A context manager of the program."""

    def __init__(self) -> None:
        self.seen: Any = None

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, kind: Any, error: Any, where: Any) -> bool:
        self.seen = error
        return True


def test_vllms_own_context_manager_sees_and_decides_everything() -> None:
    inner = Suppressing()

    def body() -> None:
        with record_function("forward", inner) as entered:
            assert entered == "entered"
            raise KeyError("x")

    ModelRunner(body).execute_model(traced(output({"a": 1})))
    assert isinstance(inner.seen, KeyError)
    assert [span[0].name for span in spans()] == ["forward", "modelRunnerExec"]


class Broken(Suppressing):
    def __enter__(self) -> str:
        raise OSError("no profiler")


def test_a_context_manager_that_fails_leaves_no_span_current() -> None:
    def body() -> None:
        before = trace.get_current_span()
        with pytest.raises(OSError, match="no profiler"), record_function("forward", Broken()):
            pass
        assert trace.get_current_span() is before

    ModelRunner(body).execute_model(traced(output({"a": 1})))
    assert [span[0].name for span in spans()] == ["modelRunnerExec"]


def test_a_phase_outside_of_a_step_is_no_trace_of_its_own() -> None:
    recorder.set_traces(True)
    current.scheduled, current.ids = {"a": 1}, (1, 2, 0, 1)  # but nothing of the step is current
    with record_function("forward") as entered:
        assert entered == "forward"
    assert spans() == []
    assert [row[0] for row in rows()] == ["forward"]


def test_a_warm_up_is_no_step() -> None:
    def body() -> None:
        with record_function("forward"):
            pass

    ModelRunner(body).execute_model(output({"warm": 8}), dummy_run=True)
    assert list(recorder.queue) == []
    assert current.depth == 0


def test_a_traced_span_waits_for_the_device_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    monkeypatch.setattr(device_time, "asked", True)
    monkeypatch.setattr(device_time, "_synchronize", lambda: waits.append("waited"))

    def body() -> None:
        with record_function("forward"):
            pass

    ModelRunner(body).execute_model(output({"a": 1}))
    assert waits == []
    ModelRunner(body).execute_model(traced(output({"a": 1})))
    assert waits == ["waited"] * 2
    assert {attributes(span)["vllm.time.kind"] for span in spans()} == {"device"}


class Watcher:
    """Notes what it is told, and when."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def step(self, scheduled: bool) -> None:
        self.told.append((scheduled, len(spans())))

    def end(self) -> None:
        self.told.append("end")


def test_who_watches_the_steps_is_told_before_each_of_them() -> None:
    watcher = Watcher()
    recorder.watch_steps(watcher)
    runner = ModelRunner()
    runner.execute_model(traced(output({"a": 4})))
    runner.execute_model(output({}))
    runner.execute_model(output({"a": 1}), dummy_run=True)
    call(WorkerShutdown(), lambda self: None, object())
    recorder.watch_steps(None)
    runner.execute_model(output({"a": 1}))
    assert watcher.told == [(True, 0), (False, 1), (False, 1), "end"]


def test_steps_are_told_of_although_nothing_else_is_recorded() -> None:
    recorder.set_traces(False)
    recorder.set_native(None)
    assert not RUNNER.switch.on
    recorder.watch_steps(Watcher())
    assert RUNNER.switch.on
    recorder.watch_steps(None)
    assert not RUNNER.switch.on
