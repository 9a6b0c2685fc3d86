"""Record types whose values are pairs already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ascend_opentelemetry.recorder import Record, RecordType


def _pairs(record: Record) -> Iterable[tuple[str, Any]]:
    return record[5]


def traced_type(domain: str, name: str, kind: int) -> RecordType:
    """A type of spans only; ``Record.values`` holds ``(key, value)`` pairs."""
    return RecordType(domain, name, kind=kind, native=False, attributes=_pairs)
