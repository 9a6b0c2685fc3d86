"""``ascend-otel config``: the file that switches the native files on and off."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ascend_opentelemetry import native
from ascend_opentelemetry.cli import _completion, _table
from ascend_opentelemetry.cli._edit import edit, write
from ascend_opentelemetry.environment_variables import SERVICE_PROF_CONFIG_PATH

_SPECS = {spec.name: (attribute, spec, default) for attribute, spec, default in native.specs()}
_LEVELS = {native.LEVELS[name]: name for name in ("ERROR", "INFO", "DETAILED", "VERBOSE")}


class _CommandError(Exception):
    """What kept a command from its work, for people."""


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "config", help=f"show or change the file that {SERVICE_PROF_CONFIG_PATH} names"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_action(actions, "init", _init, "make the file, with profiling off")
    _add_action(actions, "show", _show, "show what is in force (exit code 1: with warnings)")
    _add_action(actions, "enable", lambda options: _change(options, {"enable": 1}), "turn profiling on")
    _add_action(actions, "disable", lambda options: _change(options, {"enable": 0}), "turn profiling off")
    change = _add_action(actions, "set", _set, "change fields; the rest of the file stays as it is")
    change.add_argument("values", nargs="+", metavar="FIELD=VALUE")
    change.set_defaults(**{_completion.WORDS: [f"{name}=" for name in _SPECS]})


def _add_action(
    actions: Any, name: str, run: Callable[[argparse.Namespace], int], meaning: str
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=meaning)
    action.add_argument("--file", metavar="FILE", help=f"in place of {SERVICE_PROF_CONFIG_PATH}")
    action.add_argument("--json", action="store_true", help="print JSON")

    def run_safely(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except (_CommandError, native.ConfigError) as error:
            sys.stderr.write(f"ascend-otel: {error}\n")
            return 2

    action.set_defaults(run=run_safely)
    return action


def _init(options: argparse.Namespace) -> int:
    path = _path(options)
    try:
        # mode 0600 as ms_service_profiler makes it; the resolved path, since O_EXCL follows no symlink
        file = os.open(path.resolve(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(native.default_text())
    except FileExistsError:
        raise _CommandError(f"{path}: exists already; it is left as it is") from None
    except OSError as error:
        raise _CommandError(f"{path}: cannot be made: {error.strerror}") from None
    _say(options, {"file": str(path)}, [f"{path}: made, with profiling off"])
    return 0


def _show(options: argparse.Namespace) -> int:
    path = _path(options)
    text = _read(path)
    config, problems = native.parse(text, str(path))
    written = {key for key, _, _, _ in native.members(text)}
    wrong = {problem.field for problem in problems}
    fields: dict[str, dict[str, Any]] = {}
    for name, (attribute, _, default) in _SPECS.items():
        value = getattr(config, attribute)
        own = name in written and (name not in wrong or value != default)
        fields[name] = {"value": _as_json(name, value), "source": "file" if own else "default"}
    rows = [(name, _shown(field["value"]), field["source"]) for name, field in fields.items()]
    warnings = [str(problem) for problem in problems]
    lines = [str(path), *_table.lines(rows), *(f"warning: {warning}" for warning in warnings)]
    _say(options, {"file": str(path), "fields": fields, "warnings": warnings}, lines)
    return 1 if problems else 0


def _set(options: argparse.Namespace) -> int:
    changes: dict[str, Any] = {}
    for argument in options.values:
        name, separator, text = argument.partition("=")
        if not separator:
            raise _CommandError(f"{argument!r} is not FIELD=VALUE")
        changes[name] = _value(name, text)
    return _change(options, changes)


def _change(options: argparse.Namespace, changes: Mapping[str, Any]) -> int:
    path = _path(options)
    text = _read(path)
    native.parse(text, str(path))  # raises where the text is no JSON object
    before = {key: value for key, _, _, value in native.members(text)}
    changed = edit(text, changes)
    if changed != text:
        try:
            write(path, changed)
        except OSError as error:
            raise _CommandError(f"{path}: cannot be written: {error.strerror}") from None
    report = {name: {"before": before.get(name), "after": value} for name, value in changes.items()}
    lines = [f"{name}: {_was(before, name)}{_shown(value)}" for name, value in changes.items()]
    if before.get("enable") == 1 and "enable" not in changes:
        lines.append("profiling is on: this counts when it is turned on the next time")
    _say(options, {"file": str(path), "changed": report}, [str(path), *lines])
    return 0


def _value(name: str, text: str) -> Any:
    """The JSON value that a field takes from its text on the command line."""
    if name not in _SPECS:
        close = difflib.get_close_matches(name, _SPECS, 1)
        hint = f"is {close[0]} meant?" if close else f"there are {', '.join(_SPECS)}"
        raise _CommandError(f"{name}: is no known field; {hint}")
    spec = _SPECS[name][1]
    readings = list(_readings(text))
    refusals = [_refusal(spec, value) for value in readings]
    if "" in refusals:
        return readings[refusals.index("")]
    raise _CommandError(f"{name}: {text!r} {refusals[0]}; accepted: {spec.accepts.replace('`', '')}")


def _refusal(spec: native.Field[Any], value: Any) -> str:
    """Why a field does not take a value; empty if it does."""
    try:
        spec.parse(value)
    except native.FieldError as error:
        return str(error)
    return ""


def _readings(text: str) -> Iterable[Any]:
    """The text as JSON, if it is a number, a string, true or false; then as a string without quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        if isinstance(value, (int, str)):
            yield value
    yield text


def _path(options: argparse.Namespace) -> Path:
    named = options.file or os.environ.get(SERVICE_PROF_CONFIG_PATH, "")
    if not named:
        raise _CommandError(f"no file is named: give --file, or set {SERVICE_PROF_CONFIG_PATH}")
    return Path(named).absolute()


def _read(path: Path) -> str:
    try:
        return native.read(path)[0]
    except FileNotFoundError:
        raise _CommandError(f"{path}: does not exist; ascend-otel config init makes it") from None
    except OSError as error:
        raise _CommandError(f"{path}: cannot be read: {error.strerror}") from None


def _as_json(name: str, value: Any) -> Any:
    """An effective value as it would stand in the file."""
    if name == "enable":
        return int(value)
    if name == "profiler_level":
        return _LEVELS.get(value, value)
    if isinstance(value, (frozenset, tuple)):
        parts = sorted(value) if isinstance(value, frozenset) else [part for part in value if part is not None]
        return ("," if name == "aclDataTypeConfig" else ";").join(map(str, parts))
    return value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _was(before: Mapping[str, Any], name: str) -> str:
    return f"{_shown(before[name])} -> " if name in before else ""


def _say(options: argparse.Namespace, report: Mapping[str, Any], lines: Iterable[str]) -> None:
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if options.json else "\n".join(lines) + "\n")
