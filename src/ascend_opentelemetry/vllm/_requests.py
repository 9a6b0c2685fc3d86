"""API server (or the process of ``LLM``): a request from its arrival to its last token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    SAMPLED,
    STATUS_ERROR,
    NativeRow,
    Record,
    RecordType,
    SpanEvent,
    SpanExtra,
    SpanIds,
    format_traceparent,
    recorder,
)
from ascend_opentelemetry.vllm._rows import ENGINE, encode, event_row
from ascend_opentelemetry.vllm._serving import current_scope, failure_texts, request_context, request_type
from ascend_opentelemetry.vllm._tracing import init_tracer


def _rid_rows(record: Record) -> Iterable[NativeRow]:
    yield event_row(record[1], record[0].name, record[0].domain, {"rid": record[5]})


def _tokenize_rows(record: Record) -> Iterable[NativeRow]:
    start, end, rid = record[1], record[2], record[5]
    yield start, end - start, record[0].name, record[0].domain, encode({"type": 2, "rid": rid})


def _response_rows(record: Record) -> Iterable[NativeRow]:
    rid, prompt_tokens, output_tokens = record[5]
    args = {"rid": rid, "recvTokenSize=": prompt_tokens, "replyTokenSize=": output_tokens}
    yield event_row(record[1], record[0].name, record[0].domain, args)


HTTP_REQUEST = RecordType(ENGINE, "httpReq", native=False, traces=False, rows=_rid_rows)
TOKENIZE = RecordType(ENGINE, "tokenize", native=False, traces=False, rows=_tokenize_rows)
DETOKENIZE = RecordType(ENGINE, "detokenize", native=False, traces=False, rows=_rid_rows)
HTTP_RESPONSE = RecordType(ENGINE, "httpRes", native=False, traces=False, rows=_response_rows)

#: Finish reasons that are failures -> description of the span's status.
_FAILURES = {"abort": "aborted before the last token", "error": "the engine reported an error"}


class RequestTrace:
    """An ``llm_request``: one engine request, or the ``n`` of a request with ``n > 1``."""

    __slots__ = ("arrival", "attributes", "events", "finish_reasons", "first_token", "ids", "message", "missing",
                 "open", "output_tokens", "parent_id", "prompt_tokens", "state", "stats", "zero")  # fmt: skip

    def __init__(self, arrival: int, prompt_tokens: int, attributes: dict[str, Any], parent: Any) -> None:
        self.arrival = arrival
        #: Wall minus monotonic clock: when the wall clock is set meanwhile, the span keeps its length.
        self.zero = max(time_ns(), arrival) - monotonic_ns()
        self.prompt_tokens = prompt_tokens
        self.attributes = attributes
        self.parent_id: str | None = parent.request_id if parent is not None else None
        self.ids: SpanIds | None = None
        #: W3C ``tracestate`` of the client, "" for none.
        self.state = ""
        #: Children that were not added yet, and those without an end.
        self.missing: int = parent.sampling_params.n if parent is not None else 1
        self.open = 0
        #: Why it failed.
        self.message: str | None = None
        self.first_token = 0
        self.output_tokens = 0
        self.finish_reasons: dict[int, str] = {}
        self.events: list[SpanEvent] = []
        self.stats: Any = None


class Child:
    """One engine request of an ``llm_request``."""

    __slots__ = ("index", "request", "rid")

    def __init__(self, request: RequestTrace, rid: str, index: int) -> None:
        self.request = request
        self.rid = rid
        self.index = index


class RequestTracker:
    """All open requests of this process."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        #: Children that wait for their first token: the only ones looked at after a step.
        self.waiting: set[str] = set()
        self._parents: dict[str | None, RequestTrace] = {}

    @property
    def on(self) -> bool:
        """Whether a request is open: its end is noted also when recording has been switched off meanwhile."""
        return bool(self.children)

    def add(self, request: Any, parent: Any, index: int, headers: Mapping[str, str] | None) -> None:
        """Take over vLLM's ``EngineCoreRequest`` before it is sent; gives it the ``traceparent`` of its span."""
        # before vLLM 0.14 there is one id, which the engine's ids of n > 1 extend
        external: str = getattr(request, "external_req_id", None) or (parent or request).request_id
        trace = self._parents.get(parent.request_id) if parent is not None else None
        if trace is None:
            trace = self._open(request, parent, external, headers)
        trace.missing -= 1
        trace.open += 1
        rid = external if parent is None else f"{index}_{external}"
        if parent is not None and external.isdigit():
            rid = request.request_id  # of ``LLM``: the analyzer would read 1_2 as the number 12
        self.children[request.request_id] = Child(trace, rid, index)
        self.waiting.add(request.request_id)
        if trace.ids is not None:
            # a new dict: the children of one request share theirs
            traceparent = format_traceparent(trace.ids[0], trace.ids[1], trace.ids[3])
            request.trace_headers = {**(request.trace_headers or {}), "traceparent": traceparent}
            if trace.state:
                request.trace_headers["tracestate"] = trace.state
        now, thread = trace.zero + monotonic_ns(), get_ident()
        if HTTP_REQUEST.native_on:
            recorder.emit((HTTP_REQUEST, trace.arrival, trace.arrival, thread, None, rid, None))
        if TOKENIZE.native_on:
            recorder.emit((TOKENIZE, trace.arrival, now, thread, None, rid, None))

    def _open(self, request: Any, parent: Any, external: str, headers: Mapping[str, str] | None) -> RequestTrace:
        scope = current_scope()
        params = parent.sampling_params if parent is not None else request.sampling_params
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": scope.operation if scope else "text_completion" if params else "embeddings",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.id": external,
        }
        if scope is not None:
            scope.reported = True
            if scope.model is not None:
                attributes["gen_ai.request.model"] = scope.model
        if params is not None:
            attributes["gen_ai.request.temperature"] = float(params.temperature)
            attributes["gen_ai.request.top_p"] = float(params.top_p)
            if params.max_tokens is not None:
                attributes["gen_ai.request.max_tokens"] = params.max_tokens
            attributes["gen_ai.request.choice.count"] = params.n
        trace = RequestTrace(int(request.arrival_time * 1e9), len(request.prompt_token_ids or ()), attributes, parent)
        if recorder.traces_on:
            # vLLM hands on the W3C headers alone
            headers = (scope.headers if scope is not None else None) or headers or request.trace_headers
            trace.ids, trace.state = request_context(headers, attributes)
        if parent is not None:
            self._parents[trace.parent_id] = trace
        return trace

    def first_tokens(self, outputs: Iterable[Any]) -> None:
        """Before ``process_outputs``: note requests whose first token is among these ``EngineCoreOutput``."""
        now, mono = time_ns(), monotonic_ns()
        for output in outputs:
            if output.request_id in self.waiting and output.new_token_ids:
                self.waiting.discard(output.request_id)
                child = self.children[output.request_id]
                if not child.request.first_token:
                    child.request.first_token = child.request.zero + mono
                if DETOKENIZE.native_on:
                    recorder.emit((DETOKENIZE, now, now, get_ident(), None, child.rid, None))

    def finish(self, state: Any, reason: Any) -> None:
        """A child has its last token (``RequestState``, ``FinishReason``)."""
        child = self.children.pop(state.request_id, None)
        if child is None:
            return
        self.waiting.discard(state.request_id)
        tokens = 0 if state.detokenizer is None else len(state.detokenizer.output_token_ids)
        child.request.prompt_tokens = state.prompt_len  # embeddings and streamed inputs are counted too
        if HTTP_RESPONSE.native_on:
            now = time_ns()
            values = (child.rid, child.request.prompt_tokens, tokens)
            recorder.emit((HTTP_RESPONSE, now, now, get_ident(), None, values, None))
        child.request.output_tokens += tokens
        child.request.stats = state.stats
        reason = str(reason)
        self._close(child, reason, _FAILURES.get(reason), None)

    def abort(self, request_ids: Iterable[str]) -> None:
        """The client went away, or vLLM gave up (internal ids)."""
        for request_id in request_ids:
            child = self.children.pop(request_id, None)
            if child is not None:
                self.waiting.discard(request_id)
                self._close(child, "abort", _FAILURES["abort"], None)

    def fail(self, error: BaseException, request_ids: Iterable[str] | None = None) -> None:
        """Requests failed: those given, or every open one because the engine died."""
        for request_id in list(self.children if request_ids is None else request_ids):
            child = self.children.pop(request_id, None)
            if child is not None:
                self.waiting.discard(request_id)
                message, _ = failure_texts(error)
                self._close(child, "error", message, error)
        recorder.wake(export=True)

    def _close(self, child: Child, reason: str, message: str | None, error: BaseException | None) -> None:
        trace = child.request
        trace.finish_reasons[child.index] = reason
        if message is not None and trace.message is None:
            trace.message = message
            trace.attributes["error.type"] = type(error).__qualname__ if error is not None else reason
        if error is not None and not trace.events:
            trace.events.append(("exception", time_ns(), failure_texts(error)[1]))
        trace.open -= 1
        # after a failure vLLM adds no further children
        if trace.open or (trace.missing and trace.message is None):
            return
        self._parents.pop(trace.parent_id, None)
        if trace.ids is not None and trace.ids[3] & SAMPLED:
            _emit(trace, trace.ids)
        if not self.children:
            recorder.wake(export=True)


