"""What the distribution says of itself: records that it lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ascend_opentelemetry.metrics._sink import Totals
from ascend_opentelemetry.recorder import Measurement
from ascend_opentelemetry.semconv import attributes as keys
from ascend_opentelemetry.semconv.metrics import VLLM_TELEMETRY_RECORD_LOST


def lost_records(lost: Callable[[], Mapping[str, Mapping[str, int]]]) -> Totals:
    """A counter of lost records.

    Args:
        lost: how many since the start of the process, by component and reason.
    """

    def read() -> Iterable[Measurement]:
        for component, reasons in lost().items():
            for reason, records in list(reasons.items()):
                attributes = (keys.OTEL_COMPONENT_TYPE, component), (keys.ERROR_TYPE, reason)
                yield Measurement(VLLM_TELEMETRY_RECORD_LOST, records, attributes)

    return Totals(VLLM_TELEMETRY_RECORD_LOST, read)
