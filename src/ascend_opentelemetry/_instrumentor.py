"""The OTel instrumentor of vLLM."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from ascend_opentelemetry import _symbol_hooks
from ascend_opentelemetry._runtime import runtime
from ascend_opentelemetry.hooks import Installer

_logger = logging.getLogger(__name__)


class VLLMInstrumentor(BaseInstrumentor):
    """Hooks vLLM in this process, without importing it.

    ``VLLMInstrumentor().instrument(symbols="my.yaml")`` in code; ``opentelemetry-instrument`` does it by itself.
    """

    _installer: Installer | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()  # each symbol has version bounds of its own

    def _instrument(self, **kwargs: Any) -> None:
        symbols: str | os.PathLike[str] | None = kwargs.get("symbols")
        try:
            runtime.start()
            self._installer = Installer()
            _symbol_hooks.install(self._installer, symbols)
        except Exception:  # noqa: BLE001 - serving must start without us
            _logger.exception("vLLM is not instrumented")

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        if self._installer is not None:
            _symbol_hooks.uninstall(self._installer)
            self._installer = None
        runtime.shutdown()
