"""API server (or the process of ``LLM``): a request from its arrival to its last token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import get_ident
from time import monotonic_ns, time_ns
from typing import Any

from ascend_opentelemetry.recorder import (
    SAMPLED,
    STATUS_ERROR,
    NativeRow,
    Record,
    RecordType,
    SpanExtra,
    SpanIds,
    format_traceparent,
    recorder,
)
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv import events as event_names
from ascend_opentelemetry.vllm._carrier import carried_headers, put_headers
from ascend_opentelemetry.vllm._failures import failure_texts
from ascend_opentelemetry.vllm._kv_transfer import take_link, transfer_attributes, transfer_params
from ascend_opentelemetry.vllm._metrics import CHOICE_METRICS, REQUEST_METRICS, choice_ended, request_ended
from ascend_opentelemetry.vllm._request_attributes import MAX_TEXT, pooling_attributes, sampling_attributes
from ascend_opentelemetry.vllm._request_trace import Child, RequestTrace, end_attributes
from ascend_opentelemetry.vllm._rows import ENGINE, encode, event_row
from ascend_opentelemetry.vllm._scope import current_scope, request_context, request_type
from ascend_opentelemetry.vllm._step_ids import id_list


def _rid_rows(record: Record) -> Iterable[NativeRow]:
    yield event_row(record[1], record[0].name, record[0].domain, {"rid": record[5]})


def _detokenize_rows(record: Record) -> Iterable[NativeRow]:
    rid: str | list[str] = record[5]  # of a request's first token, or of all requests of a step
    rid_json = encode(rid) if isinstance(rid, str) else id_list(rid)
    yield record[1], 0, record[0].name, record[0].domain, f'{{"rid": {rid_json}, "type": 0}}'


def _tokenize_rows(record: Record) -> Iterable[NativeRow]:
    start, end, rid = record[1], record[2], record[5]
    yield start, end - start, record[0].name, record[0].domain, encode({"type": 2, "rid": rid})


def _response_rows(record: Record) -> Iterable[NativeRow]:
    rid, prompt_tokens, output_tokens = record[5]
    args = {"rid": rid, "recvTokenSize=": prompt_tokens, "replyTokenSize=": output_tokens}
    yield event_row(record[1], record[0].name, record[0].domain, args)


HTTP_REQUEST = RecordType(ENGINE, "httpReq", native=False, traces=False, rows=_rid_rows)
TOKENIZE = RecordType(ENGINE, "tokenize", native=False, traces=False, rows=_tokenize_rows)
DETOKENIZE = RecordType(ENGINE, "detokenize", native=False, traces=False, rows=_detokenize_rows)
HTTP_RESPONSE = RecordType(ENGINE, "httpRes", native=False, traces=False, rows=_response_rows)

#: Finish reasons that are failures -> description of the span's status.
_FAILURES = {"abort": "aborted before the last token", "error": "the engine reported an error"}


class RequestTracker:
    """All open requests of this process."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        #: Children that wait for their first token, and those of sampled requests: the only ones looked at after a step.
        self.waiting: set[str] = set()
        self.sampled: dict[str, Child] = {}
        self._parents: dict[str | None, RequestTrace] = {}

    @property
    def on(self) -> bool:
        """Whether a request is open: its end is noted also when recording has been switched off meanwhile."""
        return bool(self.children)

    def add(
        self, request: Any, parent: Any, index: int, headers: Mapping[str, str] | None, model: str | None = None
    ) -> None:
        """Take over vLLM's ``EngineCoreRequest`` before it is sent; gives it the ``traceparent`` of its span.

        Args:
            request: vLLM's.
            parent: ``ParentRequest`` of a request with ``n > 1``.
            index: among the choices of that.
            headers: of the client, as far as vLLM hands them on.
            model: name under which the engine serves its model.
        """
        # before vLLM 0.14 there is one id, which the engine's ids of n > 1 extend
        external: str = getattr(request, "external_req_id", None) or (parent or request).request_id
        trace = self._parents.get(parent.request_id) if parent is not None else None
        if trace is None:
            trace = self._open(request, parent, external, headers, model)
        trace.missing -= 1
        trace.open += 1
        rid = external if parent is None else f"{index}_{external}"
        if parent is not None and external.isdigit():
            rid = request.request_id  # of ``LLM``: the analyzer would read 1_2 as the number 12
        self.children[request.request_id] = child = Child(trace, rid, index)
        self.waiting.add(request.request_id)
        if trace.ids is not None:
            if trace.ids[3] & SAMPLED:
                self.sampled[request.request_id] = child
            context = {"traceparent": format_traceparent(trace.ids[0], trace.ids[1], trace.ids[3])}
            if trace.state:
                context["tracestate"] = trace.state
            if trace.baggage:
                context["baggage"] = trace.baggage
            put_headers(request, context)
        now, thread = trace.zero + monotonic_ns(), get_ident()
        if HTTP_REQUEST.native_on:
            recorder.emit((HTTP_REQUEST, trace.arrival, trace.arrival, thread, None, rid, None))
        if TOKENIZE.native_on:
            recorder.emit((TOKENIZE, trace.arrival, now, thread, None, rid, None))

    def _open(
        self, request: Any, parent: Any, external: str, headers: Mapping[str, str] | None, model: str | None
    ) -> RequestTrace:
        scope = current_scope()
        params = parent.sampling_params if parent is not None else request.sampling_params
        attributes: dict[str, Any] = {
            keys.GEN_AI_OPERATION_NAME: scope.operation if scope else "text_completion" if params else "embeddings",
            keys.GEN_AI_PROVIDER_NAME: "vllm",
            keys.GEN_AI_REQUEST_ID: external[:MAX_TEXT],
        }
        named = model
        if scope is not None:
            scope.reported = True
            named = scope.model or model
            attributes.update(scope.attributes)
        if named is not None:
            attributes[keys.GEN_AI_REQUEST_MODEL] = named
        lora = getattr(request, "lora_request", None)
        if lora is not None:
            attributes[keys.VLLM_LORA_NAME] = model = lora.lora_name
        if model is not None:
            attributes[keys.GEN_AI_RESPONSE_MODEL] = model
        attributes.update(sampling_attributes(params) if params else pooling_attributes(request.pooling_params))
        transfer = transfer_params(request.sampling_params)
        attributes.update(transfer_attributes(transfer))
        trace = RequestTrace(int(request.arrival_time * 1e9), len(request.prompt_token_ids or ()), attributes, parent)
        trace.pooling = not params
        link = take_link(transfer)
        if link is not None:
            trace.links.append(link)
        if recorder.traces_on:
            # vLLM hands on the W3C headers alone
            headers = (scope.headers if scope is not None else None) or headers or carried_headers(request)
            trace.ids, trace.state, trace.baggage = request_context(headers, attributes)
        if parent is not None:
            self._parents[trace.parent_id] = trace
        return trace

    def tokens(self, outputs: Sequence[Any]) -> None:
        """Before ``process_outputs``: note when the tokens of requests come (``EngineCoreOutput``)."""
        now = monotonic_ns()
        if self.waiting:
            self._first_tokens(outputs, now)
        sampled = self.sampled
        for output in outputs if sampled else ():
            child = sampled.get(output.request_id)
            if child is not None and (tokens := output.new_token_ids):
                gap = now - child.last
                if gap > child.longest:
                    child.longest = gap
                child.last = now
                child.tokens += len(tokens)

    def _first_tokens(self, outputs: Sequence[Any], now: int) -> None:
        for output in outputs:
            if output.request_id in self.waiting and output.new_token_ids:
                self.waiting.discard(output.request_id)
                child = self.children[output.request_id]
                child.first = child.last = now
                trace = child.request
                if not trace.first_token:
                    trace.first_token = trace.zero + now
                if DETOKENIZE.native_on:
                    wall = time_ns()
                    recorder.emit((DETOKENIZE, wall, wall, get_ident(), None, child.rid, None))

    def finish(self, state: Any, reason: Any) -> None:
        """A child has its last token (``RequestState``, ``FinishReason``)."""
        child = self._pop(state.request_id)
        if child is None:
            return
        tokens = 0 if state.detokenizer is None else len(state.detokenizer.output_token_ids)
        child.request.took(state)
        if HTTP_RESPONSE.native_on:
            now = time_ns()
            values = (child.rid, child.request.prompt_tokens, tokens)
            recorder.emit((HTTP_RESPONSE, now, now, get_ident(), None, values, None))
        child.request.output_tokens += tokens
        if CHOICE_METRICS.on:
            choice_ended(state.stats, tokens, child.request.ids, child.request.attributes)
        reason = str(reason)
        self._close(child, reason, _FAILURES.get(reason))

    def abort(self, request_ids: Iterable[str]) -> None:
        """The client went away, or vLLM gave up (internal ids)."""
        for request_id in request_ids:
            child = self._pop(request_id)
            if child is not None:
                child.request.output_tokens += child.tokens
                self._close(child, "abort", _FAILURES["abort"])

    def fail(self, error: BaseException, request_ids: Iterable[str] | None = None) -> None:
        """Requests failed: those given, or every open one because the engine died."""
        failed = [self._pop(request_id) for request_id in list(self.children if request_ids is None else request_ids)]
        # once for all of them: the server answers nobody while tracebacks are written
        message, details = failure_texts(error) if any(failed) else ("", ())
        for child in failed:
            if child is not None:
                child.request.output_tokens += child.tokens
                self._close(child, "error", message, type(error).__qualname__, details)
        recorder.wake(export=True)

    def added_all(self, request_ids: Iterable[str]) -> None:
        """No further choices come for the requests of these children: the call that adds them was cancelled."""
        for request_id in request_ids:
            if request_id in self.children:
                self.children[request_id].request.missing = 0

    def _pop(self, request_id: str) -> Child | None:
        self.waiting.discard(request_id)
        self.sampled.pop(request_id, None)
        return self.children.pop(request_id, None)

    def _close(
        self,
        child: Child,
        reason: str,
        message: str | None,
        error_type: str = "",
        details: Sequence[tuple[str, Any]] = (),
    ) -> None:
        trace = child.request
        trace.ended(child)
        trace.finish_reasons[child.index] = reason
        if message is not None and trace.message is None:
            trace.message = message
            trace.attributes[keys.ERROR_TYPE] = error_type or reason
        if details and not trace.events:
            trace.events.append((event_names.EXCEPTION, time_ns(), details))
        trace.open -= 1
        # after a failure vLLM adds no further children
        if trace.open or (trace.missing and trace.message is None):
            return
        self._parents.pop(trace.parent_id, None)
        if REQUEST_METRICS.on:
            now = trace.zero + monotonic_ns()
            request_ended(trace.arrival, now, trace.ids, trace.attributes, first_token=trace.first_token)
        if trace.ids is not None and trace.ids[3] & SAMPLED:
            _emit(trace, trace.ids)
        if not self.children:
            recorder.wake(export=True)


def _emit(trace: RequestTrace, ids: SpanIds) -> None:
    now = trace.zero + monotonic_ns()
    attributes = trace.attributes
    attributes.update(end_attributes(trace, now))
    if trace.first_token:
        trace.events.append((event_names.FIRST_TOKEN, trace.first_token, ()))
    extra = SpanExtra(
        STATUS_ERROR if trace.message else 0, trace.message or "", tuple(trace.events), tuple(trace.links),
        trace_state=trace.state,
    )  # fmt: skip
    record_type = request_type(ids)
    recorder.emit((record_type, trace.arrival, now, get_ident(), ids, tuple(attributes.items()), extra))


tracker = RequestTracker()
