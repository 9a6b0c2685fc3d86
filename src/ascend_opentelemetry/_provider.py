"""What the SDK's tracer provider decides for hooks: sampling of roots, scopes, trace ids."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanContext

from ascend_opentelemetry.recorder import RootSampler
from ascend_opentelemetry.version import __version__

_logger = logging.getLogger(__name__)


def as_sampler(provider: Any) -> RootSampler:
    """Ask the sampler of an SDK ``TracerProvider`` about roots; what it cannot decide is not traced."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

    root = Context()
    kinds = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER}
    warned = False

    def sampler(trace_id: int, name: str, kind: int, attributes: Any, parent: SpanContext | None) -> bool:
        nonlocal warned
        context = root if parent is None else set_span_in_context(NonRecordingSpan(parent), root)
        try:
            result = provider.sampler.should_sample(context, trace_id, name, kinds[kind], attributes, ())
            if result.attributes:
                attributes.update(result.attributes)
            return result.decision.is_sampled()
        except Exception as error:  # noqa: BLE001 - the program's class may do anything
            if not warned:
                warned = True
                _logger.warning(
                    "the sampler %s raised %s: %s; roots that it cannot decide about are not traced",
                    type(provider.sampler).__name__, type(error).__name__, error,
                )  # fmt: skip
            return False

    return sampler


def as_scope_switch(provider: Any) -> Callable[[str], bool]:
    """Ask the tracer configurator of an SDK ``TracerProvider``, once a scope, whether hooks with it give spans."""
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    @functools.cache
    def enabled(name: str) -> bool:
        return provider._apply_tracer_configurator(InstrumentationScope(name, __version__)).is_enabled

    return enabled


def as_trace_ids(provider: Any) -> Callable[[], int] | None:
    """What makes trace ids where the id generator of an SDK ``TracerProvider`` is not the SDK's own."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    generator = provider.id_generator
    if type(generator).generate_trace_id is RandomIdGenerator.generate_trace_id:
        return None
    return generator.generate_trace_id
