"""The way of records to span processors of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ascend_opentelemetry.otlp._readable import to_readable
from ascend_opentelemetry.otlp._sdk_span import SDK_SPAN

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ascend_opentelemetry.recorder._record import Record


class BridgeSink:
    """Hands each record as an ended ``ReadableSpan`` to the processors of a provider that is not ours.

    Args:
        provider: of another distribution, or the program's own; it keeps its processors, exporters and resource.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def write(self, records: Sequence[Record]) -> None:
        processor, resource = self._provider._active_span_processor, self._provider.resource
        for record in records:
            if record[0] is not SDK_SPAN and record[4] is not None:
                processor.on_end(to_readable(record, resource))

    def commit(self) -> None:
        """Do nothing: the processors have batches of their own."""

    def request_flush(self) -> None:
        """Do nothing, for the same reason."""

    def flush(self, timeout: float) -> bool:
        """Flush the provider's processors."""
        return self._provider.force_flush(round(timeout * 1000))

    def shutdown(self, timeout: float) -> None:
        """Flush; the provider is ended by its owner."""
        self.flush(timeout)

    def after_fork(self) -> None:
        """Do nothing: the SDK restarts its processors."""
