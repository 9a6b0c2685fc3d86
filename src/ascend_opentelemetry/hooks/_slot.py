"""A timer that may be given another name, other values, or none, while its function runs."""

from __future__ import annotations

from ascend_opentelemetry.hooks._timer import Timer
from ascend_opentelemetry.recorder import RecordType, recorder


class TimerSlot(Timer):
    """The handler of a hook that stays, around a timer that changes.

    A call records with the output that is there when it ends: type and values of one timer together.

    Args:
        attach: as for each of the timers.
    """

    __slots__ = ()

    def __init__(self, *, attach: bool = True) -> None:
        # of no record: as long-lived as the hook, which reads it, while the type of each timer stays what it is
        super().__init__(recorder.register(RecordType("", "", native=False, traces=False)), attach=attach)

    @property
    def is_off(self) -> bool:
        """Whether the hook only passes calls through."""
        return not self.switch.native and not self.switch.traces

    def set(self, timer: Timer | None) -> None:
        """Record by another timer from now on, whose type is registered; None: nothing.

        After None only the calls that run already are recorded.
        """
        switch = self.switch
        if timer is not None:
            previous, self.output = self.output[0], timer.output
            if previous is not switch:
                recorder.unregister(previous)
            switch.domain, switch.name = timer.switch.domain, timer.switch.name
        switch.native = switch.traces = timer is not None
        recorder.refresh(switch)
