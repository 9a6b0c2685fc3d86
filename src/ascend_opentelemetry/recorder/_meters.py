"""The meter provider of a process, for those that make instruments of their own: the sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import metrics

from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider


class Meters:
    """Makes meters."""

    def __init__(self) -> None:
        self._provider: MeterProvider | None = None
        self._told: list[Callable[[], None]] = []

    @property
    def provider(self) -> MeterProvider | None:
        """Of the meters to come; None: the global one, which is followed when it is set later."""
        return self._provider

    @provider.setter
    def provider(self, provider: MeterProvider | None) -> None:
        self._provider = provider
        for tell in list(self._told):
            tell()

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have this called, which raises nothing, whenever ``provider`` is set; once however often it is given."""
        if tell not in self._told:
            self._told.append(tell)

    def get(self, scope: str, provider: MeterProvider | None = None) -> Meter:
        """A meter of this version.

        Args:
            scope: name of the instrumentation scope.
            provider: another one than that of the process.
        """
        return metrics.get_meter(scope, __version__, provider or self.provider)


meters = Meters()
