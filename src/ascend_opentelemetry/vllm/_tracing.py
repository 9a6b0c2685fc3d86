"""vLLM's own tracing (``--otlp-traces-endpoint``): one pipeline and one ``llm_request`` a request, ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from ascend_opentelemetry.recorder import recorder


class InitTracer:
    """``vllm.tracing.otel:init_otel_tracer(instrumenting_module_name, ...)``.

    It would build a second provider and write its endpoint into the environment of EngineCore and the workers. The
    global provider makes vLLM's start-up spans all the same.
    """

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init_otel_tracer(*args: Any, **kwargs: Any) -> Any:
            if not recorder.traces_on:
                return original(*args, **kwargs)
            return trace.get_tracer(args[0] if args else kwargs["instrumenting_module_name"])

        return init_otel_tracer


class DoTracing:
    """``OutputProcessor.do_tracing``: makes vLLM's ``llm_request``, whose attributes ours has too."""

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_tracing(*args: Any, **kwargs: Any) -> Any:
            return None if recorder.traces_on else original(*args, **kwargs)

        return do_tracing
