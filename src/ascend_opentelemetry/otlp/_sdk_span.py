"""What both encodings of a record, bytes and ``ReadableSpan``, share."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.recorder._record import Record, RecordType

#: Type of the records that carry ended SDK spans: ``Record.values`` is the ``ReadableSpan``.
SDK_SPAN = RecordType("", "", native=False)


def all_scopes(name: str) -> bool:  # noqa: ARG001
    """Where nobody configures tracers: each instrumentation scope is enabled."""
    return True


def attributes_of(record: Record) -> dict[str, Any]:
    """Return the attributes of a record's span; those of ``extra`` win, None is not among them."""
    record_type, values, extra = record[0], record[5], record[6]
    pairs = zip(record_type.keys, values) if record_type.attributes is None else record_type.attributes(record)  # noqa: B905
    attributes = dict(pairs)
    if extra is not None:
        attributes.update(extra.attributes)
    return {key: value for key, value in attributes.items() if value is not None}
