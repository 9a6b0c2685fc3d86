"""Prefill and decode on two instances: what travels in vLLM's ``kv_transfer_params``.

The prefill instance answers with parameters that name it and the request there; whoever sits in front of both hands
them to the decode instance. The context of the prefill's ``llm_request`` travels with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ascend_opentelemetry.recorder import SAMPLED, SpanLink, format_traceparent, parse_traceparent
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.vllm._request_attributes import MAX_INT, MAX_TEXT

#: Parameters that are attributes, with their types; connectors add block lists, addresses of stores and the like.
_SHOWN: Mapping[str, tuple[str, type]] = {
    "do_remote_prefill": (keys.VLLM_KV_TRANSFER_DO_REMOTE_PREFILL, bool),
    "do_remote_decode": (keys.VLLM_KV_TRANSFER_DO_REMOTE_DECODE, bool),
    "remote_engine_id": (keys.VLLM_KV_TRANSFER_REMOTE_ENGINE_ID, str),
    "remote_request_id": (keys.VLLM_KV_TRANSFER_REMOTE_REQUEST_ID, str),
    "remote_host": (keys.VLLM_KV_TRANSFER_REMOTE_HOST, str),
    "remote_port": (keys.VLLM_KV_TRANSFER_REMOTE_PORT, int),
}
_TRACEPARENT = "traceparent"


def transfer_params(params: Any) -> dict[str, Any] | None:
    """``kv_transfer_params`` of a ``SamplingParams``; None for a request that is on one instance alone."""
    found = (getattr(params, "extra_args", None) or {}).get("kv_transfer_params")
    return found if isinstance(found, dict) else None


def transfer_attributes(params: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of ``kv_transfer_params`` (a dict, or None): the role of the instance, and who the other one is."""
    if not isinstance(params, Mapping):
        return
    for name, (key, kind) in _SHOWN.items():
        value = params.get(name)
        if type(value) is kind and not (isinstance(value, int) and abs(value) > MAX_INT):
            yield key, value[:MAX_TEXT] if isinstance(value, str) else value


def send_context(params: Any, trace_id: int, span_id: int) -> None:
    """Give the decode instance the context of a sampled request: a key more in the answer's ``kv_transfer_params``."""
    if isinstance(params, dict) and params.get("do_remote_prefill"):
        params[_TRACEPARENT] = format_traceparent(trace_id, span_id, SAMPLED)


def take_link(params: dict[str, Any] | None) -> SpanLink | None:
    """Take out what ``send_context`` put in: a link to the prefill's request, if that one is recorded."""
    context = params.pop(_TRACEPARENT, None) if params else None
    ids = parse_traceparent(context) if isinstance(context, str) else None
    if ids is None or not ids[2] & SAMPLED:
        return None
    return ids[0], ids[1], ((keys.VLLM_LINK_KIND, "remote_prefill"),)
