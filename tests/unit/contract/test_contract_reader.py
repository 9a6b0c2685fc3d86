"""What the contract accepts, and reading native files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.contract import Row, check, read_meta, read_rows
from tests.support.contract.example import (
    API,
    API_DB,
    CORE,
    CORE_A,
    CORE_DB,
    META_DB,
    MS,
    T0,
    WORKER,
    WORKER_DB,
    A,
    add,
    append,
    build_service,
    event,
    insert,
    metrics,
    only,
    queue,
    set_column,
    sql,
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return build_service(tmp_path / "1009-0853")


@pytest.mark.parametrize("complete", [True, False])
def test_the_base_has_no_violation(trace: Path, complete: bool) -> None:
    assert check(trace, complete=complete) == []
    assert check(trace.parent.parent, complete=complete) == []


@pytest.mark.parametrize("name", [API_DB, CORE_DB, WORKER_DB])
def test_a_single_file_has_no_violation(trace: Path, name: str) -> None:
    assert check(trace / name) == []


def test_trap_42_only_meta(trace: Path) -> None:
    only(META_DB)(trace)
    assert [(found.trap, found.file) for found in check(trace)] == [(42, trace)]


def test_trap_44_counts_to_199(trace: Path) -> None:
    add(WORKER_DB, 4, many=dict.fromkeys(map(str, range(196))))(trace)
    assert check(trace) == []


def test_the_folder_has_the_date(trace: Path) -> None:
    only(API_DB)(trace)
    moved = trace.rename(trace.parent / "Trace")
    date = moved.parent.rename(moved.parent.with_name("1332-0853"))
    assert [(found.trap, found.file.name) for found in check(date)] == [("folder", API_DB)]


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    assert [(found.trap, found.file) for found in check(tmp_path)] == [("files", tmp_path)]
    with pytest.raises(AssertionError, match="no ms_service"):
        read_rows(tmp_path)


def test_every_file_of_a_broken_folder_is_judged(trace: Path) -> None:
    (trace / API_DB).write_bytes(b"no database " * 400)
    add(WORKER_DB, 4, event="x")(trace)
    assert {(found.trap, found.file.name) for found in check(trace)} == {("integrity", API_DB), (2, WORKER_DB)}


def test_trap_15_a_preempted_request_leaves_running(trace: Path) -> None:
    preempted = (queue("Dequeue", 23.1, [CORE_A], 1, "RUNNING"), queue("Enqueue", 23.2, [CORE_A], 1, "WAITING"))
    append(CORE_DB, *preempted)(trace)
    assert check(trace, complete=True) == []


@pytest.mark.parametrize("row", [6, 16])
def test_trap_12_a_recording_may_open_and_close_inside_a_step(trace: Path, row: int) -> None:
    sql(CORE_DB, f"DELETE FROM slice WHERE id = {row}")(trace)
    assert {found.trap for found in check(trace, complete=True)} == {12}
    assert check(trace) == []


def test_traps_14_and_23_spare_requests_older_than_the_recording(trace: Path) -> None:
    sql(API_DB, f"DELETE FROM slice WHERE name = 'httpReq' AND args LIKE '%{A}%' OR id = 5")(trace)
    assert check(trace) == []
    assert {found.trap for found in check(trace, complete=True)} == {23}


def test_trap_14_an_aborted_request_has_no_token(trace: Path) -> None:
    aborted = metrics("Engine", "httpRes", 41, "cmpl-c", {"recvTokenSize=": 5, "replyTokenSize=": 0})
    append(API_DB, event("Engine", "httpReq", 40, rid="cmpl-c"), aborted)(trace)
    assert check(trace, complete=True) == []


def test_trap_37_a_host_name_outside_of_the_pattern_is_replaced(trace: Path) -> None:
    only(API_DB)(trace)
    sql(API_DB, "UPDATE Meta SET value = 'node a' WHERE name = 'hostname'")(trace)
    assert check(trace) == []


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_trap_34_the_umask_may_take_away(trace: Path, loose_umask: None) -> None:
    for path, mode in ((trace / API_DB, 0o600), (trace, 0o700), (trace.parent, 0o700)):
        path.chmod(mode)
    assert check(trace, complete=True) == []


def test_a_wal_file_is_read_without_a_trace(trace: Path) -> None:
    with closing(sqlite3.connect(trace / API_DB)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    before = sorted(trace.iterdir())
    assert check(trace, complete=True) == []
    assert len(read_rows(trace / API_DB)) == len(API)
    assert sorted(trace.iterdir()) == before


def test_an_open_wal_file_is_read_with_its_last_commit(trace: Path) -> None:
    with closing(sqlite3.connect(trace / API_DB)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        insert(connection, event("Engine", "late", 50), 101, 101)
        connection.commit()
        assert read_rows(trace / API_DB)[-1].name == "late"
        assert [found.trap for found in check(trace, complete=False)] == []


def test_read_rows(trace: Path) -> None:
    rows = read_rows(trace.parent)
    worker = trace / WORKER_DB
    assert [row.file.name for row in rows] == [API_DB] * len(API) + [CORE_DB] * len(CORE) + [WORKER_DB] * len(WORKER)
    assert rows[-4] == Row(
        file=worker,
        pid=103,
        tid=103,
        id=1,
        name="forward",
        cat="Execute",
        start=T0 + 4 * MS,
        duration=5 * MS,
        args={"type": 2, "rid": [CORE_A]},
    )
    assert rows[-4].end == T0 + 9 * MS
    assert [row.rids for row in rows[-4:]] == [[CORE_A], [CORE_A], [], []]
    assert [row.rids for row in read_rows(worker.with_name(API_DB))][4:6] == [[A], [A]]
    assert rows[-2].tid == 1030


def test_read_rows_refuses_args_that_are_no_object(trace: Path) -> None:
    set_column(WORKER_DB, 4, "args", "'[1]'")(trace)
    with pytest.raises(AssertionError, match=r"ms_service_node-a-103\.db: rows without a JSON object"):
        read_rows(trace)


def test_read_meta_takes_the_last(trace: Path) -> None:
    sql(API_DB, "INSERT INTO Meta VALUES ('ppid', '7', '')")(trace)
    assert read_meta(trace / API_DB) == {"hostname": "node-a", "ppid": "7", "dpRankId": "-1"}
