"""A request inside EngineCore: its queue, prefill and decode spans."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    KIND_INTERNAL,
    REMOTE,
    SAMPLED,
    STATUS_ERROR,
    RecordType,
    SpanEvent,
    SpanExtra,
    SpanLink,
    getrandbits,
    parse_traceparent,
    recorder,
)

REQUEST = "Request"

_KEYS = ("vllm.request.id",)
QUEUE = RecordType(REQUEST, "queue", _KEYS, native=False)
PREFILL = RecordType(
    REQUEST, "prefill", (*_KEYS, "gen_ai.usage.input_tokens", "vllm.request.cached_tokens"), native=False
)
DECODE = RecordType(REQUEST, "decode", (*_KEYS, "gen_ai.usage.output_tokens", "vllm.request.preemptions"), native=False)


class Phases:
    """Times of one traced request; wall clock at its arrival, monotonic differences after that."""

    __slots__ = (
        "decode_id", "decoding", "events", "first_step", "first_token", "last_step", "parent_id", "prefill_id",
        "queued", "scheduled", "state", "trace_id", "zero",
    )  # fmt: skip

    def __init__(self, trace_id: int, parent_id: int, state: str = "") -> None:
        self.trace_id = trace_id
        #: W3C ``tracestate``.
        self.state = state
        self.parent_id = parent_id
        self.queued = time_ns()
        self.zero = self.queued - monotonic_ns()
        self.scheduled = 0
        self.first_token = 0
        self.prefill_id = getrandbits(64)
        self.decode_id = getrandbits(64)
        self.first_step: SpanLink | None = None
        self.last_step: SpanLink | None = None
        #: A traced step links to the decode span, so that one is recorded.
        self.decoding = False
        self.events: list[SpanEvent] = []

    @property
    def link(self) -> SpanLink:
        """The span of the phase the request is in now, as the target of a step's link."""
        span_id, phase = (self.decode_id, "decode") if self.first_token else (self.prefill_id, "prefill")
        return self.trace_id, span_id, (("vllm.request.phase", phase),)

    def joined(self, trace_id: int, step_id: int) -> None:
        """A traced step has the request in its batch: the first prefill step and the last step are kept."""
        if self.first_step is None and not self.first_token:
            self.first_step = trace_id, step_id, (("vllm.step.position", "first"),)
        else:
            self.last_step = trace_id, step_id, (("vllm.step.position", "last"),)
            self.decoding = bool(self.first_token)


class PhaseTracker:
    """All traced requests of this EngineCore."""

    def __init__(self) -> None:
        self.requests: dict[str, Phases] = {}
        #: Those that ran but have no token yet: the only ones looked at after a step.
        self.prefilling: dict[str, Phases] = {}
        self._updated = 0

    def add(self, request: Any) -> None:
        """Take over a request as it enters the scheduler.

        Args:
            request: vLLM's ``Request``; its ``traceparent`` names the ``llm_request`` span.
        """
        headers: Mapping[str, str] | None = getattr(request, "trace_headers", None)
        parent = parse_traceparent(headers.get("traceparent")) if headers else None
        if parent is None:
            trace_id = recorder.new_trace_id()
            if recorder.sample(trace_id, "llm_request", KIND_INTERNAL, {}):
                self.requests[request.request_id] = Phases(trace_id, 0)
            return
        request.trace_headers = None  # else it travels back with every token
        if parent[2] & SAMPLED:
            state = headers.get("tracestate", "") if headers else ""
            self.requests[request.request_id] = Phases(parent[0], parent[1], state)

    def scheduled(self, request_id: str, at: int) -> bool:
        """A request runs for the first time, from monotonic clock ``at``; whether it is traced."""
        phases = self.requests.get(request_id)
        if phases is None:
            return False
        if not phases.scheduled:
            phases.scheduled = max(phases.zero + at, phases.queued)
            self.prefilling[request_id] = phases
        return True

    def event(self, request_id: str, name: str) -> None:
        """Note a preemption or resumption."""
        phases = self.requests.get(request_id)
        if phases is not None:
            phases.events.append((name, phases.zero + monotonic_ns(), ()))

    def step_done(self, requests: Mapping[str, Any]) -> None:
        """After ``update_from_output``: which requests have their first token now."""
        self._updated = now = monotonic_ns()
        for request_id, phases in list(self.prefilling.items()):
            request = requests.get(request_id)
            if request is not None and request.num_output_tokens:
                phases.first_token = phases.zero + now
                del self.prefilling[request_id]

    def finish(self, request: Any, error: str | None = None, aborted: bool = False) -> None:
        """End the spans of a request.

        Args:
            request: vLLM's ``Request``.
            error: description of the error status; None for a normal end (an abort may be a stop string).
            aborted: the API server asked for the end; for the client it was over when its last token was out.
        """
        phases = self.requests.pop(request.request_id, None)
        if phases is None:
            return
        end = phases.zero + (self._updated if aborted else monotonic_ns())
        end = max(end, phases.first_token, phases.scheduled, phases.queued)
        if self.prefilling.pop(request.request_id, None) and request.num_output_tokens:
            phases.first_token = end
        self._emit(phases, request, end, STATUS_ERROR if error else 0, error or "")

    def fail_all(self, requests: Mapping[str, Any], error: str) -> None:
        """End the spans of every request that is still open: the engine is going down."""
        for request_id in list(self.requests):
            request = requests.get(request_id)
            if request is None:
                self.requests.pop(request_id)
                self.prefilling.pop(request_id, None)
            else:
                self.finish(request, error)

    def _emit(self, phases: Phases, request: Any, end: int, status: int, message: str) -> None:
        request_id: str = request.request_id
        scheduled, first = phases.scheduled, phases.first_token
        thread = get_ident()
        first_links = [phases.first_step] if phases.first_step is not None else []
        last_links = [phases.last_step] if phases.last_step is not None else []
        has_decode = bool(first) and (end > first or phases.decoding)

        def extra(start: int, stop: int, last: bool, step_links: list[SpanLink]) -> SpanExtra:
            events = [event for event in phases.events if start <= event[1] and (last or event[1] < stop)]
            return SpanExtra(
                status if last else 0, message if last else "", events, step_links, trace_state=phases.state
            )

        def emit(record_type: RecordType, span_id: int, start: int, stop: int, values: Any, rest: SpanExtra) -> None:
            ids = (phases.trace_id, span_id, phases.parent_id, SAMPLED | REMOTE if phases.parent_id else SAMPLED)
            recorder.emit((record_type, start, stop, thread, ids, values, rest))

        stop = scheduled or end
        emit(QUEUE, getrandbits(64), phases.queued, stop, (request_id,), extra(phases.queued, stop, not scheduled, []))
        if scheduled:
            stop = first or end
            cached = max(getattr(request, "num_cached_tokens", 0), 0)
            emit(
                PREFILL, phases.prefill_id, scheduled, stop, (request_id, request.num_prompt_tokens, cached),
                extra(scheduled, stop, not has_decode, first_links if phases.decoding else first_links + last_links),
            )  # fmt: skip
        if has_decode:
            emit(
                DECODE, phases.decode_id, first, end,
                (request_id, request.num_output_tokens, getattr(request, "num_preemptions", 0)),
                extra(first, end, True, last_links if phases.decoding else []),
            )  # fmt: skip
