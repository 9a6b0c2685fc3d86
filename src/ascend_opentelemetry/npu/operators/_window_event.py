"""The event of a window of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ascend_opentelemetry.npu._scope import device_attributes
from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._statistics import Operator
from ascend_opentelemetry.npu.operators._windows import KEY
from ascend_opentelemetry.semconv import attributes as names
from ascend_opentelemetry.semconv.events import NPU_OPERATOR_WINDOW

#: Operators of a window that its event names.
_TOP = 10
_NS = 1e9

Attributes: TypeAlias = tuple[tuple[str, Any], ...]


class Event(NamedTuple):
    """An OTel event: a log record with a name."""

    name: str
    time_ns: int
    attributes: Attributes
    body: Mapping[str, Any] | None = None


def window_event(rows: Sequence[Sequence[int]], keys: Sequence[Operator], device: str, step: int | None) -> Event:
    """The event of a window.

    Args:
        rows: of a ``Statistics``, of this window and device, the longest first.
        keys: of the numbers in the rows.
        device: number of the NPU, or empty.
        step: the profiled step that the window is; None for another one.
    """
    first = min(row[columns.FIRST] for row in rows)
    last = max(row[columns.LAST] for row in rows)
    attributes = (
        *device_attributes(device),
        *(((names.NPU_STEP_ID, step),) if step is not None else ()),
        (names.NPU_WINDOW_DURATION, (last - first) / _NS),
        (names.NPU_OPERATOR_COUNT, sum(row[columns.COUNT] for row in rows)),
        (names.NPU_OPERATOR_TIME, sum(row[columns.TOTAL] for row in rows) / _NS),
    )
    top = [
        {
            "type": keys[row[KEY]].type,
            "core": keys[row[KEY]].core,
            "count": row[columns.COUNT],
            "time": row[columns.TOTAL] / _NS,
            "max": row[columns.MAX] / _NS,
        }
        for row in rows[:_TOP]
    ]
    return Event(NPU_OPERATOR_WINDOW, first, attributes, {"operators": top})
