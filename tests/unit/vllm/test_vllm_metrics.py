"""What is measured of requests, choices and steps: names, values, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.recorder import Record, RecordType, recorder
from ascend_opentelemetry.vllm import _metrics
from ascend_opentelemetry.vllm._metrics import MakeStats, RecordStats, choice_ended, request_ended

ATTRIBUTES = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm", "gen_ai.request.model": "tiny",
    "gen_ai.response.model": "tiny-1", "gen_ai.request.temperature": 0.5,
}  # fmt: skip
SHARED = (
    ("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "vllm"), ("gen_ai.request.model", "tiny"),
    ("gen_ai.response.model", "tiny-1"),
)  # fmt: skip
ENGINE = (("vllm.data_parallel.rank", 0),)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    _metrics._models.clear()
    yield
    recorder.queue.clear()


def measured() -> list[Any]:
    """Name, value and attributes of what the queued records are measured by."""
    records = list(recorder.queue)
    recorder.queue.clear()
    return [(measurement[0].name, *measurement[1:]) for record in records for measurement in measure(record)]


def measure(record: Record) -> Iterator[Any]:
    record_type: RecordType = record[0]
    assert record_type.measure is not None
    yield from record_type.measure(record)


def test_a_request_that_ended_well_has_a_duration_and_a_first_token() -> None:
    request_ended(1_000_000_000, 3_500_000_000, (1, 2, 0, 1), ATTRIBUTES, first_token=1_250_000_000)
    assert recorder.queue[0][4] == (1, 2, 0, 1)
    assert measured() == [
        ("gen_ai.server.request.duration", 2.5, SHARED),
        ("gen_ai.server.time_to_first_token", 0.25, SHARED),
    ]


def test_a_clock_that_is_set_back_makes_no_time_negative() -> None:
    request_ended(2_000_000_000, 1_000_000_000, None, ATTRIBUTES, first_token=1_500_000_000)
    assert [value for _, value, _ in measured()] == [0, 0]


def test_an_embedding_has_no_first_token() -> None:
    request_ended(0, 1_000_000_000, None, ATTRIBUTES)
    assert measured() == [("gen_ai.server.request.duration", 1.0, SHARED)]


def test_a_failed_request_has_its_error_and_no_first_token() -> None:
    request_ended(0, 1_000_000_000, None, {**ATTRIBUTES, "error.type": "abort"}, first_token=5)
    assert measured() == [("gen_ai.server.request.duration", 1.0, (*SHARED, ("error.type", "abort")))]


def test_models_that_nobody_serves_make_no_time_series() -> None:
    refused = {**ATTRIBUTES, "gen_ai.request.model": "made-up", "error.type": "NotFoundError"}
    request_ended(0, 0, None, refused, ran=False)
    ((_, _, attributes),) = measured()
    assert "gen_ai.request.model" not in dict(attributes)
    request_ended(0, 0, None, {**refused, "gen_ai.request.model": "tiny"}, ran=False)
    assert "gen_ai.request.model" not in dict(measured()[0][2])
    request_ended(0, 0, None, ATTRIBUTES)
    request_ended(0, 0, None, {**refused, "gen_ai.request.model": "tiny"}, ran=False)
    assert [dict(attributes).get("gen_ai.request.model") for _, _, attributes in measured()] == ["tiny", "tiny"]


def test_names_that_vllm_does_not_validate_make_no_time_series_without_end() -> None:
    for index in range(150):
        named = {**ATTRIBUTES, "gen_ai.request.model": f"made-up-{index}"}
        request_ended(0, 0, None, named)
        choice_ended(stats(), 1, None, named)
    assert len({dict(attributes).get("gen_ai.request.model") for _, _, attributes in measured()}) == 101


def stats(**times: float) -> Any:
    return SimpleNamespace(
        **{"queued_ts": 1.0, "scheduled_ts": 1.5, "first_token_ts": 3.5, "last_token_ts": 7.5, **times}
    )


def test_a_choice_has_its_phases_and_the_time_per_token_after_the_first() -> None:
    choice_ended(stats(), 5, (1, 2, 0, 1), ATTRIBUTES)
    assert recorder.queue[0][4] == (1, 2, 0, 1)
    assert measured() == [
        ("vllm.request.queue.duration", 0.5, SHARED),
        ("vllm.request.prefill.duration", 2.0, SHARED),
        ("vllm.request.decode.duration", 4.0, SHARED),
        ("gen_ai.server.time_per_output_token", 1.0, SHARED),
    ]


@pytest.mark.parametrize(("tokens", "reached"), [(0, ["queue", "prefill"]), (1, ["queue", "prefill", "decode"])])
def test_one_token_has_no_time_per_token_and_none_no_decode(tokens: int, reached: list[str]) -> None:
    choice_ended(stats(last_token_ts=3.5), tokens, None, ATTRIBUTES)
    assert [name for name, _, _ in measured()] == [f"vllm.request.{phase}.duration" for phase in reached]


def test_a_choice_has_the_phases_that_it_reached() -> None:
    choice_ended(stats(scheduled_ts=0.0, first_token_ts=0.0, last_token_ts=0.0), 0, None, ATTRIBUTES)
    assert measured() == []
    choice_ended(stats(first_token_ts=0.0, last_token_ts=0.0), 0, None, ATTRIBUTES)
    assert [(name, value) for name, value, _ in measured()] == [("vllm.request.queue.duration", 0.5)]


def test_without_statistics_of_vllm_a_choice_has_no_times() -> None:
    choice_ended(None, 5, None, ATTRIBUTES)
    assert not recorder.queue


SCHEDULER = SimpleNamespace(
    num_running_reqs=3, num_waiting_reqs=2, num_skipped_waiting_reqs=1, kv_cache_usage=0.25,
    prefix_cache_stats=SimpleNamespace(queries=40, hits=16),
)  # fmt: skip
ITERATION = SimpleNamespace(
    num_preempted_reqs=1, num_prompt_tokens=12, num_generation_tokens=4, inter_token_latencies_iter=[0.03, 0.02]
)


def made(stats: Any) -> None:
    call(MakeStats(), lambda scheduler: stats, None)


def call(handler: Any, function: Any, *args: Any) -> None:
    state = handler.enter(args, {})
    handler.exit(state, args, {}, function(*args), None)


def test_the_statistics_of_a_step_are_those_that_vllm_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    RecordStats().enter((None,), {"scheduler_stats": SCHEDULER, "iteration_stats": ITERATION, "engine_idx": 1})
    monkeypatch.setattr(_metrics.ranks, "data_parallel", 1)
    made(SCHEDULER)
    engine = (("vllm.data_parallel.rank", 1),)
    assert measured() == [
        ("vllm.inter_token_latency", [0.03, 0.02], engine),
        ("vllm.request.preempted", 1, engine),
        ("vllm.token.input", 12, engine),
        ("vllm.token.output", 4, engine),
        ("vllm.request.running", 3, engine),
        ("vllm.request.waiting", 3, engine),
        ("vllm.kv_cache.utilization", 0.25, engine),
        ("vllm.prefix_cache.queried", 40, engine),
        ("vllm.prefix_cache.hit", 16, engine),
    ]


def test_a_step_may_be_without_statistics() -> None:
    handler = RecordStats()
    handler.enter((None, SCHEDULER, None), {})
    made(None)
    assert not recorder.queue
    handler.enter((None, None, ITERATION), {"engine_idx": None})
    assert [(name, attributes) for name, _, attributes in measured()] == [
        ("vllm.inter_token_latency", ENGINE), ("vllm.request.preempted", ENGINE), ("vllm.token.input", ENGINE),
        ("vllm.token.output", ENGINE),
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [{"inter_token_latencies_iter": []}, {}])
def test_a_step_without_a_second_token_has_no_time_between_tokens(fields: dict[str, Any]) -> None:
    first = SimpleNamespace(num_preempted_reqs=0, num_prompt_tokens=12, num_generation_tokens=1, **fields)
    RecordStats().enter((None, None, first), {})
    assert [name for name, _, _ in measured()] == ["vllm.request.preempted", "vllm.token.input", "vllm.token.output"]


def test_an_older_vllm_has_fewer_numbers_and_other_names() -> None:
    older = {key: value for key, value in vars(SCHEDULER).items() if key != "num_skipped_waiting_reqs"}
    older["gpu_cache_usage"] = older.pop("kv_cache_usage")  # 0.9.1
    made(SimpleNamespace(**older))
    values = {name: value for name, value, _ in measured()}
    assert (values["vllm.request.waiting"], values["vllm.kv_cache.utilization"]) == (2, 0.25)


def test_types_are_on_only_while_somebody_measures() -> None:
    for record_type in _metrics.TYPES:
        recorder.register(record_type)
    try:
        assert [record_type.on for record_type in _metrics.TYPES] == [False] * 5
        recorder.set_traces(True)
        assert [record_type.on for record_type in _metrics.TYPES] == [False] * 5
        recorder.set_traces(False)
        recorder.set_metrics(True)
        assert recorder.on
        assert [record_type.on for record_type in _metrics.TYPES] == [True] * 5
    finally:
        recorder.set_traces(False)
        recorder.set_metrics(False)
        recorder.unregister_all()
    assert not recorder.on
