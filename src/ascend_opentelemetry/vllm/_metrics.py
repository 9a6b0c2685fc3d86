"""Metrics: what the records of requests and steps are measured by, in the drain's thread.

Numbers of the engine are those that vLLM hands to its own loggers (``StatLoggerManager``), so the two always agree.
A plugin of its group ``vllm.stat_logger_plugins`` would get the same, but switch statistics on for everybody who
installs this package and said ``--disable-log-stats``, and is not loaded by ``LLM``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import get_ident
from time import time_ns
from typing import Any

from ascend_opentelemetry.recorder import Measurement, Measurements, Record, RecordType, SpanIds, recorder
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import metrics
from ascend_opentelemetry.vllm._ranks import ranks

_METRICS = "Metrics"

Pairs = tuple[tuple[str, Any], ...]

#: Attributes of a request that its metrics have too.
_REQUEST_KEYS = (
    keys.GEN_AI_OPERATION_NAME,
    keys.GEN_AI_PROVIDER_NAME,
    keys.GEN_AI_REQUEST_MODEL,
    keys.GEN_AI_RESPONSE_MODEL,
    keys.SERVER_ADDRESS,
    keys.SERVER_PORT,
)

#: Models that the engine has run requests for: whoever asks for others must not make up time series without end.
_models: set[str] = set()
#: With ``VLLM_SKIP_MODEL_NAME_VALIDATION`` the engine runs whatever name a client makes up.
_MAX_MODELS = 100


def _request_measurements(record: Record) -> Iterator[Measurement]:
    attributes: Pairs
    attributes, first_token, error_type, ran = record[5]
    attributes = _known_model(attributes, ran)
    start = record[1]
    duration = max(0, record[2] - start) / 1e9  # the clock of the system may be set back between the two
    if error_type is None:
        yield Measurement(metrics.GEN_AI_SERVER_REQUEST_DURATION, duration, attributes)
        if first_token:
            wait = max(0, first_token - start) / 1e9
            yield Measurement(metrics.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN, wait, attributes)
    else:
        attributes = (*attributes, (keys.ERROR_TYPE, error_type))
        yield Measurement(metrics.GEN_AI_SERVER_REQUEST_DURATION, duration, attributes)


def _known_model(attributes: Pairs, ran: bool) -> Pairs:
    """Without a ``gen_ai.request.model`` that is not known."""
    model = next((value for key, value in attributes if key == keys.GEN_AI_REQUEST_MODEL), None)
    if model is None or model in _models:
        return attributes
    if ran and len(_models) < _MAX_MODELS:
        _models.add(model)
        return attributes
    return tuple([pair for pair in attributes if pair[0] != keys.GEN_AI_REQUEST_MODEL])


def _choice_measurements(record: Record) -> Iterator[Measurement]:
    attributes, queued, scheduled, first_token, last_token, tokens = record[5]
    attributes = _known_model(attributes, ran=True)
    if not scheduled:  # 0 for what never was
        return
    yield Measurement(metrics.VLLM_REQUEST_QUEUE_DURATION, scheduled - queued, attributes)
    if not first_token:
        return
    yield Measurement(metrics.VLLM_REQUEST_PREFILL_DURATION, first_token - scheduled, attributes)
    if not tokens:  # of a pooling request
        return
    decode = last_token - first_token
    yield Measurement(metrics.VLLM_REQUEST_DECODE_DURATION, decode, attributes)
    if tokens > 1:
        yield Measurement(metrics.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN, decode / (tokens - 1), attributes)


def _step_measurements(record: Record) -> Iterator[Measurement]:
    requests, tokens = record[5]
    engine = ((keys.VLLM_DATA_PARALLEL_RANK, ranks.data_parallel or 0),)
    yield Measurement(metrics.VLLM_STEP_REQUESTS, requests, engine)
    yield Measurement(metrics.VLLM_STEP_TOKENS, tokens, engine)


def _scheduler_measurements(record: Record) -> Iterator[Measurement]:
    running, waiting, usage, queried, hit = record[5]
    engine = ((keys.VLLM_DATA_PARALLEL_RANK, ranks.data_parallel or 0),)
    yield Measurement(metrics.VLLM_REQUEST_RUNNING, running, engine)
    yield Measurement(metrics.VLLM_REQUEST_WAITING, waiting, engine)
    yield Measurement(metrics.VLLM_KV_CACHE_UTILIZATION, usage, engine)
    yield Measurement(metrics.VLLM_PREFIX_CACHE_QUERIED, queried, engine)
    yield Measurement(metrics.VLLM_PREFIX_CACHE_HIT, hit, engine)


def _stats_measurements(record: Record) -> Iterator[Measurement | Measurements]:
    index, preempted, prompt_tokens, generated, intervals = record[5]
    engine = ((keys.VLLM_DATA_PARALLEL_RANK, index),)
    if intervals:
        yield Measurements(metrics.VLLM_INTER_TOKEN_LATENCY, intervals, engine)
    yield Measurement(metrics.VLLM_REQUEST_PREEMPTED, preempted, engine)
    yield Measurement(metrics.VLLM_TOKEN_INPUT, prompt_tokens, engine)
    yield Measurement(metrics.VLLM_TOKEN_OUTPUT, generated, engine)


REQUEST_METRICS = RecordType(_METRICS, "request", native=False, traces=False, measure=_request_measurements)
CHOICE_METRICS = RecordType(_METRICS, "choice", native=False, traces=False, measure=_choice_measurements)
STEP_METRICS = RecordType(_METRICS, "step", native=False, traces=False, measure=_step_measurements)
SCHEDULER_METRICS = RecordType(_METRICS, "scheduler", native=False, traces=False, measure=_scheduler_measurements)
STATS_METRICS = RecordType(_METRICS, "stats", native=False, traces=False, measure=_stats_measurements)

TYPES = (REQUEST_METRICS, CHOICE_METRICS, STEP_METRICS, SCHEDULER_METRICS, STATS_METRICS)


def request_ended(
    start: int,
    end: int,
    ids: SpanIds | None,
    attributes: Mapping[str, Any],
    *,
    first_token: int = 0,
    ran: bool = True,
) -> None:
    """Have an ``llm_request`` measured, whether it is traced or not.

    Args:
        start: ns since 1970.
        end: ns since 1970.
        ids: of its span.
        attributes: of its span, ``error.type`` among them if it failed.
        first_token: ns since 1970; 0 for none.
        ran: the engine had it; else it was refused before.
    """
    error_type = attributes.get(keys.ERROR_TYPE)
    values = _shared(attributes), first_token, error_type, ran
    recorder.emit((REQUEST_METRICS, start, end, get_ident(), ids, values, None))


def choice_ended(stats: Any, tokens: int, ids: SpanIds | None, attributes: Mapping[str, Any]) -> None:
    """Have a finished choice of a request measured.

    Args:
        stats: vLLM's ``RequestStateStats``; None with ``--disable-log-stats``: then it has no times.
        tokens: generated.
        ids: of the ``llm_request``.
        attributes: of the ``llm_request``.
    """
    if stats is None:
        return
    now = time_ns()
    times = stats.queued_ts, stats.scheduled_ts, stats.first_token_ts, stats.last_token_ts
    values = _shared(attributes), *times, tokens
    recorder.emit((CHOICE_METRICS, now, now, get_ident(), ids, values, None))


def _shared(attributes: Mapping[str, Any]) -> Pairs:
    return tuple([(key, attributes[key]) for key in _REQUEST_KEYS if key in attributes])


class MakeStats:
    """``Scheduler.make_stats(...) -> SchedulerStats | None``: once a step, in EngineCore.

    There, because of several API servers each is handed the statistics of some steps only: their gauges would contradict
    each other. Source: vLLM 0.9.1 to 0.32.
    """

    switch = SCHEDULER_METRICS

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if result is None:  # with ``--disable-log-stats``
            return
        cache = result.prefix_cache_stats
        waiting = result.num_waiting_reqs + getattr(result, "num_skipped_waiting_reqs", 0)
        usage = result.kv_cache_usage if hasattr(result, "kv_cache_usage") else result.gpu_cache_usage
        now = time_ns()
        values = result.num_running_reqs, waiting, usage, cache.queries, cache.hits
        recorder.emit((SCHEDULER_METRICS, now, now, get_ident(), None, values, None))


class RecordStats:
    """``StatLoggerManager.record(scheduler_stats=, iteration_stats=, ..., engine_idx=)``: once a step, in the API server.

    Source: vLLM 0.11 to 0.32.
    """

    switch = STATS_METRICS

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        iteration = args[2] if len(args) > 2 else kwargs["iteration_stats"]
        if iteration is None:
            return
        # a list that is made anew in each step
        intervals = getattr(iteration, "inter_token_latencies_iter", ())
        tokens = iteration.num_prompt_tokens, iteration.num_generation_tokens
        now = time_ns()
        values = kwargs.get("engine_idx") or 0, iteration.num_preempted_reqs, *tokens, intervals
        recorder.emit((STATS_METRICS, now, now, get_ident(), None, values, None))

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...
