"""Record types of a program's own names, and what the drain makes of their records."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from ascend_opentelemetry.recorder import NativeRow, Record, RecordType, recorder

_logger = logging.getLogger(__name__)

#: Names of which sinks keep what they know; the spans of later ones share one name a domain.
MAX_NAMES = 1024
#: Domains that such shared names may come from.
MAX_DOMAINS = 256
OTHER = "other"

#: Attributes that end the analysis of all files, as columns of the analyzer's own.
RESERVED = frozenset(
    {
        "name", "domain", "pid", "tid", "id", "duration", "depth", "track_id", "cname", "flag_id", "start_time",
        "end_time", "during_time", "start_datetime", "end_datetime", "args", "message", "markId", "prof_id", "hostuid",
        "hostname", "ppid", "dpRankId", "event"
    }
)  # fmt: skip
#: Rows that end the analysis where one has no ``rid``.
_BATCHES = frozenset({"batchFrameworkProcessing", "BatchSchedule"})

_MAX_SAID = 256
_PRIMITIVES = (str, bool, int, float)

_types: dict[tuple[str, str, int], RecordType] = {}
_said: set[str] = set()
_encode = json.JSONEncoder(allow_nan=False).encode


def record_type(domain: str, name: str, level: int) -> RecordType | None:
    """The type of a name, with its switches as they are now.

    They are looked up each time, since types that the recorder keeps up to date can never be given back to it.

    Returns:
        None, counted as a dropped record, when there are too many names and domains.
    """
    key = (domain, name, level)
    found = _types.get(key)
    if found is None:
        found = _new_type(key)
        if found is None:
            return None
    recorder.refresh(found)
    return found


def _new_type(key: tuple[str, str, int]) -> RecordType | None:
    if len(_types) >= MAX_NAMES:
        warn_once(
            OTHER,
            'Profiler: more than %d names: further spans are called "other"; put what changes, such as the number in'
            " %r, into an attribute",
            MAX_NAMES,
            key[1],
        )
        key = (key[0], OTHER, key[2])
        if key in _types:
            return _types[key]
        if len(_types) >= MAX_NAMES + MAX_DOMAINS:
            recorder.dropped += 1
            return None
    domain, name, level = key
    return _types.setdefault(key, RecordType(domain, name, level=level, rows=_rows, attributes=_span_attributes))


def warn_once(key: str, message: str, *args: object) -> None:
    """Log a warning, unless there was one of this key."""
    if key not in _said and len(_said) < _MAX_SAID:
        _said.add(key)
        _logger.warning(message, *args)


def _rows(record: Record) -> tuple[NativeRow]:
    found, start, end, _, _, (name, attributes), _ = record
    if name in _BATCHES and "rid" not in attributes:
        warn_once(name, 'Profiler: %s without res(...) is called "%s_": msserviceprofiler would fail', name, name)
        name = f"{name}_"
    args = _encode({_native_key(key, attributes): value for key, value in attributes.items()})
    return ((start, end - start, name, found.domain, args),)


def _native_key(key: str, attributes: Mapping[str, Any]) -> str:
    if key in RESERVED or key in recorder.meta or (key == "from" and "to" not in attributes):
        warn_once(
            key, 'Profiler: attribute "%s" is called "%s_" in native files: msserviceprofiler would fail', key, key
        )
        return f"{key}_"
    return key


def otel_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The OTel form of a row's attributes: no marks of the native format in names, no maps and mixed lists."""
    return {
        _otel_key(key): _otel_value(value) for key, value in attributes.items() if key != "type" and value is not None
    }


def _span_attributes(record: Record) -> list[tuple[str, Any]]:
    name, attributes = record[5]
    found = otel_attributes(attributes)
    if name != record[0].name:
        found["name"] = name
    return list(found.items())


def _otel_key(key: str) -> str:
    if key.startswith("scope#"):
        return f"scope.{key[6:]}" if key != "scope#" else "scope"
    if key.endswith("="):
        return key[:-1]
    return f"{key[:-1]}.increment" if key.endswith("+") else key


def _otel_value(value: Any) -> Any:
    if isinstance(value, _PRIMITIVES):
        return value
    if type(value) is list and any({type(item) for item in value} <= {kind} for kind in _PRIMITIVES):
        return tuple(value)
    return _encode(value)
