"""The spans of a request inside EngineCore, and what is kept of it until they are recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any, NamedTuple

from ascend_opentelemetry.recorder import (
    REMOTE,
    SAMPLED,
    STATUS_ERROR,
    STATUS_UNSET,
    RecordType,
    SpanEvent,
    SpanExtra,
    SpanLink,
    getrandbits,
    recorder,
)
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import events as event_names
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._request_attributes import MAX_TEXT

REQUEST = "Request"

_KEYS = (keys.VLLM_REQUEST_ID,)
QUEUE = RecordType(REQUEST, span_names.VLLM_QUEUE, _KEYS, native=False)
PREFILL = RecordType(
    REQUEST,
    span_names.VLLM_PREFILL,
    (*_KEYS, keys.GEN_AI_USAGE_INPUT_TOKENS, keys.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, keys.VLLM_REQUEST_CHUNKS),
    native=False,
)
DECODE = RecordType(
    REQUEST,
    span_names.VLLM_DECODE,
    (*_KEYS, keys.GEN_AI_USAGE_OUTPUT_TOKENS, keys.VLLM_REQUEST_PREEMPTIONS),
    native=False,
)

#: As many links as the SDK's default limit for a span.
MAX_LINKS = 128
#: Chunks of a prefill that are events; all of them are counted.
MAX_CHUNKS = 32


class Steps:
    """The traced steps that a phase was in: as many as a span may link to, the last one always."""

    __slots__ = ("count", "ids")

    def __init__(self) -> None:
        self.ids: list[tuple[int, int]] = []
        self.count = 0

    def add(self, trace_id: int, step_id: int) -> None:
        self.count += 1
        if self.count <= MAX_LINKS:
            self.ids.append((trace_id, step_id))
        else:
            self.ids[-1] = trace_id, step_id

    def links(self, *, first: bool, last: bool) -> list[SpanLink]:
        """Links to them; ``first`` and ``last``: whether the first or last step of the request is among them."""
        links: list[SpanLink] = [(trace_id, step_id, ()) for trace_id, step_id in self.ids]
        for wanted, index, position in ((last, -1, "last"), (first, 0, "first")):
            if wanted and links:
                links[index] = (*links[index][:2], ((keys.VLLM_STEP_POSITION, position),))
        return links

    @property
    def attributes(self) -> tuple[tuple[str, Any], ...]:
        """The true number, where not all of them are linked."""
        return ((keys.VLLM_REQUEST_STEPS, self.count),) if self.count > MAX_LINKS else ()


class Phases:
    """Times of one traced request; wall clock at its arrival, monotonic differences after that."""

    __slots__ = (
        "accepted", "baggage", "cached", "chunks", "decode_id", "decode_steps", "drafted", "events", "first_token", "left",
        "parent_id", "prefill_id", "prefill_steps", "queued", "scheduled", "state", "trace_id", "transfer", "zero",
    )  # fmt: skip

    def __init__(self, trace_id: int, parent_id: int, state: str = "", baggage: Sequence[tuple[str, str]] = ()) -> None:
        self.trace_id = trace_id
        #: W3C ``tracestate``.
        self.state = state
        #: Attributes of all its spans.
        self.baggage = baggage
        self.parent_id = parent_id
        self.queued = time_ns()
        self.zero = self.queued - monotonic_ns()
        self.scheduled = 0
        self.first_token = 0
        self.prefill_id = getrandbits(64)
        self.decode_id = getrandbits(64)
        self.prefill_steps, self.decode_steps = Steps(), Steps()
        #: Prompt tokens that the prefix cache held, steps of the prefill so far, prompt tokens not yet scheduled.
        self.cached = self.chunks = self.left = 0
        #: Tokens of speculative decoding.
        self.drafted = self.accepted = 0
        #: Attributes of its KV transfer: where its blocks can be fetched.
        self.transfer: Sequence[tuple[str, Any]] = ()
        self.events: list[SpanEvent] = []

    @property
    def link(self) -> SpanLink:
        """The span of the phase the request is in now, as the target of a step's link."""
        span_id, phase = (self.decode_id, "decode") if self.first_token else (self.prefill_id, "prefill")
        return self.trace_id, span_id, ((keys.VLLM_REQUEST_PHASE, phase),)

    def joined(self, trace_id: int, step_id: int) -> None:
        """A traced step has the request in its batch."""
        (self.decode_steps if self.first_token else self.prefill_steps).add(trace_id, step_id)

    def chunk(self, at: int, tokens: int) -> None:
        """A step computes the next tokens of the prompt, from monotonic clock ``at``."""
        self.chunks += 1
        self.left -= tokens
        if self.chunks <= MAX_CHUNKS:
            name = event_names.SCHEDULED if self.chunks == 1 else event_names.CHUNK
            time = max(self.zero + at, self.scheduled)
            self.events.append((name, time, ((keys.VLLM_REQUEST_SCHEDULED_TOKENS, tokens),)))


