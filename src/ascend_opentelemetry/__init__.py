"""OpenTelemetry distribution for vLLM on Ascend NPUs.

``opentelemetry-instrument vllm serve MODEL`` loads it by its entry points; in code::

    from ascend_opentelemetry import VLLMInstrumentor

    VLLMInstrumentor().instrument()

``Profiler`` and ``Level`` mark code of your own.
"""

from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from ascend_opentelemetry._instrumentor import VLLMInstrumentor
    from ascend_opentelemetry.profiler import Level, Profiler

__all__ = ["Level", "Profiler", "VLLMInstrumentor", "__version__"]


def __getattr__(name: str) -> Any:
    # helper processes load the entry points too: what they do not use is not imported
    if name == "VLLMInstrumentor":
        from ascend_opentelemetry._instrumentor import VLLMInstrumentor

        return VLLMInstrumentor
    if name in ("Level", "Profiler"):
        from ascend_opentelemetry import profiler

        return getattr(profiler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
