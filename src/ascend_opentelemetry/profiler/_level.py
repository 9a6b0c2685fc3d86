"""The levels of the native ``profiler_level``."""

from __future__ import annotations

from enum import IntEnum

from ascend_opentelemetry.recorder import LEVEL_DETAILED, LEVEL_ERROR, LEVEL_INFO, LEVEL_VERBOSE


class Level(IntEnum):
    """From which ``profiler_level`` of the native configuration on there are native rows; other names are aliases."""

    ERROR = LEVEL_ERROR
    INFO = LEVEL_INFO
    DETAILED = LEVEL_DETAILED
    VERBOSE = LEVEL_VERBOSE
    L0 = LEVEL_ERROR
    L1 = LEVEL_INFO
    L2 = LEVEL_DETAILED
    LEVEL_CORE_TRACE = LEVEL_ERROR
    LEVEL_OUTLIER_ENENT = LEVEL_ERROR  # spelled so in ms_service_profiler
    LEVEL_NORMAL_TRACE = LEVEL_INFO
    LEVEL_DETAILED_TRACE = LEVEL_DETAILED


def as_level(value: object) -> int:
    """The number of a level, which may be given by name; INFO for what is none."""
    if isinstance(value, str):
        return Level.__members__.get(value.upper(), Level.INFO).value
    return int(value) if isinstance(value, int) else LEVEL_INFO
