from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.recorder import recorder
from ascend_opentelemetry.vllm import META
from ascend_opentelemetry.vllm._ranks import Ranks


@pytest.fixture
def meta() -> Iterator[list[tuple[str, str]]]:
    """Rows of ``Meta`` as they are noted."""
    seen: list[tuple[str, str]] = []
    recorder.on_meta = lambda name, value: seen.append((name, value))
    yield seen
    recorder.on_meta = None
    recorder.meta.clear()


def config(**fields: Any) -> Any:
    return SimpleNamespace(parallel_config=SimpleNamespace(**fields))


def test_an_engine_has_its_data_parallel_rank_noted_once(meta: list[tuple[str, str]]) -> None:
    ranks = Ranks()
    assert ranks.data_parallel is None
    for rank in (3, 4):
        ranks.note_engine(config(data_parallel_rank=rank))
    assert (ranks.data_parallel, ranks.worker, meta) == (3, None, [("dpRankId", "3")])


def test_engines_of_a_dense_model_are_told_apart_by_their_index(meta: list[tuple[str, str]]) -> None:
    ranks = Ranks()
    ranks.note_engine(config(data_parallel_rank=0, data_parallel_index=1))
    assert (ranks.data_parallel, meta) == (1, [("dpRankId", "1")])


def test_a_worker_has_the_ranks_of_its_place(meta: list[tuple[str, str]]) -> None:
    ranks = Ranks()
    for rank in (5, 0):
        ranks.note_worker(config(data_parallel_rank=0, rank=rank, tensor_parallel_size=2))
    assert (ranks.worker, ranks.tensor_parallel, ranks.pipeline_parallel) == (5, 1, 2)
    assert meta == [("dpRankId", "0"), ("tpRankId", "1"), ("ppRankId", "2")]


def test_the_context_parallel_ranks_of_a_prefill_lie_between_the_two(meta: list[tuple[str, str]]) -> None:
    found = []
    for rank in range(8):
        ranks = Ranks()
        ranks.note_worker(
            config(data_parallel_rank=0, rank=rank, tensor_parallel_size=2, prefill_context_parallel_size=2)
        )
        found.append((ranks.pipeline_parallel, ranks.tensor_parallel))
    assert found == [(0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (1, 1)]


def test_before_anything_is_known_native_files_have_the_unknown_rank() -> None:
    assert META == {"dpRankId": "-1"}
