"""Checks of the attributes of each row, as the analyzer turns them into columns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.support.contract._database import Database, Row, decode
from tests.support.contract._violation import Violation

SCHEDULE = ("batchFrameworkProcessing", "BatchSchedule")
KV_DOMAINS = ("KVCache", "Schedule.KVCache")

FRAME_COLUMNS = {
    "name", "domain", "pid", "tid", "id", "duration", "depth", "track_id", "cname", "flag_id", "start_time",
    "end_time", "during_time", "start_datetime", "end_datetime", "args", "message", "markId", "prof_id", "hostuid",
}  # fmt: skip
MEANINGFUL = {
    "status", "batchType", "role", "res_list", "rid_list", "token_id_list", "dp_list", "blocks", "endFlag", "dp_rank",
    "rank", "batch_id", "total_blocks", "used_blocks", "free_blocks", "blocks_allocated", "blocks_freed",
    "kvcache_usage_rate", "prefill_batch_size", "decode_batch_size", "prefill_scheduled_tokens",
    "decode_scheduled_tokens", "total_scheduled_tokens",
}  # fmt: skip
#: Attributes with a meaning on the rows that own them, and damage elsewhere.
OWNED = {"batch_type": (*SCHEDULE, "modelExec"), "batch_size": ("modelExec",)}
BATCH_TYPES = ("Prefill", "Decode", "Prefill, Decode")
MOST_KEYS = 200

TYPE_EVENT, TYPE_SPAN, TYPE_LINK = 0, 2, 3

Check = Callable[[Database], Iterator[Violation]]


def _flat(args: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in args.items():
        if isinstance(value, dict) and key != "spec_decode_accepted_by_req":
            yield from ((f"{key}.{inner}", inner_value) for inner, inner_value in _flat(value))
        else:
            yield key, value


def _with_key(db: Database, trap: int, keys: Iterable[str], why: str) -> Iterator[Violation]:
    forbidden = set(keys)
    for row in db.rows:
        for key in forbidden.intersection(key for key, _ in _flat(row.args)):
            yield Violation(trap, db.path, row.id, f"{row.name} has an attribute {key!r}: {why}")


def trap_01(db: Database) -> Iterator[Violation]:
    """An attribute cannot have the name of a frame column, nor of a Meta row of the file."""
    names = FRAME_COLUMNS | {row["name"] for row in db.meta}
    return _with_key(db, 1, names, "the analyzer has a column of this name")


def trap_02(db: Database) -> Iterator[Violation]:
    return _with_key(db, 2, ["event"], "the analyzer adds a column of this name")


def trap_03(db: Database) -> Iterator[Violation]:
    """``from`` makes a row a link, which needs ``to``."""
    for row in db.rows:
        if "from" in row.args and ("to" not in row.args or row.args.get("type") != TYPE_LINK):
            yield Violation(3, db.path, row.id, f"{row.name} has 'from' and is no link with 'to'")


def trap_04(db: Database) -> Iterator[Violation]:
    for row in db.named(*SCHEDULE):
        if "rid" not in row.args:
            yield Violation(4, db.path, row.id, f"{row.name} has no rid")


def trap_08(db: Database) -> Iterator[Violation]:
    for row in db.slices:
        if decode(row["args"]) is None:
            yield Violation(8, db.path, row["id"], f"args is no JSON object: {row['args']!r}")


def trap_09(db: Database) -> Iterator[Violation]:
    """Attributes that switch the analyzer's logic, or that it overwrites."""
    yield from _with_key(db, 9, MEANINGFUL, "it has a meaning for the analyzer")
    for row in db.rows:
        for key, owners in OWNED.items():
            if key in row.args and row.name not in owners:
                yield Violation(9, db.path, row.id, f"{row.name} has an attribute {key!r}, which {owners} own")


def trap_10(db: Database) -> Iterator[Violation]:
    """Keys ending in ``=`` or ``+`` are metrics."""
    for row in db.rows:
        for key, value in _flat(row.args):
            if key.endswith(("=", "+")) and (isinstance(value, bool) or not isinstance(value, (int, float))):
                yield Violation(10, db.path, row.id, f"{row.name} has a metric {key!r} of {value!r}, not a number")