def _emit(trace: RequestTrace, ids: SpanIds) -> None:
    now = trace.zero + monotonic_ns()
    attributes = trace.attributes
    attributes["gen_ai.usage.input_tokens"] = trace.prompt_tokens
    attributes["gen_ai.usage.output_tokens"] = trace.output_tokens
    if init_tracer.asked:  # dashboards on vLLM's own span look for these
        attributes["gen_ai.usage.prompt_tokens"] = trace.prompt_tokens
        attributes["gen_ai.usage.completion_tokens"] = trace.output_tokens
        if "gen_ai.request.choice.count" in attributes:
            attributes["gen_ai.request.n"] = attributes["gen_ai.request.choice.count"]
    attributes["gen_ai.response.finish_reasons"] = [reason for _, reason in sorted(trace.finish_reasons.items())]
    attributes["gen_ai.latency.e2e"] = (now - trace.arrival) / 1e9
    if trace.first_token:
        attributes["gen_ai.latency.time_to_first_token"] = (trace.first_token - trace.arrival) / 1e9
        trace.events.append(("first token", trace.first_token, ()))
    stats = trace.stats
    if stats is not None and stats.first_token_ts and len(trace.finish_reasons) == 1:
        attributes["gen_ai.latency.time_in_queue"] = stats.scheduled_ts - stats.queued_ts
        attributes["gen_ai.latency.time_in_model_prefill"] = stats.first_token_ts - stats.scheduled_ts
        attributes["gen_ai.latency.time_in_model_decode"] = stats.last_token_ts - stats.first_token_ts
        attributes["gen_ai.latency.time_in_model_inference"] = stats.last_token_ts - stats.scheduled_ts
    extra = SpanExtra(
        STATUS_ERROR if trace.message else 0, trace.message or "", tuple(trace.events), trace_state=trace.state
    )
    record_type = request_type(ids)
    recorder.emit((record_type, trace.arrival, now, get_ident(), ids, tuple(attributes.items()), extra))


tracker = RequestTracker()
