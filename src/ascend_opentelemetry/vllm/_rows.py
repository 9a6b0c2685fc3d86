"""Native rows of vLLM's events, with the names and values that ``msserviceprofiler analyze`` joins on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ascend_opentelemetry.recorder import NativeRow

ENGINE = "Engine"
SCHEDULE = "Schedule"
KV_CACHE = "Schedule.KVCache"
EXECUTE = "Execute"

#: The same separators and ASCII escapes as ``json.dumps``, without its argument checks.
encode = json.JSONEncoder().encode


def event_row(time: int, name: str, domain: str, args: dict[str, Any]) -> NativeRow:
    """An event: duration 0, ``type`` last."""
    args["type"] = 0
    return time, 0, name, domain, encode(args)


def span_row(start: int, end: int, name: str, domain: str, rid_json: str) -> NativeRow:
    """A span whose request list is JSON already, so that rows of one step share its text."""
    return start, end - start, name, domain, f'{{"type": 2, "rid": {rid_json}}}'


def queue_row(time: int, name: str, rid: str | Sequence[str], queue: str, size: int) -> NativeRow:
    """Membership of a scheduler queue changed; ``size`` is its length afterwards."""
    return event_row(time, name, SCHEDULE, {"rid": rid, "QueueSize=": size, "scope#QueueName": queue})


def kv_values(total: int, free: int, allocated: int) -> dict[str, Any]:
    """Block counts that every row of the KV domain carries: the analyzer draws 0 where they are missing."""
    used = total - free
    return {
        "TotalBlocks=": total,
        "UsedBlocks=": used,
        "FreeBlocks=": free,
        "UsagePercent=": round(used / total, 6) if total else 0,
        "AllocatedBlocks=": allocated,
    }


def id_objects(request_ids: Iterable[str]) -> str:
    """``[{"rid": id}, ...]`` as JSON."""
    objects = "}, {".join(['"rid": ' + encode(request_id) for request_id in request_ids])
    return f"[{{{objects}}}]" if objects else "[]"
