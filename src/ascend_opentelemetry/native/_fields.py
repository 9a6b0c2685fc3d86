"""Parsers of the config JSON fields: what is accepted, and what a wrong value turns into."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from ascend_opentelemetry.native._domains import expand
from ascend_opentelemetry.recorder._record import LEVEL_DETAILED, LEVEL_ERROR, LEVEL_INFO, LEVEL_VERBOSE

T = TypeVar("T")


class Range(NamedTuple):
    """Both ends are allowed."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


TIMELIMIT = Range(0, 7200)
FREQUENCY = Range(1, 50)
TASK_SECONDS = Range(1, 999)

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

_HOME = re.compile(r"^(~|\$HOME|\$\{HOME\})(?=/|$)")
_SEPARATOR = re.compile("[;\uff1b,]")
#: As the table names them; the second one is the full-width semicolon.
SEPARATORS = "`;`, `\uff1b` or `,`"


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
    return f"{_home()}/.ms_server_profiler"


def _home() -> Path:
    """The user's; the folder for temporary files where there is none, as under a uid that a container chose."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


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
    if type(value) is not int or value not in (0, 1):
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
    return _HOME.sub(lambda _: str(_home()), value)


def level(value: Any) -> int:
    if isinstance(value, str):
        if value.strip().upper() not in LEVELS:
            raise FieldError("is not a level")
        return LEVELS[value.strip().upper()]
    if type(value) is not int:
        raise FieldError("is not a level")
    if value < 0:
        raise FieldError("is negative")
    return value


def seconds(value: Any) -> int:
    if integer(value) > TIMELIMIT.high:
        raise FieldError(f"is higher than {TIMELIMIT.high}", TIMELIMIT.high)
    return max(value, TIMELIMIT.low)


def frequency(value: Any) -> int:
    if integer(value) != -1 and not FREQUENCY.low <= value <= FREQUENCY.high:
        raise FieldError(f"is neither -1 nor from {FREQUENCY}")
    return value


def task_time(value: Any) -> int:
    if integer(value) not in (0, 1, 2, 3):
        raise FieldError("is not one of 0, 1, 2, 3")
    return value


def task_time_level(value: Any) -> TaskTimeLevel:
    result = TaskTimeLevel()
    for part in parts(value):
        if part in ("L0", "L1"):
            result = result._replace(level=part)
        elif re.fullmatch("[0-9]{1,9}", part) and TASK_SECONDS.low <= int(part) <= TASK_SECONDS.high:
            result = result._replace(seconds=int(part))
        else:
            raise FieldError(f"is not L0 or L1 with {TASK_SECONDS} seconds")
    return result


def parts(value: Any) -> tuple[str, ...]:
    return tuple(part for item in _SEPARATOR.split(string(value)) if (part := item.strip()))


def domains(value: Any) -> frozenset[str]:
    return expand(parts(value))


def data_types(value: Any) -> tuple[str, ...]:
    named = parts(value)
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
