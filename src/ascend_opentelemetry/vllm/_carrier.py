"""The trace context of a request on its way from the API server to EngineCore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Key in ``SamplingParams.extra_args``, which travels where a request has no ``trace_headers``: before vLLM 0.10.2.
_EXTRA = "ascend_otel_trace_headers"


def put_headers(request: Any, headers: Mapping[str, str]) -> None:
    """Add headers to those that vLLM's ``EngineCoreRequest`` carries, in a new dict: children may share theirs."""
    if hasattr(request, "trace_headers"):
        request.trace_headers = {**(request.trace_headers or {}), **headers}
    elif request.sampling_params is not None:
        params = request.sampling_params
        params.extra_args = {**(params.extra_args or {}), _EXTRA: dict(headers)}


def carried_headers(request: Any) -> Mapping[str, str] | None:
    """The headers that an ``EngineCoreRequest`` or a ``Request`` of EngineCore came with."""
    if hasattr(request, "trace_headers"):
        return request.trace_headers
    params = getattr(request, "sampling_params", None)
    return (getattr(params, "extra_args", None) or {}).get(_EXTRA)


def drop_headers(request: Any) -> None:
    """Have the headers not travel back with every token; in ``extra_args`` they do not."""
    if hasattr(request, "trace_headers"):
        request.trace_headers = None
