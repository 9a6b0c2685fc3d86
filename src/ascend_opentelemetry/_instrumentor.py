"""The OTel instrumentor of vLLM."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from ascend_opentelemetry import _symbol_hooks
from ascend_opentelemetry._provider import as_sampler, as_scope_switch, as_trace_ids
from ascend_opentelemetry._provider_watch import ProviderWatch
from ascend_opentelemetry._role import is_helper
from ascend_opentelemetry._runtime import runtime
from ascend_opentelemetry.hooks import Installer, switched_off
from ascend_opentelemetry.recorder import recorder

_logger = logging.getLogger(__name__)


class VLLMInstrumentor(BaseInstrumentor):
    """Hooks vLLM in this process, without importing it.

    ``VLLMInstrumentor().instrument()`` in code; ``opentelemetry-instrument`` does it by itself. Options:
    ``symbols`` (path of a symbols file), ``tracer_provider`` and ``meter_provider`` (the global ones are the default).
    ``logger_provider`` is accepted; nothing is logged through it.
    """

    _installer: Installer | None = None
    _bridged = False

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()  # each symbol has version bounds of its own

    def _instrument(self, **kwargs: Any) -> None:
        if is_helper():  # another distribution instruments every process
            return
        symbols: str | os.PathLike[str] | None = kwargs.get("symbols")
        try:
            runtime.set_meter_provider(kwargs.get("meter_provider"))  # first: sources start with the pipeline
            if not self._bridge(kwargs.get("tracer_provider")) and not runtime.has_traces:
                # a program may set up the SDK, or add its processor, later
                runtime.watch = ProviderWatch(lambda: self._bridge(kwargs.get("tracer_provider")))
            runtime.start()
            self._installer = installer = Installer()
            hooks = _symbol_hooks.install(self._installer, symbols)
            runtime.hooks = lambda: {
                "installed": list((Counter(installer.installed) - Counter(hooks.passing())).elements()),
                "left_out": list((Counter(installer.left_out) - Counter(hooks.passing())).elements()),
                "switched_off": switched_off,
            }
            runtime.before_window, runtime.domains = hooks.update, hooks.domains
            runtime.check_filter()
        except Exception:  # serving must start without us
            _logger.exception("vLLM is not instrumented")

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        if self._installer is not None:
            runtime.before_window = runtime.domains = None
            _symbol_hooks.uninstall(self._installer)
            self._installer = None
        if runtime.has_traces and not self._bridged:
            recorder.flush()  # spans of other instrumentations go the same way: it stays open
        else:
            runtime.shutdown()
            runtime.silence()

    def _bridge(self, provider: trace.TracerProvider | None) -> bool:
        """Bridge to the given provider, or to the global one; whether that was possible."""
        self._bridged = _bridge(provider or trace.get_tracer_provider())
        return self._bridged


def _bridge(provider: trace.TracerProvider) -> bool:
    """Where another distribution, or the program, has set up the SDK: its processors get our spans too.

    Returns:
        Whether they do by this call.
    """
    if runtime.has_traces or isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return False
    from opentelemetry.sdk.trace import TracerProvider

    from ascend_opentelemetry.otlp import BridgeSink

    if not isinstance(provider, TracerProvider) or provider._disabled or not _has_processors(provider):
        return False
    scope_enabled = as_scope_switch(provider)
    runtime.add_traces(
        [BridgeSink(provider, recorder.flush, scope_enabled)],
        as_sampler(provider),
        scope_enabled=scope_enabled,
        new_trace_id=as_trace_ids(provider),
    )
    return True


def _has_processors(provider: Any) -> bool:
    """Whether somebody would take a span; an unknown kind of processor does, ours that was shut down does not."""
    from ascend_opentelemetry.otlp import RecordSpanProcessor

    processors = getattr(provider._active_span_processor, "_span_processors", None)
    return processors is None or any(not isinstance(one, RecordSpanProcessor) for one in processors)
