"""What is kept of an ``llm_request`` until its last token, and the attributes that say how it went."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import SpanEvent, SpanIds, SpanLink
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.vllm._tracing import init_tracer


class RequestTrace:
    """An ``llm_request``: one engine request, or the ``n`` of a request with ``n > 1``."""

    __slots__ = ("arrival", "attributes", "baggage", "cached", "decode_ns", "events", "finish_reasons", "first_token",
                 "ids", "intervals", "links", "longest", "message", "missing", "open", "output_tokens", "parent_id",
                 "pooling", "preemptions", "prompt_tokens", "state", "stats", "zero")  # fmt: skip

    def __init__(self, arrival: int, prompt_tokens: int, attributes: dict[str, Any], parent: Any) -> None:
        self.arrival = arrival
        #: Wall minus monotonic clock: when the wall clock is set meanwhile, the span keeps its length.
        self.zero = max(time_ns(), arrival) - monotonic_ns()
        self.prompt_tokens = prompt_tokens
        self.attributes = attributes
        self.parent_id: str | None = parent.request_id if parent is not None else None
        self.ids: SpanIds | None = None
        #: W3C ``tracestate`` of the client, and the part of its ``baggage`` that is for EngineCore too; "" for none.
        self.state = self.baggage = ""
        #: No tokens are generated: embeddings, scores and the like.
        self.pooling = False
        #: Children that were not added yet, and those without an end.
        self.missing: int = parent.sampling_params.n if parent is not None else 1
        self.open = 0
        #: Why it failed.
        self.message: str | None = None
        self.first_token = 0
        self.output_tokens = 0
        #: Prompt tokens that the prefix cache held when the request came; preemptions, where vLLM counts them.
        self.cached: int | None = None
        self.preemptions: int | None = None
        #: Over all children: from the first to the last token, how many tokens came in that time, the longest wait.
        self.decode_ns = self.intervals = self.longest = 0
        self.finish_reasons: dict[int, str] = {}
        self.events: list[SpanEvent] = []
        self.links: list[SpanLink] = []
        self.stats: Any = None

    def ended(self, child: Child) -> None:
        """Take over the token times of a child."""
        if child.tokens > 1:
            self.decode_ns += child.last - child.first
            self.intervals += child.tokens - 1
            self.longest = max(self.longest, child.longest)

    def took(self, state: Any) -> None:
        """Take over what vLLM's ``RequestState`` of a child counts at its end."""
        self.stats = state.stats
        self.prompt_tokens = state.prompt_len  # embeddings and streamed inputs are counted too
        cached = getattr(state, "num_cached_tokens", None)
        if cached is not None:  # a later choice finds what the first one computed
            self.cached = cached if self.cached is None else min(self.cached, cached)
        preemptions = getattr(state.stats, "num_preemptions", None)
        if preemptions is not None:
            self.preemptions = preemptions + (self.preemptions or 0)


class Child:
    """One engine request of an ``llm_request``."""

    __slots__ = ("first", "index", "last", "longest", "request", "rid", "tokens")

    def __init__(self, request: RequestTrace, rid: str, index: int) -> None:
        self.request = request
        self.rid = rid
        self.index = index
        #: Monotonic clock at its first and last token, the longest time between two outputs, tokens so far.
        self.first = self.last = self.longest = self.tokens = 0


def end_attributes(trace: RequestTrace, now: int) -> Iterator[tuple[str, Any]]:
    """Attributes of a request that ends at ``now`` (ns since 1970), besides those it began with."""
    yield keys.GEN_AI_USAGE_INPUT_TOKENS, trace.prompt_tokens
    if not trace.pooling:
        yield keys.GEN_AI_USAGE_OUTPUT_TOKENS, trace.output_tokens
    if trace.cached is not None:
        yield keys.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, trace.cached
    if init_tracer.asked:  # dashboards on vLLM's own span look for these
        yield keys.GEN_AI_USAGE_PROMPT_TOKENS, trace.prompt_tokens
        yield keys.GEN_AI_USAGE_COMPLETION_TOKENS, trace.output_tokens
        if keys.GEN_AI_REQUEST_CHOICE_COUNT in trace.attributes:
            yield keys.GEN_AI_REQUEST_N, trace.attributes[keys.GEN_AI_REQUEST_CHOICE_COUNT]
    yield keys.GEN_AI_RESPONSE_FINISH_REASONS, [reason for _, reason in sorted(trace.finish_reasons.items())]
    if trace.preemptions is not None:
        yield keys.VLLM_REQUEST_PREEMPTIONS, trace.preemptions
    yield from _latencies(trace, now)


def _latencies(trace: RequestTrace, now: int) -> Iterator[tuple[str, Any]]:
    yield keys.GEN_AI_LATENCY_E2E, (now - trace.arrival) / 1e9
    if trace.first_token:
        yield keys.GEN_AI_LATENCY_TIME_TO_FIRST_TOKEN, (trace.first_token - trace.arrival) / 1e9
    if trace.intervals:
        yield keys.VLLM_REQUEST_INTER_TOKEN_LATENCY_MEAN, trace.decode_ns / trace.intervals / 1e9
        yield keys.VLLM_REQUEST_INTER_TOKEN_LATENCY_MAX, trace.longest / 1e9
    stats = trace.stats
    if stats is not None and stats.first_token_ts and len(trace.finish_reasons) == 1:
        yield keys.GEN_AI_LATENCY_TIME_IN_QUEUE, stats.scheduled_ts - stats.queued_ts
        yield keys.GEN_AI_LATENCY_TIME_IN_MODEL_PREFILL, stats.first_token_ts - stats.scheduled_ts
        if not trace.pooling:
            yield keys.GEN_AI_LATENCY_TIME_IN_MODEL_DECODE, stats.last_token_ts - stats.first_token_ts
        yield keys.GEN_AI_LATENCY_TIME_IN_MODEL_INFERENCE, stats.last_token_ts - stats.scheduled_ts
