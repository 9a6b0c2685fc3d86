"""What sinks have to say, as plain values; the sinks know nothing of it."""

from __future__ import annotations

import time
from typing import Any, Protocol


class Exporting(Protocol):
    """A sink that exports and counts (``otlp.OtlpSink``)."""

    @property
    def exported(self) -> int: ...
    @property
    def dropped(self) -> dict[str, int]: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def last_error(self) -> str: ...


class ExporterStatus:
    """Follows one exporting sink.

    Args:
        sink: what it follows.
    """

    def __init__(self, sink: Exporting) -> None:
        self.sink = sink
        self._exported = 0
        self._last_success: float | None = None
        self._last_error: str | None = None

    def describe(self) -> dict[str, object]:
        """Where spans go and what became of them.

        ``last_success`` (s since 1970) is exact to the time between two calls. ``last_error`` is the kind of failure
        of the last attempt, None when that got through: what the endpoint says may hold what was sent.
        """
        exported, error = self.sink.exported, self.sink.last_error
        if exported < self._exported:  # a forked child counts anew
            self._last_success = None
        if exported > self._exported:
            self._last_success, self._last_error = round(time.time(), 3), None
        if error:
            self._last_error = error
        self._exported = exported
        return {
            "endpoint": self.sink.endpoint,
            "protocol": self.sink.protocol,
            "exported": exported,
            "dropped": self.sink.dropped,
            "last_success": self._last_success,
            "last_error": self._last_error,
        }


def mode_of(exporters: bool, traces: bool, native: bool) -> str:
    """How records leave the process.

    Returns:
        ``own``: our exporting sinks; ``bridge``: the processors of a provider that others have set up; ``native``:
        native files only; ``none``: nobody takes them.
    """
    if traces:
        return "own" if exporters else "bridge"
    return "native" if native else "none"


def describe_native(state: Any) -> dict[str, object]:
    """The fields of ``native.NativeState``."""
    return {
        "config": str(state.config_path),
        "enabled": state.enabled,
        "file": str(state.file) if state.file is not None else None,
        "written": state.written,
        "dropped": state.dropped,
    }