def emit_phases(phases: Phases, request: Any, end: int, error: str | None) -> None:
    """Record the spans of a request that ends at ``end`` (ns since 1970), the last one with the error if there is one."""
    scheduled, first = phases.scheduled, phases.first_token
    has_decode = bool(first) and (end > first or bool(phases.decode_steps.count))
    stop = scheduled or end
    request_id = request.request_id[:MAX_TEXT]
    spans = [_Phase(QUEUE, getrandbits(64), phases.queued, stop, (request_id,))]
    if scheduled:
        stop = first or end
        values = (request_id, request.num_prompt_tokens, phases.cached, phases.chunks)
        links = phases.prefill_steps.links(first=True, last=not phases.decode_steps.count)
        spans.append(_Phase(PREFILL, phases.prefill_id, scheduled, stop, values, phases.prefill_steps, links))
    if has_decode:
        values = (request_id, request.num_output_tokens, _preemptions(request, phases))
        links = phases.decode_steps.links(first=False, last=True)
        spans.append(_Phase(DECODE, phases.decode_id, first, end, values, phases.decode_steps, links))
    if first:
        phases.events.append((event_names.FIRST_TOKEN, first, ()))
    if error is None:
        phases.events.append((event_names.FINISHED, end, ()))
    thread = get_ident()
    for span in spans:
        ids = (phases.trace_id, span.span_id, phases.parent_id, SAMPLED | REMOTE if phases.parent_id else SAMPLED)
        last = span is spans[-1]
        extra = SpanExtra(
            STATUS_ERROR if last and error is not None else STATUS_UNSET,
            (error or "") if last else "",
            [event for event in phases.events if span.holds(event, last)],
            span.links,
            (*span.baggage(phases), *span.steps.attributes, *(_end_attributes(phases) if last else ())),
            span.steps.count - len(span.links),
            phases.state,
        )
        recorder.emit((span.type, span.start, span.end, thread, ids, span.values, extra))


class _Phase(NamedTuple):
    """A span that is about to be recorded."""

    type: RecordType
    span_id: int
    start: int
    end: int
    values: tuple[Any, ...]
    steps: Steps = Steps()
    links: Sequence[SpanLink] = ()

    def baggage(self, phases: Phases) -> Iterator[tuple[str, str]]:
        """Attributes that come from the client; ours go before them."""
        return (pair for pair in phases.baggage if pair[0] not in self.type.keys)

    def holds(self, event: SpanEvent, last: bool) -> bool:
        """Whether it is the span of an event; of two phases that meet, a first token is in the one it ends."""
        if event[0] == event_names.FIRST_TOKEN:
            return self.type is PREFILL
        return self.start <= event[1] and (last or event[1] < self.end)


def _end_attributes(phases: Phases) -> Iterator[tuple[str, Any]]:
    """Attributes of the last span of a request."""
    if phases.drafted:
        yield keys.VLLM_SPEC_DECODE_DRAFTED_TOKENS, phases.drafted
        yield keys.VLLM_SPEC_DECODE_ACCEPTED_TOKENS, phases.accepted
    yield from phases.transfer


def _preemptions(request: Any, phases: Phases) -> int:
    counted: int | None = getattr(request, "num_preemptions", None)
    if counted is None:  # before vLLM 0.11.1
        return sum(event[0] == event_names.PREEMPTED for event in phases.events)
    return counted
