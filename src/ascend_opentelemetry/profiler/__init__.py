"""Spans, events and facts of the user's own code: ``Profiler`` and ``Level``, called as in ``ms_service_profiler``."""

from ascend_opentelemetry.profiler._level import Level
from ascend_opentelemetry.profiler._profiler import Profiler

__all__ = ["Level", "Profiler"]
