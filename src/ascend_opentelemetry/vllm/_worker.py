"""Worker: the model runner's step, below the step of EngineCore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    Forward,
    NativeRow,
    Record,
    RecordSpan,
    RecordType,
    SpanIds,
    detach,
    forwards,
    open_span,
    recorder,
)
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._device_time import device_time
from ascend_opentelemetry.vllm._ranks import ranks
from ascend_opentelemetry.vllm._rows import EXECUTE, span_row
from ascend_opentelemetry.vllm._step_ids import id_list, id_object_list
from ascend_opentelemetry.vllm._steps import STEP_ATTRIBUTE, open_below


def _runner_rows(record: Record) -> Iterable[NativeRow]:
    yield span_row(record[1], record[2], record[0].name, record[0].domain, id_object_list(record[5]))


def _tag_rows(record: Record) -> Iterable[NativeRow]:
    yield span_row(record[1], record[2], record[0].name, record[0].domain, id_list(record[5]))


def _phase_attributes(record: Record) -> Iterable[tuple[str, Any]]:  # noqa: ARG001
    yield keys.VLLM_TIME_KIND, device_time.kind


def _runner_attributes(record: Record) -> Iterable[tuple[str, Any]]:
    yield keys.VLLM_STEP_BATCH_SIZE, len(record[5])
    yield keys.VLLM_WORKER_RANK, ranks.worker
    yield keys.VLLM_DATA_PARALLEL_RANK, ranks.data_parallel
    yield keys.VLLM_TENSOR_PARALLEL_RANK, ranks.tensor_parallel
    yield keys.VLLM_PIPELINE_PARALLEL_RANK, ranks.pipeline_parallel
    yield keys.VLLM_TIME_KIND, device_time.kind


RUNNER_TYPE = RecordType(
    EXECUTE, span_names.VLLM_MODEL_RUNNER, native=False, rows=_runner_rows, attributes=_runner_attributes
)
SAMPLE_TYPE = RecordType(EXECUTE, span_names.VLLM_SAMPLE_TOKENS, native=False, attributes=_phase_attributes)

#: ``record_function_or_nullcontext`` tags of a model runner that are native rows too, as in ms_service_profiler.
NATIVE_TAGS = (
    "prepare input", "forward", "post process", "sample_token", "draft_token", "EPLB weight D2D", "EPLB update",
    "async_state_update",
)  # fmt: skip
#: Those of vLLM's own model runner that are spans of a traced step only.
TAGS = ("preprocess", "postprocess", "sample", "bookkeep", "draft")
TAG_TYPES = {
    tag: RecordType(
        EXECUTE, tag, native=False, rows=_tag_rows if tag in NATIVE_TAGS else None, attributes=_phase_attributes
    )
    for tag in NATIVE_TAGS + TAGS
}


class _Current:
    """The step that this worker's model runner is in; one thread executes steps, strictly one after the other."""

    ids: SpanIds | None = None
    scheduled: Mapping[str, int] = {}
    depth = 0


current = _Current()


class ModelRunner:
    """``execute_model(scheduler_output, ...)`` of a model runner, its base class included: one span a step.

    Without requests it is a warm-up (``dummy_run``) or tells of the end of others.
    """

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if current.depth:
            current.depth += 1
            return None
        if ranks.worker is None:
            ranks.note_worker(args[0].vllm_config)
        output = args[1] if len(args) > 1 else kwargs["scheduler_output"]
        current.scheduled = output.num_scheduled_tokens
        current.ids = getattr(output, STEP_ATTRIBUTE, None)
        current.depth = 1  # after all that may fail: then nobody counts down
        watcher = recorder.step_watcher  # another thread may take it away
        if watcher is not None:
            watcher.step(bool(output.total_num_scheduled_tokens) and not kwargs.get("dummy_run"))
        if not output.total_num_scheduled_tokens:
            recorder.wake(export=True)  # the last request has ended
            return None
        if kwargs.get("dummy_run"):
            current.scheduled = {}
            return None
        span = open_below(current.ids)
        if span is not None and span.flags:
            forwards.begin(span.span_id)
        return span, time_ns(), monotonic_ns()

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        current.depth -= 1
        if state is not None:
            _end(RUNNER_TYPE, state, error)


class _StepTraced:
    """On while the step executed last is traced, or timers below it must not become roots."""

    @property
    def on(self) -> bool:
        return recorder.traces_on and (current.ids is not None or recorder.timers > 0)


class SampleTokens:
    """``sample_tokens(grammar_output)`` of a model runner: belongs to the step executed last."""

    switch = _StepTraced()

    def enter(self, args: Any, kwargs: Any) -> Any:  # noqa: ARG002
        current.depth += 1
        if current.depth > 1:
            return None
        return open_below(current.ids), time_ns(), monotonic_ns()

    def exit(self, state: Any, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        current.depth -= 1
        if state is not None:
            _end(SAMPLE_TYPE, state, error)


def _end(record_type: RecordType, state: tuple[RecordSpan | None, int, int], error: BaseException | None) -> None:
    span, start, mono = state
    if span is not None:
        detach(span.token)
    ids = extra = None
    if span is not None and span.flags:
        if error is not None:
            span.failed(error)
        if device_time.asked:
            device_time.wait()
        ids, extra = span.ids, span.extra()
    if ids is not None or record_type.native_on:
        end = start + monotonic_ns() - mono
        recorder.emit((record_type, start, end, get_ident(), ids, current.scheduled, extra))
        if ids is not None and record_type is RUNNER_TYPE:
            forwards.end(Forward(start, end, ids))


def _no_root(record_type: RecordType) -> RecordSpan:  # noqa: ARG001
    """Outside of the model runner's span a phase is nobody's child, and no trace of its own."""
    return RecordSpan(0, 0, 0, 0)


class _Tagged:
    """vLLM's context manager, timed."""

    __slots__ = ("_inner", "_mono", "_span", "_start", "_traced", "_type")

    def __init__(self, record_type: RecordType, inner: AbstractContextManager[Any], traced: bool) -> None:
        self._type = record_type
        self._inner = inner
        self._traced = traced

    def __enter__(self) -> Any:
        entered = self._inner.__enter__()
        self._span = open_span(self._type, _no_root) if self._traced else None
        self._start = time_ns()
        self._mono = monotonic_ns()
        return entered

    def __exit__(self, *exc: Any) -> bool | None:
        span, record_type = self._span, self._type
        if span is not None and span.flags and device_time.asked:
            device_time.wait()
        mono = monotonic_ns()
        if span is not None:
            detach(span.token)
        traced = span is not None and span.flags
        if traced or record_type.native_on:
            ids = span.ids if span is not None and traced else None
            end = self._start + mono - self._mono
            extra = span.extra() if span is not None else None
            recorder.emit((record_type, self._start, end, get_ident(), ids, current.scheduled, extra))
        return self._inner.__exit__(*exc)


class RecordFunction:
    """``record_function_or_nullcontext(name)``: the phases that vLLM marks in its model runner."""

    switch = recorder

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        types = {f"gpu_model_runner: {tag}": record_type for tag, record_type in TAG_TYPES.items()} | TAG_TYPES
        types |= {tag.capitalize(): TAG_TYPES[tag] for tag in ("forward", *TAGS)}  # up to vLLM 0.11.0

        def record_function_or_nullcontext(name: str) -> AbstractContextManager[Any]:
            record_type = types.get(name)
            if record_type is None or not current.scheduled:
                return original(name)
            traced = current.ids is not None and record_type.traces_on
            if not traced and not record_type.native_on:
                return original(name)
            return _Tagged(record_type, original(name), traced)

        return record_function_or_nullcontext