def misspelled(rid: object) -> str | None:
    """What is wrong with one request id, None if nothing."""
    if isinstance(rid, bool) or not isinstance(rid, (str, int)):
        return "is neither text nor an integer"
    text = str(rid)
    if not text or any(character in text for character in ",:{"):
        return "is empty or has one of , : {"
    try:
        normal = str(int(text))
    except ValueError:
        return None
    return None if normal == text else f"becomes {normal!r}"


def trap_11(db: Database) -> Iterator[Violation]:
    """Request ids that get a row of their own in request.csv, under their own name."""
    for row in db.rows:
        for rid in row.rids:
            if wrong := misspelled(rid):
                yield Violation(11, db.path, row.id, f"{row.name} has a rid {rid!r}, which {wrong}")


def _types(rid: object) -> list[Any]:
    elements = rid if isinstance(rid, list) else []
    return [element["type"] for element in elements if isinstance(element, dict) and "type" in element]


def trap_16(db: Database) -> Iterator[Violation]:
    """The analyzer's spelling of batch types, in agreement with the types of the requests."""
    for row in db.rows:
        if "batch_type" not in row.args:
            continue
        batch_type = row.args["batch_type"]
        types = _types(row.args.get("rid"))
        expected = ", ".join(name for value, name in ((0, "Prefill"), (1, "Decode")) if value in types)
        if batch_type not in BATCH_TYPES or (types and batch_type != expected):
            expected = expected or f"one of {BATCH_TYPES}"
            yield Violation(16, db.path, row.id, f"{row.name} has batch_type {batch_type!r}, expected {expected}")


def trap_17(db: Database) -> Iterator[Violation]:
    for row in db.rows:
        if row.cat in KV_DOMAINS and not {"TotalBlocks=", "FreeBlocks="} <= row.args.keys():
            yield Violation(17, db.path, row.id, f"{row.name} draws 0 without TotalBlocks= and FreeBlocks=")


def trap_18(db: Database) -> Iterator[Violation]:
    for row in db.named("CacheHitRate"):
        if row.cat != "Schedule.KVCache":
            yield Violation(18, db.path, row.id, f"CacheHitRate has domain {row.cat!r}, not Schedule.KVCache")


def _not_finite(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_not_finite, value.values()))
    if isinstance(value, list):
        return any(map(_not_finite, value))
    return isinstance(value, float) and not math.isfinite(value)


def trap_22(db: Database) -> Iterator[Violation]:
    for row in db.rows:
        if _not_finite(row.args):
            yield Violation(22, db.path, row.id, f"{row.name} has a NaN or an infinity: {row.args}")


def trap_44(db: Database) -> Iterator[Violation]:
    """Every key is a column of the whole file."""
    keys = {key for row in db.rows for key, _ in _flat(row.args)}
    if len(keys) >= MOST_KEYS:
        yield Violation(44, db.path, None, f"the file has {len(keys)} distinct attribute keys")


def args_text(db: Database) -> Iterator[Violation]:
    """The text is ``json.dumps`` of a dict with its default separators and escapes."""
    for row in db.slices:
        args = decode(row["args"])
        if args is not None and json.dumps(args) != row["args"]:
            yield Violation("args", db.path, row["id"], f"not the text of json.dumps: {row['args']}")


def _type_is_right(row: Row) -> bool:
    keys = [*row.args]
    kind = row.args.get("type")
    if isinstance(kind, bool) or not keys:
        return False
    if kind == TYPE_EVENT:
        return keys[-1] == "type" and row.duration == 0
    if kind == TYPE_LINK:
        return keys == ["type", "from", "to"] and row.name == "Link" and row.duration == 0
    return kind == TYPE_SPAN and keys[0] == "type"


def row_type(db: Database) -> Iterator[Violation]:
    """``type`` is 0 and last for events, 2 and first for spans, 3 for links."""
    for row in db.rows:
        if not _type_is_right(row):
            yield Violation("type", db.path, row.id, f"{row.name} has a wrong or misplaced type: {row.args}")


CHECKS: tuple[Check, ...] = (
    trap_01, trap_02, trap_03, trap_04, trap_08, trap_09, trap_10, trap_11, trap_16, trap_17, trap_18, trap_22,
    trap_44, args_text, row_type,
)  # fmt: skip
