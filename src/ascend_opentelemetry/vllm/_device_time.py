"""What the times of a worker's spans are: of the host, which on an NPU or GPU only launches, or of the device."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_SYNCHRONIZE

_logger = logging.getLogger(__name__)

#: Modules of torch that stand for a device with streams.
_DEVICES = ("npu", "cuda")


class DeviceTime:
    """Waits for the device at the end of a traced span, where the user asks for it: that costs serving speed.

    Attributes:
        asked: ``OTEL_PYTHON_VLLM_SYNCHRONIZE`` is true, and there is a device to wait for.
    """

    def __init__(self, value: str | None = None) -> None:
        given = os.environ.get(OTEL_PYTHON_VLLM_SYNCHRONIZE, "") if value is None else value
        self.asked = given.strip().lower() == "true"
        self._synchronize: Callable[[], Any] | None = None

    @property
    def kind(self) -> str:
        """``host`` or ``device``: value of ``vllm.time.kind``."""
        return "device" if self.asked and self._synchronize is not None else "host"

    def wait(self) -> None:
        """Wait until the current stream is empty; after a failure, and without a device, never again."""
        try:
            if self._synchronize is None:
                self._synchronize = _stream_synchronize()
            if self._synchronize is None:
                self.asked = False
                _logger.warning("%s has no effect: torch has no NPU or GPU here", OTEL_PYTHON_VLLM_SYNCHRONIZE)
            else:
                self._synchronize()
        except Exception:
            self.asked = False
            _logger.warning("the device cannot be waited for: spans hold host time", exc_info=True)


def _stream_synchronize() -> Callable[[], Any] | None:
    """What waits for the current stream of this process's device."""
    torch: Any = sys.modules.get("torch")
    for name in _DEVICES:
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            return lambda: device.current_stream().synchronize()
    return None


device_time = DeviceTime()
