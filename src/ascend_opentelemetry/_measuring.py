"""Where metrics go: the meter provider of a process, and what the distribution says of itself there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.metrics import FLUSH_SECONDS, MetricsSink, has_ended, is_read, lost_records, reader_names
from ascend_opentelemetry.recorder import recorder

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

_logger = logging.getLogger(__name__)

#: Seconds that the exporters of metrics may take at the end of a process, a last flush that hangs included.
_LAST_EXPORT = 1.0


class Measuring:
    """The meter provider of this process, as far as it is known.

    Attributes:
        given: to ``VLLMInstrumentor``; None: the global one, which may be set at any time.
    """

    def __init__(self) -> None:
        self.given: MeterProvider | None = None
        #: Of the SDK, configured by this distribution: it ends with the process.
        self._owned: Any = None
        self._sink: MetricsSink | None = None

    def own(self) -> None:
        """This distribution has configured the global provider."""
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider

        provider = metrics.get_meter_provider()
        self._owned = provider if isinstance(provider, MeterProvider) else None

    def make_sink(self, lost: Callable[[], Mapping[str, Mapping[str, int]]]) -> MetricsSink:
        """A sink that measures as soon as somebody reads metrics.

        Args:
            lost: records that were lost since the start, by component and reason.
        """
        sink = MetricsSink(
            self._find,
            recorder.set_metrics,
            [lost_records(lambda: {**lost(), "metrics_sink": {"measure_failed": sink.failed}})],
        )
        self._sink = sink
        return sink

    def _find(self) -> tuple[MeterProvider, bool] | None:
        from opentelemetry import metrics

        provider = self.given or metrics.get_meter_provider()
        return (provider, provider is self._owned) if is_read(provider) else None

    def describe(self) -> dict[str, object]:
        """For ``doctor``: the class of the provider, whose it is, whether it is read, and what reads and exports."""
        from opentelemetry import metrics

        provider = self.given or metrics.get_meter_provider()
        origin = "given" if self.given is not None else "own" if provider is self._owned else "global"
        return {
            "provider": f"{type(provider).__module__}.{type(provider).__qualname__}",
            "origin": origin,
            "read": is_read(provider),
            "readers": reader_names(provider),
        }

    def shutdown(self) -> None:
        """At the end of the process: export the last values of our own provider, without waiting for a dead endpoint.

        Its exporters retry for 10 s, which the SDK would wait for.
        """
        provider, self._owned = self._owned, None
        if provider is not None and not has_ended(provider):
            waited = FLUSH_SECONDS if self._sink is not None and self._sink.exporting else 0.0
            try:
                provider.shutdown(timeout_millis=(_LAST_EXPORT - waited) * 1000)
            except Exception as error:  # noqa: BLE001 - exporters of anybody
                _logger.warning("the last metrics may be lost: %s", error)
