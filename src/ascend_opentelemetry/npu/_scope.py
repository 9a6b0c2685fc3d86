"""What all telemetry of the NPU shares: the name of its scope, and how it names a device."""

from __future__ import annotations

from ascend_opentelemetry.npu._devices import hardware_id
from ascend_opentelemetry.semconv.attributes import HW_ID

SCOPE = "ascend_opentelemetry.npu"


def device_attributes(device: str) -> tuple[tuple[str, str], ...]:
    """``hw.id``, or nothing where the number is not known."""
    return ((HW_ID, hardware_id(device)),) if device else ()
