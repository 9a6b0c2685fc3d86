"""The machine itself: CPU and memory."""

from ascend_opentelemetry.host._source import HostSource

__all__ = ["HostSource"]
