"""Each check of the contract fails on a small folder that is wrong in exactly this one way."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.contract import check
from tests.support.contract.example import (
    API_DB,
    BLOCKS,
    CORE_A,
    CORE_DB,
    META_DB,
    MS,
    STEP_1,
    STEP_2,
    STEP_3,
    T0,
    WORKER_DB,
    A,
    B,
    Change,
    add,
    append,
    both,
    build_service,
    drop,
    edit,
    event,
    metrics,
    new_meta,
    only,
    patch,
    queue,
    rename,
    set_column,
    span,
    sql,
)

NAN_TEXT = '\'{"rid": "cmpl-a", "x": {"y": [NaN]}, "type": 0}\''
TWO_DAYS = 2 * 24 * 3600 * 10**9

CASES: list[tuple[str, int | str, str, int | None, Change]] = [
    ("frame_column", 1, API_DB, 1, add(API_DB, 1, depth=3)),
    ("meta_name", 1, API_DB, 1, add(API_DB, 1, dpRankId=3)),
    ("event", 2, API_DB, 1, add(API_DB, 1, event="x")),
    ("from_alone", 3, CORE_DB, 1, add(CORE_DB, 1, **{"from": "x"})),
    ("from_on_a_row", 3, CORE_DB, 1, add(CORE_DB, 1, **{"from": "x", "to": "y"})),
    ("schedule_without_rid", 4, WORKER_DB, 5, append(WORKER_DB, span("Schedule", "BatchSchedule", 40, 1))),
    ("meta_without_slice", 5, API_DB, None, new_meta(API_DB, "name TEXT,value TEXT")),
    ("no_meta", 6, API_DB, None, sql(API_DB, "DROP TABLE Meta")),
    ("args_null", 8, WORKER_DB, 4, set_column(WORKER_DB, 4, "args", "NULL")),
    ("args_list", 8, WORKER_DB, 4, set_column(WORKER_DB, 4, "args", "'[1]'")),
    ("args_empty", 8, WORKER_DB, 4, set_column(WORKER_DB, 4, "args", "''")),
    ("args_malformed", 8, WORKER_DB, 4, set_column(WORKER_DB, 4, "args", "'{\"type\": 0'")),
    ("status", 9, API_DB, 1, add(API_DB, 1, status="waiting")),
    ("batch_size_on_schedule", 9, CORE_DB, 6, add(CORE_DB, 6, batch_size=8)),
    ("metric_text", 10, API_DB, 9, add(API_DB, 9, **{"replyTokenSize=": "2"})),
    ("metric_null", 10, API_DB, 9, add(API_DB, 9, **{"replyTokenSize=": None})),
    ("increment_bool", 10, API_DB, 9, add(API_DB, 9, **{"WAITING+": True})),
    ("rid_comma", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid="a,b")),
    ("rid_colon", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid=["a:b"])),
    ("rid_brace", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid=[{"rid": "{a"}])),
    ("rid_zeros", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid="007")),
    ("rid_empty", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid="")),
    ("rid_null", 11, WORKER_DB, 4, add(WORKER_DB, 4, rid=[None])),
    ("other_step", 12, CORE_DB, 13, edit(CORE_DB, 13, lambda args: {**args, "rid": STEP_2[::-1]})),
    ("other_key_order", 12, CORE_DB, 8, edit(
        CORE_DB, 8, lambda args: {**args, "rid": [dict(sorted(STEP_1[0].items()))]})),
    ("step_missing", 12, CORE_DB, 16, sql(CORE_DB, "DELETE FROM slice WHERE id = 13")),
    ("step_twice", 12, CORE_DB, 18, append(
        CORE_DB, span("Execute", "modelExec", 40, 7, rid=STEP_3, batch_type="Decode", batch_size=1))),
    ("no_hostname", 13, API_DB, None, sql(API_DB, "DELETE FROM Meta WHERE name = 'hostname'")),
    ("list_only", 14, API_DB, 3, sql(API_DB, "DELETE FROM slice WHERE id = 7")),
    ("late", 14, API_DB, 7, set_column(API_DB, 7, "timestamp", f"{T0 + 23 * MS}, end_time = {T0 + 23 * MS}")),
    ("scalar_twice", 14, API_DB, 3, append(API_DB, event("Engine", "detokenize", 33, rid=B))),
    ("no_detokenize", 14, API_DB, 1, sql(API_DB, "DELETE FROM slice WHERE id BETWEEN 5 AND 8 AND id <> 7")),
    ("dequeue_at_the_end", 15, CORE_DB, 18, append(CORE_DB, queue("Dequeue", 23.1, [CORE_A], 1, "RUNNING"))),
    ("no_blank", 16, CORE_DB, 13, add(CORE_DB, 13, batch_type="Prefill,Decode")),
    ("other_types", 16, CORE_DB, 13, add(CORE_DB, 13, batch_type="Decode")),
    ("free_without_blocks", 17, CORE_DB, 14, drop(CORE_DB, 14, "FreeBlocks=")),
    ("hit_rate_domain", 18, CORE_DB, 2, set_column(CORE_DB, 2, "cat", "'KVCache'")),
    ("kv_elsewhere", 19, WORKER_DB, 5, append(
        WORKER_DB, metrics("Schedule.KVCache", "KVCacheStatus", 40, [CORE_A], BLOCKS))),
    ("nan", 22, API_DB, 1, set_column(API_DB, 1, "args", NAN_TEXT)),
    ("infinity", 22, API_DB, 9, add(API_DB, 9, **{"replyTokenSize=": float("inf")})),
    ("unknown_rid", 23, WORKER_DB, 1, edit(WORKER_DB, 1, lambda args: {**args, "rid": [f"{A}-0a1b2c3"]})),
    ("epoch", 25, WORKER_DB, 4, set_column(WORKER_DB, 4, "timestamp", "0, end_time = 0")),
    ("future", 25, WORKER_DB, 4, set_column(
        WORKER_DB, 4, "timestamp", f"{time.time_ns() + TWO_DAYS}, end_time = {time.time_ns() + TWO_DAYS}")),
    ("negative", 25, WORKER_DB, 3, set_column(WORKER_DB, 3, "duration", "-1, end_time = timestamp - 1")),
    ("years", 25, WORKER_DB, 3, set_column(
        WORKER_DB, 3, "duration", f"{TWO_DAYS}, end_time = timestamp + {TWO_DAYS}")),
    ("end_time", 25, WORKER_DB, 3, set_column(WORKER_DB, 3, "end_time", "end_time + 1")),
    ("float_time", 25, WORKER_DB, 4, set_column(WORKER_DB, 4, "timestamp", "timestamp + 0.5")),
    ("file_mode", 34, API_DB, None, lambda trace: (trace / API_DB).chmod(0o660)),
    ("unreadable", 34, API_DB, None, lambda trace: (trace / API_DB).chmod(0o440)),
    ("trace_mode", 34, API_DB, None, both(only(API_DB), lambda trace: trace.chmod(0o775))),
    ("date_mode", 34, API_DB, None, both(only(API_DB), lambda trace: trace.parent.chmod(0o755))),
    ("backup", 37, f"{API_DB}.bak", None, lambda trace: shutil.copy2(trace / API_DB, trace / f"{API_DB}.bak")),
    ("other_host", 37, META_DB.replace("node-a", "node-b"), None, rename(META_DB, META_DB.replace("node-a", "node-b"))),
    ("other_pid", 37, "ms_service_node-a-105.db", None, rename(WORKER_DB, "ms_service_node-a-105.db")),
    ("blank_in_name", 38, "ms_service_node a-103.db", None, rename(WORKER_DB, "ms_service_node a-103.db")),
    ("no_pid_in_name", 38, "ms_service_node.db", None, rename(WORKER_DB, "ms_service_node.db")),
    ("keys", 44, WORKER_DB, None, add(WORKER_DB, 4, many=dict.fromkeys(map(str, range(197))))),
    ("column_type", "schema", META_DB, None, new_meta(META_DB, "name TEXT, value TEXT, slice TEXT")),
    ("index", "schema", API_DB, None, sql(API_DB, "CREATE INDEX i ON slice(timestamp)")),
    ("view", "schema", API_DB, None, sql(API_DB, "CREATE VIEW v AS SELECT 1")),
    ("no_flow", "schema", API_DB, None, sql(API_DB, "DROP TABLE flow")),
    ("user_version", "schema", API_DB, None, sql(API_DB, "PRAGMA user_version = 3")),
    ("counter_row", "schema", API_DB, None, sql(API_DB, "INSERT INTO counter(name) VALUES ('x')")),
    ("no_ppid", "meta", API_DB, None, sql(API_DB, "DELETE FROM Meta WHERE name = 'ppid'")),
    ("no_rank", "meta", API_DB, None, sql(API_DB, "DELETE FROM Meta WHERE name = 'dpRankId'")),
    ("rank_text", "meta", API_DB, None, sql(API_DB, "UPDATE Meta SET value = 'None' WHERE name = 'dpRankId'")),
    ("third_column", "meta", API_DB, None, sql(API_DB, "UPDATE Meta SET slice = NULL WHERE name = 'ppid'")),
    ("two_processes", "process", API_DB, None, sql(API_DB, "INSERT INTO process VALUES ('9', '9', '', 0, '')")),
    ("no_process", "process", API_DB, None, sql(API_DB, "DELETE FROM process")),
    ("sort_index", "process", API_DB, None, sql(API_DB, "UPDATE process SET process_sort_index = 7")),
    ("no_thread", "thread", WORKER_DB, None, sql(WORKER_DB, "DELETE FROM thread WHERE track_id = 1030")),
    ("thread_name", "thread", WORKER_DB, None, sql(WORKER_DB, "UPDATE thread SET thread_name = tid WHERE tid = 1030")),
    ("depth", "columns", API_DB, 1, set_column(API_DB, 1, "depth", "1")),
    ("track", "columns", API_DB, 1, set_column(API_DB, 1, "track_id", "5")),
    ("null_name", "columns", WORKER_DB, 4, set_column(WORKER_DB, 4, "name", "NULL")),
    ("compact_json", "args", API_DB, 1, set_column(API_DB, 1, "args", f"'{{\"rid\":\"{A}\",\"type\":0}}'")),
    ("no_type", "type", API_DB, 1, drop(API_DB, 1, "type")),
    ("type_1", "type", API_DB, 1, add(API_DB, 1, type=1)),
    ("type_first_of_event", "type", API_DB, 1, set_column(
        API_DB, 1, "args", f"'{json.dumps({'type': 0, 'rid': A})}'")),
    ("type_last_of_span", "type", WORKER_DB, 1, edit(WORKER_DB, 1, lambda args: {"rid": args["rid"], "type": 2})),
    ("event_with_duration", "type", WORKER_DB, 4, set_column(WORKER_DB, 4, "duration", "1, end_time = end_time + 1")),
    ("link_name", "type", CORE_DB, 17, set_column(CORE_DB, 17, "name", "'link'")),
    ("garbage", "integrity", META_DB, None, lambda trace: (trace / META_DB).write_bytes(b"no database " * 400)),
    ("free_pages", "integrity", META_DB, None, patch(META_DB, 36, b"\0\0\0\x05")),
    ("journal", "integrity", f"{API_DB}-journal", None, lambda trace: (trace / f"{API_DB}-journal").touch()),
]  # fmt: skip


def case_id(case: tuple[Any, ...]) -> str:
    trap = f"trap_{case[1]:02}" if isinstance(case[1], int) else case[1]
    return f"{trap}-{case[0]}"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return build_service(tmp_path / "1009-0853")


@pytest.mark.parametrize(
    ("trap", "file", "row", "change"), [pytest.param(*case[1:], id=case_id(case)) for case in CASES]
)
def test_a_defect_is_found_alone(trace: Path, trap: int | str, file: str, row: int | None, change: Change) -> None:
    change(trace)
    violations = check(trace.parent, complete=True)
    assert [(found.trap, found.file.name, found.row) for found in violations] == [(trap, file, row)], [
        *map(str, violations)
    ]
