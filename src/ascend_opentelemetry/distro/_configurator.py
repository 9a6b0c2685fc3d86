"""The configurator: the SDK as its variables say, with our sink in the place of the OTLP batch processor."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.environment_variables import OTEL_PYTHON_ID_GENERATOR
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from ascend_opentelemetry._role import is_helper
from ascend_opentelemetry.distro import _declarative, _resource
from ascend_opentelemetry.distro._prometheus import choose_port
from ascend_opentelemetry.distro._quiet import quiet_exporters
from ascend_opentelemetry.recorder import getrandbits

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_logger = logging.getLogger(__name__)


class OwnIdGenerator(RandomIdGenerator):
    """Ids that do not come from the module ``random``: vLLM seeds that alike in every worker and at every start."""

    def generate_span_id(self) -> int:
        return getrandbits(64)

    def generate_trace_id(self) -> int:
        return getrandbits(128)


class AscendConfigurator(_OTelSDKConfigurator):
    """Leaves everything to the SDK but the way of spans to their exporters.

    Each exporter, made by the SDK from its variables, gets a sink behind the recorder: SDK spans and records reach it
    in the same batches. Where the SDK cannot do as its variables say, that is said once, and hooks work all the same.
    """

    def _configure(self, **kwargs: Any) -> None:
        if is_helper():
            return
        quiet_exporters()
        if _declarative.is_used():
            _declarative.configure(OwnIdGenerator)
            return
        from opentelemetry import trace
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

        from ascend_opentelemetry._runtime import runtime
        from ascend_opentelemetry.otlp import RecordSpanProcessor
        from ascend_opentelemetry.recorder import recorder

        exporters: list[SpanExporter] = []

        def processor(span_exporter: SpanExporter, *args: Any, **options: Any) -> SpanProcessor:  # noqa: ARG001
            exporters.append(span_exporter)
            if len(exporters) > 1:  # one processor feeds the queue that all sinks read
                return SpanProcessor()
            return RecordSpanProcessor(recorder.emit, recorder.flush, runtime.shutdown)

        _resource.choose_detectors()
        choose_port()
        if os.environ.get(OTEL_PYTHON_ID_GENERATOR, "random").strip() in ("", "random"):
            kwargs.setdefault("id_generator", OwnIdGenerator())
        try:
            super()._configure(export_span_processor=processor, resource_attributes=_resource.attributes(), **kwargs)
        except Exception as error:  # noqa: BLE001 - what a variable names may be missing or do anything
            _logger.error("the OpenTelemetry SDK cannot do as its variables say: %s", error)
        _resource.tell_child(_resource.update)
        runtime.measuring.own()
        provider = trace.get_tracer_provider()
        if exporters and isinstance(provider, TracerProvider) and not provider._disabled:
            try:
                _export(exporters, provider)
            except Exception:  # hooks and native files must work all the same
                _logger.exception("spans are not exported")


def _export(exporters: list[SpanExporter], provider: TracerProvider) -> None:
    """Put a sink for each exporter behind the recorder; ids, sampling, limits and scopes are the provider's."""
    from opentelemetry.sdk.resources import Resource

    from ascend_opentelemetry._provider import as_sampler, as_scope_switch, as_trace_ids
    from ascend_opentelemetry._runtime import runtime
    from ascend_opentelemetry.otlp import ForeignProcessors, OtlpSink

    scope_enabled = as_scope_switch(provider)
    sinks = [
        OtlpSink(exporter, Resource.get_empty(), limits=provider._span_limits, scope_enabled=scope_enabled)
        for exporter in exporters
    ]

    def set_resource(found: Mapping[str, Any] = {}) -> None:
        own = Resource({**found, "process.pid": os.getpid()})
        # in a forked child the provider, told first, has a new service.instance.id; its tracers have copies
        if hasattr(provider, "_update_resource"):  # not in SDK 1.41
            provider._update_resource(own)
        for sink in sinks:
            sink.set_resource(provider.resource.merge(own))

    set_resource()
    os.register_at_fork(after_in_child=set_resource)
    _resource.tell_child(set_resource)
    own_ids = isinstance(provider.id_generator, OwnIdGenerator)  # hooks make the same ones at less cost
    runtime.add_traces(
        [ForeignProcessors(provider, sinks, scope_enabled)],
        as_sampler(provider),
        scope_enabled=scope_enabled,
        new_trace_id=None if own_ids else as_trace_ids(provider),
        exporters=sinks,
    )
