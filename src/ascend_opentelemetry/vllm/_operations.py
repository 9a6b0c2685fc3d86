"""Functions of the API server that take requests of clients, and what they ask of the model.

Source: vLLM 0.9.1 to 0.32.0. Names of operations are those of the GenAI conventions where these have one.
"""

from __future__ import annotations

from typing import Any

_SERVING = "vllm.entrypoints.openai"
_POOLING = "vllm.entrypoints.pooling"

#: Serving class of pooling requests -> operation.
_POOLING_OPERATIONS = {
    "ServingEmbedding": "embeddings",
    "ServingScores": "score",
    "ServingClassification": "classify",
    "ServingPooling": "pooling",
}


def pooling_operation(serving: Any, request: Any) -> str:
    """Operation of a pooling request: one serving object takes several kinds."""
    if type(request).__name__.startswith("Rerank"):
        return "rerank"
    names = (kind.__name__ for kind in type(serving).__mro__)
    return next((_POOLING_OPERATIONS[name] for name in names if name in _POOLING_OPERATIONS), "pooling")


#: End of a path of the HTTP interface -> operation; the first that fits.
_PATHS = {
    "/chat/completions": "chat",
    "/chat/completions/batch": "chat",
    "/v1/completions": "text_completion",
    "/inference/v1/generate": "text_completion",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v2/chat": "chat",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
    "/score": "score",
    "/rerank": "rerank",
    "/classify": "classify",
    "/pooling": "pooling",
}


def operation_of_path(path: str) -> str | None:
    """Operation that is asked for by a path; None for one that asks nothing of the model, or is not known."""
    return next((operation for end, operation in _PATHS.items() if path.endswith(end)), None)


#: ``module, qualname, operation`` (None: ask ``pooling_operation``) of ``function(self, request, raw_request)``.
OPERATIONS: tuple[tuple[str, str, str | None], ...] = (
    (f"{_SERVING}.completion.serving", "OpenAIServingCompletion.create_completion", "text_completion"),
    (f"{_SERVING}.serving_completion", "OpenAIServingCompletion.create_completion", "text_completion"),
    (f"{_SERVING}.chat_completion.serving", "OpenAIServingChat.create_chat_completion", "chat"),
    (f"{_SERVING}.serving_chat", "OpenAIServingChat.create_chat_completion", "chat"),
    (f"{_SERVING}.chat_completion.batch_serving", "OpenAIServingChatBatch.create_batch_chat_completion", "chat"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.create_messages", "chat"),
    ("vllm.entrypoints.anthropic.serving_messages", "AnthropicServingMessages.create_messages", "chat"),
    ("vllm.entrypoints.cohere.serving", "CohereServingChatV2.create_chat_v2", "chat"),
    ("vllm.entrypoints.scale_out.token_in_token_out.serving", "ServingTokens.serve_tokens", "text_completion"),
    ("vllm.entrypoints.serve.disagg.serving", "ServingTokens.serve_tokens", "text_completion"),
    (f"{_SERVING}.serving_tokens", "ServingTokens.serve_tokens", "text_completion"),
    (f"{_SERVING}.responses.serving", "OpenAIServingResponses.create_responses", "chat"),
    (f"{_SERVING}.serving_responses", "OpenAIServingResponses.create_responses", "chat"),
    (f"{_POOLING}.base.serving", "PoolingBaseServing.__call__", None),
    (f"{_POOLING}.base.serving", "PoolingServingBase.__call__", None),
    (f"{_POOLING}.base.serving", "PoolingServing.__call__", None),
    (f"{_POOLING}.scoring.serving", "ServingScores.__call__", None),
    (f"{_POOLING}.embed.serving", "OpenAIServingEmbedding.create_embedding", "embeddings"),
    (f"{_POOLING}.pooling.serving", "OpenAIServingPooling.create_pooling", "pooling"),
    (f"{_POOLING}.classify.serving", "ServingClassification.create_classify", "classify"),
    (f"{_POOLING}.score.serving", "ServingScores.create_score", "score"),
    (f"{_POOLING}.score.serving", "ServingScores.do_rerank", "rerank"),
    (f"{_SERVING}.serving_embedding", "OpenAIServingEmbedding.create_embedding", "embeddings"),
    (f"{_SERVING}.serving_pooling", "OpenAIServingPooling.create_pooling", "pooling"),
    (f"{_SERVING}.serving_classification", "ServingClassification.create_classify", "classify"),
    (f"{_SERVING}.serving_score", "ServingScores.create_score", "score"),
    (f"{_SERVING}.serving_score", "ServingScores.do_rerank", "rerank"),
)
