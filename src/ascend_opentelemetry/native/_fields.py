"""Parsers of the config JSON fields: what is accepted, and what a wrong value turns into."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from ascend_opentelemetry.recorder._record import LEVEL_DETAILED, LEVEL_ERROR, LEVEL_INFO, LEVEL_VERBOSE

T = TypeVar("T")

MAX_TIMELIMIT = 7200

LEVELS: Mapping[str, int] = {
    "ERROR": LEVEL_ERROR,
    "INFO": LEVEL_INFO,
    "DETAILED": LEVEL_DETAILED,
    "VERBOSE": LEVEL_VERBOSE,
    "L0": LEVEL_ERROR,
    "L1": LEVEL_INFO,
    "L2": LEVEL_DETAILED,
    "LEVEL_CORE_TRACE": LEVEL_ERROR,
    "LEVEL_OUTLIER_ENENT": LEVEL_ERROR,  # spelled so in ms_service_profiler
    "LEVEL_NORMAL_TRACE": LEVEL_INFO,
    "LEVEL_DETAILED_TRACE": LEVEL_DETAILED,
}

#: The guide's domains that vLLM's v1 events carry under another name.
GUIDE_DOMAINS: Mapping[str, str] = {
    "Request": "Engine",
    "KVCache": "Schedule.KVCache",
    "ModelExecute": "Execute",
    "BatchSchedule": "Schedule",
}

DATA_TYPES = tuple(
    f"ACL_PROF_{name}"
    for name in (
        "ACL_API", "TASK_TIME", "TASK_TIME_L0", "OP_ATTR", "AICORE_METRICS", "TASK_MEMORY", "AICPU", "L2CACHE",
        "HCCL_TRACE", "TRAINING_TRACE", "RUNTIME_API", "MSPROFTX",
    )
)  # fmt: skip

AICORE_METRICS = tuple(
    f"ACL_AICORE_{name}"
    for name in (
        "PIPE_UTILIZATION", "MEMORY_BANDWIDTH", "L0B_AND_WIDTH", "RESOURCE_CONFLICT_RATIO", "MEMORY_UB", "L2_CACHE",
        "NONE",
    )
)  # fmt: skip

_SEPARATOR = re.compile("[;\uff1b]")  # ASCII and full-width semicolon


class TaskTimeLevel(NamedTuple):
    """``acl_prof_task_time_level``: ``L0`` or ``L1``, and seconds (None: until the end)."""

    level: str = "L0"
    seconds: int | None = None


class FieldError(ValueError):
    """A value that is not used.

    Args:
        reason: what is wrong with it, to be read after the value.
        used: what is used in its place, when that is not the default of the field.
    """

    def __init__(self, reason: str, *used: Any) -> None:
        super().__init__(reason)
        self.used = used


@dataclass(frozen=True)
class Field(Generic[T]):
    """A row of the field table: JSON name, parser (raises ``FieldError``), accepted values, meaning."""

    name: str
    parse: Callable[[Any], T]
    accepts: str
    meaning: str


def setting(
    default: T | Callable[[], T], name: str, parse: Callable[[Any], T], accepts: str, meaning: str
) -> T:  # the type of the dataclass attribute, not of the Field object
    """A dataclass field with a row of the field table."""
    metadata = {"field": Field(name, parse, accepts, meaning)}
    if callable(default):
        return field(default_factory=cast("Callable[[], T]", default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_prof_dir() -> str:
    """``$HOME/.ms_server_profiler``."""
    return f"{Path('~').expanduser()}/.ms_server_profiler"


def integer(value: Any) -> int:
    if type(value) is not int:  # bool is an int to isinstance
        raise FieldError("is not an integer")
    return value


def string(value: Any) -> str:
    if not isinstance(value, str):
        raise FieldError("is not a string")
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("is neither true nor false")
    return value


def switch(value: Any) -> bool:
    if integer(value) not in (0, 1):
        raise FieldError("is neither 0 nor 1")
    return value == 1


def switch_or_boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else switch(value)


def folder(value: Any) -> str:
    if not string(value).strip():
        raise FieldError("is empty")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise FieldError("is no name of a folder") from None
    if "\0" in value:
        raise FieldError("contains a NUL character")
    return value


def level(value: Any) -> int:
    if isinstance(value, str):
        if value.strip().upper() not in LEVELS:
            raise FieldError("is not a level")
        return LEVELS[value.strip().upper()]
    if integer(value) < 0:
        raise FieldError("is negative")
    return value


def seconds(value: Any) -> int:
    if integer(value) > MAX_TIMELIMIT:
        raise FieldError(f"is higher than {MAX_TIMELIMIT}", MAX_TIMELIMIT)
    return max(value, 0)


def frequency(value: Any) -> int:
    if integer(value) != -1 and not 1 <= value <= 50:
        raise FieldError("is not between 1 and 50")
    return value


def task_time(value: Any) -> int:
    if integer(value) not in (0, 1, 2, 3):
        raise FieldError("is not one of 0, 1, 2, 3")
    return value


def task_time_level(value: Any) -> TaskTimeLevel:
    result = TaskTimeLevel()
    for part in parts(string(value).replace(",", ";")):
        if part in ("L0", "L1"):
            result = result._replace(level=part)
        elif part.isdecimal() and part.isascii() and len(part) < 4 and int(part):
            result = result._replace(seconds=int(part))
        else:
            raise FieldError("is not L0 or L1 with 1 to 999 seconds")
    return result


def parts(value: Any) -> tuple[str, ...]:
    return tuple(part for item in _SEPARATOR.split(string(value)) if (part := item.strip()))


def domains(value: Any) -> frozenset[str]:
    named = parts(value)
    return frozenset((*named, *(GUIDE_DOMAINS[name] for name in named if name in GUIDE_DOMAINS)))


def data_types(value: Any) -> tuple[str, ...]:
    named = tuple(part for item in string(value).split(",") if (part := item.strip()))
    known = tuple(name for name in named if name in DATA_TYPES)
    if known != named:
        raise FieldError(f"names unknown types ({', '.join(name for name in named if name not in known)})", known)
    return known


def aicore_metrics(value: Any) -> str:
    if string(value).strip().upper() not in AICORE_METRICS:
        raise FieldError("is not a known group of metrics", "ACL_AICORE_NONE")
    return value.strip().upper()


def all_if_below_one(value: Any) -> int:
    return max(integer(value), 0)


def step_limit(value: Any) -> int:
    if integer(value) != -1 and value < 1:
        raise FieldError("is lower than 1")
    return value
