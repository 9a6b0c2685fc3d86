"""What an ``llm_request`` says of vLLM's parameters and of the body of the HTTP request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from test_vllm_standins import PoolingParams, SamplingParams

from ascend_opentelemetry.vllm._operations import pooling_operation
from ascend_opentelemetry.vllm._request_attributes import (
    body_attributes,
    pooling_attributes,
    sampling_attributes,
    served_model,
)


def typed(pairs: Any) -> dict[str, tuple[type, Any]]:
    return {key: (type(value), value) for key, value in pairs}


def test_parameters_at_their_neutral_values_are_left_out() -> None:
    assert typed(sampling_attributes(SamplingParams())) == {
        "gen_ai.request.temperature": (float, 0.5),
        "gen_ai.request.top_p": (float, 0.9),
        "gen_ai.request.max_tokens": (int, 16),
        "gen_ai.request.choice.count": (int, 1),
    }


def test_parameters_have_the_names_and_types_of_the_conventions() -> None:
    params = SamplingParams(
        temperature=0, top_p=1, max_tokens=None, n=2, top_k=5, seed=0, stop=["a", "b"], frequency_penalty=1,
        presence_penalty=-1, repetition_penalty=2, min_p=0.5,
    )  # fmt: skip
    assert typed(sampling_attributes(params)) == {
        "gen_ai.request.temperature": (float, 0.0),
        "gen_ai.request.top_p": (float, 1.0),
        "gen_ai.request.top_k": (float, 5.0),
        "gen_ai.request.choice.count": (int, 2),
        "gen_ai.request.seed": (int, 0),
        "gen_ai.request.frequency_penalty": (float, 1.0),
        "gen_ai.request.presence_penalty": (float, -1.0),
        "vllm.request.repetition_penalty": (float, 2.0),
        "vllm.request.min_p": (float, 0.5),
        "gen_ai.request.stop_sequences": (list, ["a", "b"]),
    }


def test_every_top_k_that_means_all_tokens_is_left_out() -> None:
    for value in (0, -1):
        assert "gen_ai.request.top_k" not in dict(sampling_attributes(SamplingParams(top_k=value)))


def test_a_top_k_that_is_no_number_of_tokens_is_left_out_and_costs_nothing_else() -> None:
    found = dict(sampling_attributes(SamplingParams(top_k=10**400)))  # vLLM takes it, and no float does
    assert "gen_ai.request.top_k" not in found
    assert found["gen_ai.request.max_tokens"] == 16


def test_stop_sequences_are_bounded() -> None:
    one = dict(sampling_attributes(SamplingParams(stop="x" * 1000)))
    assert one["gen_ai.request.stop_sequences"] == ["x" * 64]
    many = dict(sampling_attributes(SamplingParams(stop=["x"] * 1000)))
    assert many["gen_ai.request.stop_sequences"] == ["x"] * 16


@pytest.mark.parametrize(
    ("fields", "kind", "output"),
    [
        ({"json": {"type": "object"}}, "json", "json"),
        ({"json": None, "json_object": True}, "json_object", "json"),
        ({"regex": "a+", "json_object": False}, "regex", None),
        ({"choice": ["a"]}, "choice", None),
        ({"grammar": "root ::= x"}, "grammar", None),
        ({"structural_tag": "{}"}, "structural_tag", None),
        ({}, None, None),
    ],
)
@pytest.mark.parametrize("name", ["structured_outputs", "guided_decoding"])  # the latter before vLLM 0.11
def test_structured_output_is_named_by_its_kind_and_not_quoted(
    name: str, fields: dict[str, Any], kind: str | None, output: str | None
) -> None:
    params: Any = SamplingParams()
    setattr(params, name, SimpleNamespace(**fields))
    found = dict(sampling_attributes(params))
    assert (found.get("vllm.request.structured_output"), found.get("gen_ai.output.type")) == (kind, output)


def test_pooling_parameters() -> None:
    assert dict(pooling_attributes(PoolingParams())) == {}
    assert dict(pooling_attributes(PoolingParams(dimensions=8))) == {"gen_ai.embeddings.dimension.count": 8}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (SimpleNamespace(stream=True), {"gen_ai.request.stream": True}),
        (SimpleNamespace(stream=False, encoding_format="float"), {"gen_ai.request.encoding_formats": ["float"]}),
        (SimpleNamespace(stream=None, encoding_format=7), {}),
        (None, {}),
    ],
)
def test_what_only_the_body_says(body: Any, expected: dict[str, Any]) -> None:
    assert dict(body_attributes(body)) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("tiny", "tiny"), (["a", "b"], "a"), ([], None), (None, None), (7, None)]
)
def test_the_served_model_is_the_first_of_its_names(name: Any, expected: str | None) -> None:
    assert served_model(SimpleNamespace(model_config=SimpleNamespace(served_model_name=name))) == expected
    assert served_model(object()) is None


def test_operations_of_pooling_requests() -> None:
    def operation(serving: str, request: str, base: type = object) -> str:
        return pooling_operation(type(serving, (base,), {})(), type(request, (), {})())

    assert operation("ServingEmbedding", "EmbeddingChatRequest") == "embeddings"
    assert operation("ServingScores", "ScoreTextRequest") == "score"
    assert operation("ServingScores", "RerankRequest") == "rerank"
    assert operation("ServingClassification", "ClassificationRequest") == "classify"
    assert operation("ServingPooling", "PoolingRequest") == "pooling"
    assert operation("Mine", "Request", type("ServingEmbedding", (), {})) == "embeddings"
    assert operation("Another", "Request") == "pooling"
