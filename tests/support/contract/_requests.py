"""Checks across the rows, and files, of one service: how requests and steps join."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from tests.support.contract._attributes import SCHEDULE, misspelled
from tests.support.contract._database import Database, Row
from tests.support.contract._violation import Violation

HASH_SUFFIX = re.compile(r"(.+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Service:
    """The files of one Trace_Service folder.

    ``complete`` says that recording covered the whole life of every request.
    """

    databases: Sequence[Database]
    complete: bool

    def named(self, *names: str) -> Iterator[Row]:
        return (row for db in self.databases for row in db.named(*names))

    @cached_property
    def requests(self) -> dict[str, Row]:
        """The ``httpReq`` row of each request id."""
        return {str(rid): row for row in self.named("httpReq") for rid in row.rids}

    def origin(self, rid: object) -> str:
        """The ``httpReq`` id that the analyzer takes a rid for."""
        text = str(rid)
        match = HASH_SUFFIX.fullmatch(text)
        return match[1] if match and text not in self.requests and match[1] in self.requests else text


Check = Callable[[Service], Iterator[Violation]]


def _steps(db: Database, *names: str) -> list[Row]:
    rows = (row for row in db.named(*names) if isinstance(row.args.get("rid"), list) and row.args["rid"])
    return sorted(rows, key=lambda row: (row.start, row.id))


def _partners(scheduled: list[Row], executed: list[Row]) -> list[Row]:
    """The schedule rows whose text is that of the next modelExec row; where none is, the one at its place."""
    found: list[Row] = []
    at = 0
    for row in executed:
        same = (i for i in range(at, len(scheduled)) if scheduled[i].args["rid"] == row.args["rid"])
        at = next(same, at)
        found += scheduled[at : at + 1]
        at += 1
    return found


def trap_12(service: Service) -> Iterator[Violation]:
    """Schedule and modelExec rows of one file say the same steps, with the same rid text, in the same order."""
    for db in service.databases:
        scheduled, executed = _steps(db, *SCHEDULE), _steps(db, "modelExec")
        if not scheduled or not executed:
            continue
        if not service.complete:
            # a recording may open inside the first step and have several windows, each closing inside a step: every
            # modelExec has a schedule row, in the same order, and not the other way round
            executed = [row for row in executed if row.start >= scheduled[0].start]
            scheduled = _partners(scheduled, executed)
        for schedule, execute in zip_longest(scheduled, executed):
            texts = [row and json.dumps(row.args["rid"]) for row in (schedule, execute)]
            if texts[0] != texts[1]:
                row = execute or schedule
                message = f"{row.name} differs from its other row:\n  schedule  {texts[0]}\n  modelExec {texts[1]}"
                yield Violation(12, db.path, row.id, message)
                break


def trap_14(service: Service) -> Iterator[Violation]:
    """Each request has one detokenize with a scalar rid, not later than any other row of its tokens."""
    scalar: dict[str, list[Row]] = {}
    others: dict[str, list[Row]] = {}
    for row in service.named("detokenize", "httpRes"):
        first = row.name == "detokenize" and not isinstance(row.args.get("rid"), list)
        if first or row.name == "detokenize" or row.args.get("replyTokenSize=", 0):
            for rid in row.rids:
                (scalar if first else others).setdefault(service.origin(rid), []).append(row)
    for rid, request in service.requests.items():
        firsts, rest = scalar.get(rid, []), others.get(rid, [])
        if not firsts and not rest:
            continue
        if len(firsts) != 1:
            message = f"request {rid} has {len(firsts)} detokenize rows with a scalar rid, expected 1"
            yield Violation(14, request.file, request.id, message)
        elif rest and min(row.start for row in rest) < firsts[0].start:
            message = f"the detokenize row of request {rid} is later than its tokens"
            yield Violation(14, firsts[0].file, firsts[0].id, message)


def trap_15(service: Service) -> Iterator[Violation]:
    """A request that leaves RUNNING is queued or scheduled again: it was preempted, it did not end."""
    for db in service.databases:
        last: dict[str, int] = {}
        for row in db.named("Enqueue", *SCHEDULE):
            for rid in map(service.origin, row.rids):
                last[rid] = max(last.get(rid, 0), row.start)
        for row in db.named("Dequeue"):
            if row.args.get("scope#QueueName") != "RUNNING":
                continue
            for rid in map(service.origin, row.rids):
                if last.get(rid, 0) < row.start:
                    message = f"request {rid} leaves RUNNING and is not queued again: its queue wait is its life"
                    yield Violation(15, db.path, row.id, message)


def trap_19(service: Service) -> Iterator[Violation]:
    """KVCacheStatus rows lie in the files of schedule rows."""
    if not any(True for _ in service.named(*SCHEDULE)):
        return
    for db in service.databases:
        if not any(True for _ in db.named(*SCHEDULE)):
            for row in db.named("KVCacheStatus"):
                yield Violation(19, db.path, row.id, "KVCacheStatus in a file without schedule rows")


def trap_23(service: Service) -> Iterator[Violation]:
    """In a complete recording every rid is, or extends, one of httpReq."""
    if not service.complete or not service.requests:
        return
    for db in service.databases:
        for row in db.rows:
            for rid in row.rids:
                if not misspelled(rid) and service.origin(rid) not in service.requests:
                    yield Violation(23, db.path, row.id, f"{row.name} has rid {rid!r}, which no httpReq has")


CHECKS: tuple[Check, ...] = (trap_12, trap_14, trap_15, trap_19, trap_23)
