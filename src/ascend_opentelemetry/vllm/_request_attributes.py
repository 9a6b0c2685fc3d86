"""What an ``llm_request`` says of its request, from vLLM's parameters; names as in the GenAI conventions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ascend_opentelemetry.semconv import attributes as keys

#: Characters that are shown of names and ids, which clients may make up.
MAX_TEXT = 256
#: OTLP has no larger integers; clients may send some, and vLLM refuses them later or not at all.
MAX_INT = 2**63 - 1

#: Stop sequences that are shown, and characters of each.
_MAX_STOPS = 16
_MAX_STOP_LENGTH = 64

#: Fields of ``StructuredOutputsParams`` (``GuidedDecodingParams`` in older versions), one of which is set.
_STRUCTURES = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")

#: Parameters that say nothing at their neutral value -> name, type and that value.
_OPTIONAL: Sequence[tuple[str, str, type, Any]] = (
    ("frequency_penalty", keys.GEN_AI_REQUEST_FREQUENCY_PENALTY, float, 0),
    ("presence_penalty", keys.GEN_AI_REQUEST_PRESENCE_PENALTY, float, 0),
    ("repetition_penalty", keys.VLLM_REQUEST_REPETITION_PENALTY, float, 1),
    ("min_p", keys.VLLM_REQUEST_MIN_P, float, 0),
    ("seed", keys.GEN_AI_REQUEST_SEED, int, None),
)


def sampling_attributes(params: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of ``SamplingParams``."""
    yield keys.GEN_AI_REQUEST_TEMPERATURE, float(params.temperature)
    yield keys.GEN_AI_REQUEST_TOP_P, float(params.top_p)
    if 0 < params.top_k <= MAX_INT:  # 0 or -1: all tokens
        yield keys.GEN_AI_REQUEST_TOP_K, float(params.top_k)
    if params.max_tokens is not None:
        yield keys.GEN_AI_REQUEST_MAX_TOKENS, params.max_tokens
    yield keys.GEN_AI_REQUEST_CHOICE_COUNT, params.n
    for field, name, kind, neutral in _OPTIONAL:
        value = getattr(params, field)
        if value is not None and value != neutral:
            yield name, kind(value)
    if params.stop:
        stops = [params.stop] if isinstance(params.stop, str) else params.stop
        yield keys.GEN_AI_REQUEST_STOP_SEQUENCES, [stop[:_MAX_STOP_LENGTH] for stop in stops[:_MAX_STOPS]]
    kind = _structure(params)
    if kind is not None:
        yield keys.VLLM_REQUEST_STRUCTURED_OUTPUT, kind
        if kind.startswith("json"):
            yield keys.GEN_AI_OUTPUT_TYPE, "json"


def _structure(params: Any) -> str | None:
    """Kind of structured output that is asked for."""
    structure = getattr(params, "structured_outputs", None) or getattr(params, "guided_decoding", None)
    return next((kind for kind in _STRUCTURES if getattr(structure, kind, None) not in (None, False)), None)


def pooling_attributes(params: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of ``PoolingParams``."""
    dimensions = getattr(params, "dimensions", None)
    if dimensions is not None:
        yield keys.GEN_AI_EMBEDDINGS_DIMENSION_COUNT, dimensions


def body_attributes(request: Any) -> Iterator[tuple[str, Any]]:
    """What only the body of the HTTP request says (one of vLLM's protocol classes)."""
    if getattr(request, "stream", None) is True:
        yield keys.GEN_AI_REQUEST_STREAM, True
    encoding = getattr(request, "encoding_format", None)
    if isinstance(encoding, str):
        yield keys.GEN_AI_REQUEST_ENCODING_FORMATS, [encoding]


def served_model(engine: Any) -> str | None:
    """Name under which an engine (``AsyncLLM``, ``LLMEngine``) serves its model; the first of several."""
    name = getattr(getattr(engine, "model_config", None), "served_model_name", None)
    if isinstance(name, (list, tuple)):
        name = name[0] if name else None
    return name if isinstance(name, str) else None
