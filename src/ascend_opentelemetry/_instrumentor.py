"""The OTel instrumentor of vLLM."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from ascend_opentelemetry import _symbol_hooks
from ascend_opentelemetry._runtime import as_sampler, runtime
from ascend_opentelemetry.hooks import Installer
from ascend_opentelemetry.recorder import recorder

_logger = logging.getLogger(__name__)


class VLLMInstrumentor(BaseInstrumentor):
    """Hooks vLLM in this process, without importing it.

    ``VLLMInstrumentor().instrument()`` in code; ``opentelemetry-instrument`` does it by itself. Options:
    ``symbols`` (path of a symbols file) and ``tracer_provider`` (the global one is the default).
    """

    _installer: Installer | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()  # each symbol has version bounds of its own

    def _instrument(self, **kwargs: Any) -> None:
        symbols: str | os.PathLike[str] | None = kwargs.get("symbols")
        try:
            _bridge(kwargs.get("tracer_provider") or trace.get_tracer_provider())
            runtime.start()
            self._installer = Installer()
            _symbol_hooks.install(self._installer, symbols)
        except Exception:  # serving must start without us
            _logger.exception("vLLM is not instrumented")

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        if self._installer is not None:
            _symbol_hooks.uninstall(self._installer)
            self._installer = None
        if runtime.has_traces:
            recorder.flush()  # spans of other instrumentations go the same way: it stays open
        else:
            runtime.shutdown()


def _bridge(provider: trace.TracerProvider) -> None:
    """Where another distribution, or the program, has set up the SDK: its processors get our spans too."""
    if runtime.has_traces or isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return
    from opentelemetry.sdk.trace import TracerProvider

    from ascend_opentelemetry.otlp import BridgeSink

    if isinstance(provider, TracerProvider) and not provider._disabled and _has_processors(provider):
        runtime.add_traces([BridgeSink(provider)], as_sampler(provider))


def _has_processors(provider: Any) -> bool:
    """Whether somebody would take a span; an unknown kind of processor does."""
    return bool(getattr(provider._active_span_processor, "_span_processors", True))
