"""The traced requests of EngineCore, from the scheduler's queue to their end."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from ascend_opentelemetry.recorder import KIND_INTERNAL, SAMPLED, parse_traceparent, recorder
from ascend_opentelemetry.semconv import events as event_names
from ascend_opentelemetry.semconv import spans as span_names
from ascend_opentelemetry.vllm._baggage import parse_baggage
from ascend_opentelemetry.vllm._carrier import carried_headers, drop_headers
from ascend_opentelemetry.vllm._kv_transfer import send_context, transfer_attributes
from ascend_opentelemetry.vllm._phase_spans import Phases, emit_phases


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
        headers = carried_headers(request)
        parent = parse_traceparent(headers.get("traceparent")) if headers else None
        if parent is None:
            trace_id = recorder.new_trace_id()
            if recorder.sample(trace_id, span_names.VLLM_LLM_REQUEST, KIND_INTERNAL, {}):
                self.requests[request.request_id] = Phases(trace_id, 0)
            return
        drop_headers(request)
        if parent[2] & SAMPLED:
            given = headers or {}
            self.requests[request.request_id] = Phases(
                parent[0], parent[1], given.get("tracestate", ""), parse_baggage(given.get("baggage"))
            )

    def scheduled(self, request_id: str, at: int, prompt_tokens: int, cached: int) -> bool:
        """A request runs for the first time.

        Args:
            request_id: of the engine.
            at: monotonic clock.
            prompt_tokens: of the request.
            cached: those of them that need not be computed.

        Returns:
            Whether it is traced.
        """
        phases = self.requests.get(request_id)
        if phases is None:
            return False
        if not phases.scheduled:
            phases.scheduled = max(phases.zero + at, phases.queued)
            phases.cached, phases.left = cached, prompt_tokens - cached
            self.prefilling[request_id] = phases
        return True

    def chunks(self, scheduled: Mapping[str, int], at: int) -> None:
        """Note the parts of prompts that a step computes: tokens by request, from monotonic clock ``at``."""
        for request_id, phases in self.prefilling.items():
            tokens = scheduled.get(request_id)
            if tokens and phases.left > 0:  # else a step scheduled before the first token was known
                phases.chunk(at, tokens)

    def preempted(self, request: Any) -> None:
        """Note a preemption: what was computed of the prompt is lost."""
        self.event(request.request_id, event_names.PREEMPTED)
        phases = self.prefilling.get(request.request_id)
        if phases is not None:
            phases.left = request.num_prompt_tokens

    def resumed(self, request_id: str, computed: int) -> None:
        """Note that a preempted request runs again; ``computed``: its tokens that the prefix cache still had."""
        self.event(request_id, event_names.RESUMED)
        phases = self.prefilling.get(request_id)
        if phases is not None:
            phases.left -= computed

    def event(self, request_id: str, name: str) -> None:
        """Note a preemption or resumption."""
        phases = self.requests.get(request_id)
        if phases is not None:
            phases.events.append((name, phases.zero + monotonic_ns(), ()))

    def speculated(self, request_id: str, drafted: int, accepted: int) -> None:
        """Count the tokens that a step has verified for a request."""
        phases = self.requests.get(request_id)
        if phases is not None:
            phases.drafted += drafted
            phases.accepted += accepted

    def step_done(self, requests: Mapping[str, Any]) -> None:
        """After ``update_from_output``: which requests have their first token now."""
        self._updated = now = monotonic_ns()
        for request_id, phases in list(self.prefilling.items()):
            request = requests.get(request_id)
            if request is not None and request.num_output_tokens:
                phases.first_token = phases.zero + now
                del self.prefilling[request_id]

    def finish(self, request: Any, error: str | None = None, aborted: bool = False, transfer: Any = None) -> None:
        """End the spans of a request.

        Args:
            request: vLLM's ``Request``.
            error: description of the error status; None for a normal end (an abort may be a stop string).
            aborted: the API server asked for the end; for the client it was over when its last token was out.
            transfer: ``kv_transfer_params`` of the answer; gets the context of the request.
        """
        phases = self.requests.pop(request.request_id, None)
        if phases is None:
            return
        phases.transfer = tuple(transfer_attributes(transfer))
        send_context(transfer, phases.trace_id, phases.parent_id or phases.prefill_id)
        end = phases.zero + (self._updated if aborted else monotonic_ns())
        end = max(end, phases.first_token, phases.scheduled, phases.queued)
        if self.prefilling.pop(request.request_id, None) and request.num_output_tokens:
            phases.first_token = end
        emit_phases(phases, request, end, error)

    def fail_all(self, requests: Mapping[str, Any], error: str) -> None:
        """End the spans of every request that is still open: the engine is going down."""
        for request_id in list(self.requests):
            request = requests.get(request_id)
            if request is None:
                self.requests.pop(request_id)
                self.prefilling.pop(request_id, None)
            else:
                self.finish(request, error)
