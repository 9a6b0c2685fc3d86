"""The command ``ascend-otel``."""

from ascend_opentelemetry.cli._main import main

__all__ = ["main"]
