"""What ``opentelemetry-instrument`` and vLLM load: distro, configurator, plugin."""

from typing import TYPE_CHECKING, Any

from ascend_opentelemetry._role import NoConfigurator, is_helper
from ascend_opentelemetry.distro._distro import AscendDistro
from ascend_opentelemetry.distro._plugin import vllm_plugin

if TYPE_CHECKING:
    from ascend_opentelemetry.distro._configurator import AscendConfigurator

__all__ = ["AscendConfigurator", "AscendDistro", "is_helper", "vllm_plugin"]


def __getattr__(name: str) -> Any:
    if name == "AscendConfigurator":
        if is_helper():  # the SDK is imported where it is configured
            return NoConfigurator
        from ascend_opentelemetry.distro._configurator import AscendConfigurator

        return AscendConfigurator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
