"""JSON texts of the request ids of a batch: several rows of a step have them, and most steps the batch of the one before."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ascend_opentelemetry.vllm._rows import encode, id_objects

#: Batches whose texts are kept: with pipeline parallelism several are under way.
_BATCHES = 8


def id_list(request_ids: Iterable[str]) -> str:
    """``[id, ...]`` as JSON."""
    return _id_list(tuple(request_ids))


def id_object_list(request_ids: Iterable[str]) -> str:
    """``[{"rid": id}, ...]`` as JSON."""
    return _id_object_list(tuple(request_ids))


@lru_cache(_BATCHES)
def _id_list(request_ids: tuple[str, ...]) -> str:
    return f"[{', '.join(map(encode, request_ids))}]"


_id_object_list = lru_cache(_BATCHES)(id_objects)
