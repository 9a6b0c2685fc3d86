"""Baggage of clients that becomes attributes: of the request's spans in the API server and in EngineCore."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_BAGGAGE_KEYS

_propagator = W3CBaggagePropagator()


@functools.cache
def _keys() -> tuple[str, ...]:
    names = os.environ.get(OTEL_PYTHON_VLLM_BAGGAGE_KEYS, "").split(",")
    return tuple(name for item in names if (name := item.strip()))


def allowed_baggage(context: Context) -> dict[str, str]:
    """Entries of the baggage in ``context`` that ``OTEL_PYTHON_VLLM_BAGGAGE_KEYS`` names."""
    found = ((key, baggage.get_baggage(key, context)) for key in _keys())
    return {key: str(value) for key, value in found if value is not None}


def format_baggage(entries: Mapping[str, str]) -> str:
    """The W3C ``baggage`` header of entries; "" for none."""
    if not entries:
        return ""
    context = Context()
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return carrier.get("baggage", "")


def parse_baggage(header: str | None) -> tuple[tuple[str, str], ...]:
    """The entries of a header that ``format_baggage`` made."""
    if not header:
        return ()
    context = _propagator.extract({"baggage": header}, Context())
    return tuple((key, str(value)) for key, value in baggage.get_all(context).items())
