"""The config JSON: ``ProfileConfig`` is the one table of its fields."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from reprlib import Repr
from typing import Any

from ascend_opentelemetry.native import _fields as f
from ascend_opentelemetry.native._fields import Field, FieldError, TaskTimeLevel, setting
from ascend_opentelemetry.recorder._record import LEVEL_INFO

_SPACE = re.compile(r"[ \t\r\n]*")
#: Unknown names for which a known one is looked for.
_HINTS = 20


class _AsWritten(Repr):
    """Bounded text of a value of a JSON file."""

    def repr_bool(self, value: bool, level: int) -> str:  # noqa: ARG002 - called by ``repr``
        return "true" if value else "false"

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: ARG002, N802
        return "null"


_bounded = _AsWritten()
_bounded.maxstring = _bounded.maxother = _bounded.maxlong = 80


class ConfigError(ValueError):
    """A text that is no JSON object; the message names file, line and column."""


@dataclass(frozen=True)
class ProfileConfig:
    """Content of the file that ``SERVICE_PROF_CONFIG_PATH`` names; the field table of the native files.

    Names and meanings are those of the service profiling guide and of ``ms_service_profiler``.
    """

    enable: bool = setting(False, "enable", f.switch, "`0`, `1`", "Profiling is on or off.")
    prof_dir: str = setting(
        f.default_prof_dir, "prof_dir", f.folder, "path; relative to the working directory of the service; `~` or `$HOME` before it is the home folder",
        "Folder below which the files are written.",
    )  # fmt: skip
    profiler_level: int = setting(
        LEVEL_INFO, "profiler_level", f.level, "`ERROR`, `INFO`, `DETAILED`, `VERBOSE`, `L0`, `L1`, `L2`, or a number",
        "Rows above this level are left out.",
    )  # fmt: skip
    timelimit: int = setting(
        0, "timelimit", f.seconds, f"integer {f.TIMELIMIT}, in seconds",
        "Profiling stops after this time and `enable` is set to 0 in the file; 0: no limit.",
    )  # fmt: skip
    domain: frozenset[str] = setting(
        frozenset(), "domain", f.domains, f"names separated by {f.SEPARATORS}",
        "Only rows of these domains are written; empty: all.",
    )  # fmt: skip
    host_system_usage_freq: int = setting(
        -1, "host_system_usage_freq", f.frequency, f"integer {f.FREQUENCY}, in Hz; -1: off",
        "How often CPU and memory of the host are sampled.",
    )  # fmt: skip
    npu_memory_usage_freq: int = setting(
        -1, "npu_memory_usage_freq", f.frequency, f"integer {f.FREQUENCY}, in Hz; -1: off",
        "How often the memory of the NPUs is sampled.",
    )  # fmt: skip
    acl_task_time: int = setting(
        0, "acl_task_time", f.task_time, "`0` off, `1` msprof, `2` MSPTI, `3` torch profiler",
        "How operators are recorded.",
    )  # fmt: skip
    acl_prof_task_time_level: TaskTimeLevel = setting(  # noqa: RUF009 - makes a dataclass field, as the others
        TaskTimeLevel, "acl_prof_task_time_level", f.task_time_level,
        f"`L0` or `L1`, and {f.TASK_SECONDS} seconds, separated by {f.SEPARATORS}",
        "Detail and duration of `acl_task_time` 1; without seconds: until profiling is off.",
    )  # fmt: skip
    api_filter: tuple[str, ...] = setting(
        (), "api_filter", f.parts, f"parts of names separated by {f.SEPARATORS}",
        "APIs recorded with `acl_task_time` 2; empty: all.",
    )  # fmt: skip
    kernel_filter: tuple[str, ...] = setting(
        (), "kernel_filter", f.parts, f"parts of names separated by {f.SEPARATORS}",
        "Kernels recorded with `acl_task_time` 2; empty: all.",
    )  # fmt: skip
    metric_enable: bool = setting(
        False, "metric_enable", f.switch_or_boolean, "`0`, `1`, `true`, `false`",
        "Accepted and ignored: the Prometheus metrics of ms_service_profiler are not made here.",
    )  # fmt: skip
    acl_data_type_config: tuple[str, ...] = setting(
        (), "aclDataTypeConfig", f.data_types, f"names like `ACL_PROF_TASK_TIME`, separated by {f.SEPARATORS}",
        "More data types for `acl_task_time` 1.",
    )  # fmt: skip
    aclprof_aicore_metrics: str = setting(
        "ACL_AICORE_PIPE_UTILIZATION", "aclprofAicoreMetrics", f.aicore_metrics,
        ", ".join(f"`{name}`" for name in f.AICORE_METRICS), "Group of AI core metrics for `acl_task_time` 1.",
    )  # fmt: skip
    torch_prof_stack: bool = setting(
        False, "torch_prof_stack", f.boolean, "`true`, `false`", "Call stacks with `acl_task_time` 3."
    )
    torch_prof_modules: bool = setting(
        False, "torch_prof_modules", f.boolean, "`true`, `false`", "Module hierarchy with `acl_task_time` 3."
    )
    torch_prof_step_num: int = setting(
        0, "torch_prof_step_num", f.all_if_below_one, "integer; below 1: all",
        "Steps recorded with `acl_task_time` 3.",
    )  # fmt: skip
    profiler_step_num: int = setting(
        -1, "profiler_step_num", f.step_limit, "integer from 1; -1: no limit",
        "Profiling stops after this many `modelRunnerExec` rows of one process, and `enable` is set to 0 in the file.",
    )  # fmt: skip

    def selects(self, domain: str, level: int) -> bool:
        """Whether rows of this domain and level are written; rows without a domain pass the domain filter."""
        return level <= self.profiler_level and (not self.domain or not domain or domain in self.domain)


@dataclass(frozen=True)
class Problem:
    """A field that is not used as written; ``str`` of it is the message for the user.

    Args:
        path: the config file.
        line: line of the key, from 1.
        field: name of the field.
        value: its value in the file.
        reason: what is wrong with it.
        used: what is used in its place; None for an unknown field.
    """

    path: str
    line: int
    field: str
    value: Any
    reason: str
    used: Any

    def __str__(self) -> str:
        shown = "" if self.used is None else f"; {as_written(self.field, self.used)} is used"
        return f'{self.path}:{self.line}: "{self.field}": {_bounded.repr(self.value)} {self.reason}{shown}'


def specs() -> Iterator[tuple[str, Field[Any], Any]]:
    """Attribute of ``ProfileConfig``, row of the field table, and default, in the order of the table."""
    defaults = ProfileConfig()
    for item in fields(ProfileConfig):
        yield item.name, item.metadata["field"], getattr(defaults, item.name)


def parse(text: str, path: str) -> tuple[ProfileConfig, list[Problem]]:
    """Read a config file.

    Args:
        text: its content.
        path: its path, for messages.

    Raises:
        ConfigError: the text is no JSON object.
    """
    try:
        data = json.loads(text.removeprefix("\ufeff"))  # editors on Windows write it
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: no valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1:1: no JSON object")
    lines = _lines(text)
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for attribute, spec, default in specs():
        if spec.name in data:
            value = data.pop(spec.name)
            try:
                values[attribute] = spec.parse(value)
            except FieldError as error:
                values[attribute] = used = error.used[0] if error.used else default
                problems.append(Problem(path, lines[spec.name], spec.name, value, str(error), used))
    for count, (name, value) in enumerate(data.items()):
        reason = f"is no known field and is ignored{_hint(name) if count < _HINTS else ''}"
        problems.append(Problem(path, lines[name], name, value, reason, None))
    return ProfileConfig(**values), problems


def _hint(name: str) -> str:
    known = {spec.name.lower(): spec.name for _, spec, _ in specs()}
    close = difflib.get_close_matches(name.lower(), known, 1) if len(name) < 64 else []
    return f" (is {known[close[0]]} meant?)" if close else ""


def _lines(text: str) -> dict[str, int]:
    """Line of each key of a valid JSON object, from 1; of keys that occur twice the last."""
    lines: dict[str, int] = {}
    line, seen = 1, 0
    for key, at, _, _ in members(text):
        line += text.count("\n", seen, at)
        seen = at
        lines[key] = line
    return lines


def members(text: str) -> Iterator[tuple[str, int, int, Any]]:
    """Key, offset of the key, offset of the value, and value of each member of a valid JSON object."""
    decode = json.JSONDecoder().raw_decode

    def skip(at: int) -> int:
        found = _SPACE.match(text, at)
        assert found is not None  # noqa: S101 - the pattern matches the empty string too
        return found.end()

    at = skip(text.index("{") + 1)
    while text[at] != "}":
        key, end = decode(text, at)
        value_at = skip(skip(end) + 1)
        value, value_end = decode(text, value_at)
        yield key, at, value_at, value
        at = skip(value_end)
        if text[at] == ",":
            at = skip(at + 1)


def default_text() -> str:
    """The file that is made when none exists, as ``ms_service_profiler`` makes it."""
    content = {
        "enable": 0,
        "prof_dir": f"{f.default_prof_dir()}/",
        "profiler_level": "INFO",
        "acl_task_time": 0,
        "acl_prof_task_time_level": "L0",
        "timelimit": 0,
        "domain": "",
    }
    return json.dumps(content, indent=4)


#: Defaults whose Python value is not what a user writes.
_WRITTEN = {
    "enable": "0",
    "prof_dir": "$HOME/.ms_server_profiler",
    "profiler_level": "INFO",
    "acl_prof_task_time_level": "L0",
}


def as_written(name: str, value: Any) -> str:
    """A value of ``ProfileConfig`` as it would stand in the file."""
    if value == getattr(ProfileConfig(), name, None) and name in _WRITTEN:
        return _WRITTEN[name]
    return json.dumps(value) if isinstance(value, (int, str)) else json.dumps(";".join(map(str, value)))


def field_table() -> str:
    """The field table as Markdown, for ``docs/native-config.md``."""
    rows = ["| Field | Accepted | Default | Meaning |", "|---|---|---|---|"]
    for _, spec, default in specs():
        shown = "empty" if default in ((), frozenset()) else f"`{as_written(spec.name, default)}`"
        rows.append(f"| `{spec.name}` | {spec.accepts} | {shown} | {spec.meaning} |")
    return "\n".join(rows) + "\n"
