"""The driver as this process knows it: found without loading it, opened by the first thread that needs it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ascend_opentelemetry.npu._devices import Device, hardware_id, visible
from ascend_opentelemetry.npu._observed import OncePerCollection
from ascend_opentelemetry.npu.dcmi._library import Dcmi, DcmiError, find
from ascend_opentelemetry.npu.dcmi._patience import Patience
from ascend_opentelemetry.npu.dcmi._reader import DcmiReader, Memory, Reading

_MISSING = "no libdcmi.so of the Ascend driver"
#: Seconds until a driver that was not ready is asked again.
_RETRY = 30.0
#: Seconds that a reading of all devices may take.
_PATIENCE = 10.0

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Driver:
    """Devices and readings of ``libdcmi.so``; DCMI says nothing of threads, so one calls it at a time.

    Args:
        env: where the library is looked for, and the devices of this process.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._env = env
        self._visible = visible(env)  # vLLM changes the variable for a moment when it starts its engines
        self._patience = Patience(_PATIENCE)
        self._dcmi: Dcmi | None = None
        self._reader: DcmiReader | None = None
        self._devices: tuple[Device, ...] = ()
        self._retry_at = 0.0
        self._version = ""
        #: Of the devices that this process uses; read once a collection.
        self.readings = OncePerCollection(self._read)
        #: Why there are no devices; empty while that is not known, and where there are.
        self.reason = ""
        #: Readings of all devices so far.
        self.passes = 0

    def is_found(self) -> bool:
        """Whether the library is there; nothing is loaded."""
        return find(self._env) is not None

    def _read(self) -> Sequence[Reading]:
        def read() -> Sequence[Reading]:
            reader = self._open()
            return [reader.read(device) for device in self._used()] if reader is not None else []

        found = self._ask(read, ())
        self.passes += bool(found)
        return found

    def memory(self) -> Sequence[tuple[Device, Memory]]:
        """Of the devices that this process uses, as far as the driver tells."""

        def read() -> Sequence[tuple[Device, Memory | None]]:
            reader = self._open()
            return [(device, reader.memory(device)) for device in self._used()] if reader is not None else []

        return [(device, memory) for device, memory in self._ask(read, ()) if memory is not None]

    def hardware_id(self, index: int) -> str:
        """The ``hw.id`` of the device that a worker counts as ``index``; without a driver by its logical number."""
        used = visible(self._env)
        logical = index if used is None or index >= len(used) else used[index]
        if not self._devices:
            self._ask(self._open, None)
        known = [device.hardware_id for device in self._devices if device.logical_id == logical]
        return known[0] if known else hardware_id(logical)

    def _used(self) -> Sequence[Device]:
        used = self._visible
        return self._devices if used is None else [device for device in self._devices if device.logical_id in used]

    def _ask(self, work: Callable[[], _T], otherwise: _T) -> _T:
        """What the driver answers; where it does not, metric readers must not wait for it for ever."""
        waited = not self._patience.is_over
        found = self._patience.call(work, otherwise)
        if waited and self._patience.is_over:
            _logger.warning(
                "%s has not answered for %.0f s: NPUs are not measured until it does; see npu-smi and the driver's log",
                find(self._env), _PATIENCE,
            )  # fmt: skip
        return found

    def _open(self) -> DcmiReader | None:
        if self._reader is None and not self._devices and time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + _RETRY
            try:
                self._reader = self._first_look()
                self.reason = "" if self._reader is not None else self.reason
            except (OSError, DcmiError) as error:
                self.reason = str(error)
        return self._reader

    def _first_look(self) -> DcmiReader | None:
        path = find(self._env)
        if path is None:
            self.reason = _MISSING
            return None
        dcmi = self._dcmi = self._dcmi or Dcmi(path)
        self._devices = tuple(dcmi.devices())
        if not self._devices:
            self.reason = "the driver has no device for this process"
            return None
        self._version = dcmi.version()
        return DcmiReader(dcmi)

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may be calling the driver; the list of devices holds on."""
        self._patience.reset()
        self._visible = visible(self._env)
        self._dcmi = self._reader = None
        self.readings.reset()
        self.passes = 0

    def describe(self) -> dict[str, object]:
        """For ``doctor``; no call of the driver."""
        path = find(self._env)
        state: dict[str, object] = {"found": str(path) if path is not None else False}
        if self._version:
            state["version"] = self._version
        if self._dcmi is not None:
            state["interface"] = self._dcmi.interface
        if self._patience.is_over:
            state["reason"] = "the driver does not answer"
        elif self._reader is not None:
            state |= {"usable": True, "devices": [device.hardware_id for device in self._used()]}
            state |= {"passes": self.passes, "refused": dict(self._reader.refused)}
        else:
            state["reason"] = self.reason or (_MISSING if path is None else "not asked yet")
        return state


#: Of this process.
driver = Driver()
