"""The meter provider of a process, for those that make instruments of their own: the sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics

from ascend_opentelemetry.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider


class Meters:
    """Makes meters.

    Attributes:
        provider: of the meters to come; None: the global one, which is followed when it is set later.
    """

    def __init__(self) -> None:
        self.provider: MeterProvider | None = None

    def get(self, scope: str, provider: MeterProvider | None = None) -> Meter:
        """A meter of this version.

        Args:
            scope: name of the instrumentation scope.
            provider: another one than that of the process.
        """
        return metrics.get_meter(scope, __version__, provider or self.provider)


meters = Meters()
