from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import NativeSink, encode_args
from ascend_opentelemetry.native._threads import ThreadIds
from ascend_opentelemetry.recorder._record import LEVEL_DETAILED, NativeRow, Record, RecordType

TIMER = RecordType("Execute", "forward", ("device", "batch_size", "gone"))
EVENT = RecordType("Engine", "httpReq", ("rid",), span=False)


def test_default_row_of_a_timer(profile: Any) -> None:
    profile.start()
    start = time.time_ns()
    profile.record(TIMER, "npu:0", 3, None, start=start, duration=7)
    profile.record(EVENT, "r-1", start=start, duration=7)
    profile.sink.commit()
    tid = threading.get_native_id()
    pid = os.getpid()
    assert profile.rows("SELECT * FROM slice") == [
        (1, start, 7, "forward", 0, tid, "Execute", '{"type": 2, "device": "npu:0", "batch_size_": 3}', "", start + 7,
         "", pid, tid),
        (2, start, 0, "httpReq", 0, tid, "Engine", '{"rid": "r-1", "type": 0}', "", start, "", pid, tid),
    ]  # fmt: skip
    assert profile.rows("SELECT thread_name FROM thread") == [f"Execute({tid})"]


def api_forms(start: int) -> list[Record]:
    """The calls behind the golden ``api_forms``, as records."""
    this, other = threading.get_ident(), 99

    def link(record: Record) -> list[NativeRow]:
        return [(record[1], 0, "Link", "Request", json.dumps({"type": 3, "from": "req-1", "to": "42"}))]

    def handler(record: Record) -> list[NativeRow]:
        record_type, begin, end, *_ = record
        span = record_type.span
        return [(begin, end - begin if span else 0, record_type.name, record_type.domain, encode_args(record[5], span))]

    def own(domain: str, name: str, *, span: bool = False) -> RecordType:
        return RecordType(domain, name, span=span, rows=handler)

    rid = [{"rid": "req-1", "iter": 0, "type": 0, "num_scheduled_tokens": 7}]
    calls: list[tuple[RecordType, int, int, Any]] = [
        (own("Engine", "httpReq"), this, 0, [("rid", "req-1")]),
        (own("Schedule", "batchFrameworkProcessing", span=True), this, 10, [("rid", rid), ("batch_type", "Prefill")]),
        (own("Schedule.KVCache", "KVCacheStatus"), this, 0,
         [("rid", ["req-1"]), ("TotalBlocks=", 100), ("FreeBlocks=", 93), ("UsagePercent=", 0.07)]),
        (own("Schedule", "Enqueue"), this, 0,
         [("rid", "req-1"), ("WAITING+", 1), ("scope#QueueName", "WAITING"), ("scope#", "req")]),
        (RecordType("Request", "Link", rows=link), this, 0, ()),
        (own("npu", "Launch"), this, 0, [("usage=", 12)]),
        (RecordType("", "no_domain", ("\u4e2d\u6587",), span=False), this, 0, ('\u00e9"quote',)),
        (RecordType("", "no_attr", span=False), this, 0, None),
        (RecordType("Execute", "forward"), other, 2, None),
        (RecordType("", "level30", span=False, level=LEVEL_DETAILED), this, 0, None),
    ]  # fmt: skip
    return [
        (record_type, start + at, start + at + duration, ident, None, values, None)
        for at, (record_type, ident, duration, values) in enumerate(calls)
    ]


def test_api_forms_equal_the_golden_dump(golden: Path, profile: Any) -> None:
    tids = {threading.get_ident(): 18871, 99: 18875}
    profile.config()
    profile.sink = sink = NativeSink(str(profile.path), on_change=profile.changes.append, thread_ids=tids.__getitem__)
    sink.set_meta("dpRankId", "0")
    sink.write(api_forms(time.time_ns()))
    sink.shutdown(1)
    [path] = (golden / "api_forms").rglob("*.db")
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    slices = "SELECT id, name, depth, track_id, cat, args, cname, flag_id, tid, duration > 0 FROM slice ORDER BY id"
    assert profile.rows(slices) == connection.execute(slices).fetchall()
    threads = "SELECT track_id, tid, thread_name, thread_sort_index FROM thread ORDER BY track_id"
    assert profile.rows(threads) == connection.execute(threads).fetchall()
    meta = "SELECT name FROM Meta ORDER BY name"
    assert profile.rows(meta) == [row[0] for row in connection.execute(meta)]
    connection.close()
    assert profile.rows("SELECT * FROM Meta WHERE name != 'ppid' ORDER BY name") == [
        ("dpRankId", "0", ""), ("hostname", socket.gethostname(), ""),
    ]  # fmt: skip


def test_off_writes_nothing(profile: Any) -> None:
    sink = profile.start(enable=0)
    sink.set_meta("k", "1")
    profile.record(TIMER, 1, 2, 3)
    profile.tick()
    assert sink.flush(1)
    sink.shutdown(1)
    assert profile.files == []
    assert profile.changes == []


def test_toggle_appends_to_the_same_file(profile: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = profile.start(enable=0)
    sink.set_meta("k", "1")
    for name in ("one", "two"):
        profile.record(RecordType("Engine", f"off-{name}"))
        profile.config(1)
        profile.tick()
        profile.record(RecordType("Engine", name))
        profile.config(0)
        profile.tick()
        profile.record(RecordType("Engine", f"late-{name}"), start=time.time_ns() + 10**9)
        profile.tick()
        assert sink.state().file is None
        assert [path.name for path in profile.files[0].parent.iterdir()] == [profile.files[0].name]
    [file] = profile.files
    assert profile.rows() == ["one", "two"]
    assert profile.rows("SELECT name, value FROM Meta WHERE name = 'k'") == [("k", "1")] * 2
    assert profile.rows("SELECT count(*) FROM process") == [1]
    assert [config and config.enable for config in profile.changes] == [True, None, True, None]
    head = f"[msservice_profiler] [PID:{os.getpid()}] [INFO]"
    on = [
        f"{head} profile enable_: true",
        f"{head} prof path: {file.parents[1]}/",
        f"{head} Profiler Enabled Successfully!",
    ]
    off = [f"{head} profile enable_: false", f"{head} Profiler Disabled Successfully!"]
    assert caplog.messages == [off[0], *on, *off, *on, *off]


def test_other_prof_dir_at_the_next_enabling(profile: Any, tmp_path: Path) -> None:
    profile.start()
    profile.record(EVENT, "a")
    profile.config(1, prof_dir=str(tmp_path / "other"))  # without a change of enable: not yet
    profile.tick()
    profile.record(EVENT, "b")
    profile.config(0)
    profile.tick()
    profile.tick()
    profile.config(1, prof_dir=str(tmp_path / "other"))
    profile.tick()
    profile.record(EVENT, "c")
    profile.tick()
    other, first = profile.files
    assert other.is_relative_to(tmp_path / "other")
    assert profile.rows("SELECT json_extract(args, '$.rid') FROM slice", first) == ["a", "b"]
    assert profile.rows("SELECT json_extract(args, '$.rid') FROM slice", other) == ["c"]
    assert other.name == first.name
    assert other.parents[1].name == first.parents[1].name


def test_record_counts_when_on_at_its_start_and_end(profile: Any) -> None:
    profile.start(enable=0)
    before = time.time_ns() - 10**9
    profile.config(1)
    profile.tick()
    opened = profile.sink._window.opened_ns
    assert opened == profile.path.stat().st_mtime_ns
    profile.record(RecordType("", "began off"), start=before, duration=10**9 + 1)
    profile.record(RecordType("", "began off by 1 ns"), start=opened - 1)
    profile.record(RecordType("", "on"), start=opened)
    time.sleep(0.01)
    profile.config(0)
    profile.tick()
    closed = profile.sink._window.closed_ns
    assert opened < closed == profile.path.stat().st_mtime_ns
    profile.record(RecordType("", "queued"), start=closed - 9, duration=9)
    profile.record(RecordType("", "ended off"), start=closed - 9, duration=10)
    profile.tick()
    profile.record(RecordType("", "later"), start=opened)
    profile.tick()
    assert profile.rows() == ["on", "queued"]


def test_old_file_with_a_future_time_opens_now(profile: Any) -> None:
    profile.start(enable=0)
    profile.config(1)
    future = time.time_ns() + 10**12
    os.utime(profile.path, ns=(future, future))
    now = time.time_ns()
    profile.tick()
    assert now <= profile.sink._window.opened_ns <= time.time_ns()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["req", "kv", "exec", "sched", "own", "none"]),
        ({"domain": "Request; KVCache"}, ["req", "kv", "none"]),
        ({"domain": "ModelExecute;BatchSchedule"}, ["exec", "sched", "none"]),
        ({"domain": "Own"}, ["own", "none"]),
        ({"profiler_level": "ERROR"}, []),
        ({"profiler_level": "VERBOSE"}, ["req", "kv", "exec", "sched", "own", "none", "deep"]),
    ],
)
def test_level_and_domain(fields: dict[str, Any], names: list[str], profile: Any) -> None:
    profile.start(**fields)
    sort = [
        ("Engine", "req"),
        ("Schedule.KVCache", "kv"),
        ("Execute", "exec"),
        ("Schedule", "sched"),
        ("Own", "own"),
        ("", "none"),
    ]
    for domain, name in sort:
        profile.record(RecordType(domain, name))
    profile.record(RecordType("Engine", "deep", level=LEVEL_DETAILED))
    profile.record(RecordType("Engine", "otel only", native=False))
    profile.tick()
    assert (profile.rows() if profile.files else []) == names


def test_selection_is_made_anew_at_each_opening(profile: Any) -> None:
    profile.start(domain="Request")
    for _ in range(2):
        profile.record(EVENT, "r")
        profile.record(TIMER, 1, 2, 3)
        for enable in (0, 1):
            profile.config(enable, domain="ModelExecute")
            profile.tick()
    profile.tick()
    assert profile.rows() == ["httpReq", "forward"]


def test_rows_of_a_handler(profile: Any, caplog: pytest.LogCaptureFixture) -> None:
    def rows(record: Record) -> list[NativeRow]:
        return [(record[1], 0, f"row-{value}", "Schedule", "{}") for value in record[5]]

    def broken(record: Record) -> list[NativeRow]:
        raise KeyError("x")

    profile.start()
    good, bad = RecordType("Schedule", "s", rows=rows), RecordType("Schedule", "bad", rows=broken)
    for _ in range(2):
        profile.record(bad)
        profile.record(good, 1, 2)
    profile.record(good)
    profile.tick()
    assert profile.rows() == ["row-1", "row-2"] * 2
    assert profile.sink.dropped == {"handler": 2}
    assert caplog.messages == ["RecordType('Schedule', 'bad'): its native rows cannot be made: KeyError('x')"]


def test_meta_is_reserved_from_then_on(profile: Any) -> None:
    sink = profile.start()
    timer = RecordType("E", "t", ("rack",))
    profile.record(timer, 1)
    sink.set_meta("rack", "\ud8001")
    profile.record(timer, 2)
    profile.tick()
    assert profile.rows("SELECT args FROM slice") == ['{"type": 2, "rack": 1}', '{"type": 2, "rack_": 2}']
    assert profile.rows("SELECT value FROM Meta WHERE name = 'rack'") == ["?1"]


def test_meta_alone_makes_a_file(profile: Any) -> None:
    sink = profile.start()
    profile.tick()
    assert profile.files == []
    sink.set_meta("dpRankId", "-1")
    profile.tick()
    assert profile.rows("SELECT name FROM Meta") == ["hostname", "ppid", "dpRankId"]


def test_many_rows_do_not_wait_for_the_commit(profile: Any) -> None:
    profile.start()
    now = time.time_ns()
    record = (EVENT, now, now, threading.get_ident(), None, ("r",), None)
    profile.sink.write([record] * 8192)
    assert profile.rows("SELECT count(*) FROM slice") == [8192]
    assert profile.sink.state().written == 8192


def test_file_is_looked_at_every_100_ms(profile: Any) -> None:
    profile.start(enable=0)
    profile.config(1)
    profile.sink.commit()
    assert profile.changes == []
    time.sleep(0.11)
    profile.sink.commit()
    assert len(profile.changes) == 1


def test_time_limit_of_the_owner(profile: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    profile.start(timelimit=100, domain="")
    text = profile.path.read_text()
    profile.record(EVENT, "a")
    profile.tick()
    assert profile.path.read_text() == text
    profile.sink._window._deadline = time.monotonic()
    profile.tick()
    assert profile.path.read_text() == text.replace('"enable": 1', '"enable": 0')
    assert profile.changes[1:] == [None]
    message = "Profiler Timelimit 100 Seconds Is Reached, Profiler Disabled Successfully!"
    assert caplog.messages[-1] == f"[msservice_profiler] [PID:{os.getpid()}] [INFO] {message}"
    profile.tick()
    assert not profile.sink.state().enabled
    profile.path.write_text(text)
    profile.tick()
    assert profile.sink.state().enabled
    assert profile.sink._window._deadline > time.monotonic() + 99


def test_time_limit_counts_from_the_opening(profile: Any, until: Callable[[Callable[[], object]], None]) -> None:
    profile.start(timelimit=1)
    begin = time.monotonic()
    profile.sink._window._deadline -= 0.8  # a shorter second

    def stopped() -> bool:
        profile.sink.commit()
        return None in profile.changes

    until(stopped)
    assert 0.15 < time.monotonic() - begin < 5
    assert json.loads(profile.path.read_text())["enable"] == 0


def test_time_limit_of_another_process_leaves_the_file(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ASCEND_OTEL_PROFILE_SESSION", f"0304-0506,{os.getppid()}")
    profile.start(timelimit=1)
    profile.record(EVENT, "a")
    profile.sink._window._deadline = time.monotonic()
    profile.tick()
    profile.tick()
    assert json.loads(profile.path.read_text())["enable"] == 1
    assert not profile.sink.state().enabled
    profile.config(1, timelimit=1, domain="")  # stays off until enable was 0
    profile.tick()
    assert not profile.sink.state().enabled
    assert profile.files[0].parents[1].name == "0304-0506"


def test_read_only_file_at_the_time_limit(profile: Any) -> None:
    profile.start(timelimit=1)
    profile.path.chmod(0o444)
    profile.sink._window._deadline = time.monotonic()
    profile.tick()
    profile.tick()
    assert json.loads(profile.path.read_text())["enable"] == 1
    assert profile.changes[1:] == [None]


def test_next_enabling_tries_a_failed_folder_again(profile: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (profile.folder / "prof").touch()
    profile.start()
    for _ in range(3):
        profile.record(EVENT, "a")
        profile.tick()
    assert profile.sink.dropped == {"disk": 3}
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 3 + [logging.WARNING]
    caplog.clear()
    (profile.folder / "prof").unlink()
    for enable in (0, 1):
        profile.config(enable)
        profile.tick()
    assert [message for message in caplog.messages if message.endswith(".db: 3 rows were dropped")] != []
    profile.record(EVENT, "b")
    profile.tick()
    assert profile.rows("SELECT json_extract(args, '$.rid') FROM slice") == ["b"]
    assert profile.sink.state().dropped == {"disk": 3}


def test_flush_waits_for_a_reader_and_no_longer(profile: Any) -> None:
    profile.start()
    profile.record(EVENT, "a")
    assert profile.sink.flush(1)
    reader = sqlite3.connect(profile.files[0])
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM slice").fetchone()
    profile.record(EVENT, "b")
    begin = time.monotonic()
    assert not profile.sink.flush(0.1)
    assert time.monotonic() - begin < 2
    reader.close()
    assert profile.sink.flush(1)
    assert profile.rows("SELECT count(*) FROM slice") == [2]


def test_shutdown_completes_the_file_for_good(profile: Any) -> None:
    profile.start()
    profile.record(EVENT, "a")
    profile.sink.shutdown(1)
    profile.record(EVENT, "b")
    for enable in (0, 1):
        profile.config(enable)
        time.sleep(0.11)
        profile.sink.commit()
    assert profile.rows("SELECT json_extract(args, '$.rid') FROM slice") == ["a"]
    assert not profile.sink.state().enabled
    assert len(profile.changes) == 1


def test_state(profile: Any) -> None:
    profile.start(enable=0)
    assert profile.sink.state() == (profile.path, False, None, 0, {})
    profile.config(1)
    profile.tick()
    profile.record(EVENT, "a")
    profile.tick()
    assert profile.sink.state() == (profile.path, True, profile.files[0], 1, {})


def test_forked_child_writes_its_own_file(profile: Any) -> None:
    profile.start()
    profile.sink.set_meta("dpRankId", "3")
    profile.record(EVENT, "parent")
    profile.tick()
    profile.record(EVENT, "waiting")
    profile.sink.dropped["handler"] = 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            profile.sink.after_fork()
            profile.record(EVENT, "child")
            profile.sink.commit()
            status = 0 if profile.sink.state()[1:] == (True, profile.sink._window.writer.path, 1, {}) else 2
            profile.sink.shutdown(1)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    profile.tick()
    by_pid = {int(path.stem.rpartition("-")[2]): path for path in profile.files}
    assert set(by_pid) == {os.getpid(), child}
    rids = "SELECT json_extract(args, '$.rid') FROM slice"
    assert profile.rows(rids, by_pid[os.getpid()]) == ["parent", "waiting"]
    assert profile.rows(rids, by_pid[child]) == ["child"]
    # after a fork threading still knows the parent's thread id
    assert profile.rows("SELECT DISTINCT pid, tid, track_id FROM slice", by_pid[child]) == [(child, child, child)]
    meta = dict(profile.rows("SELECT name, value FROM Meta", by_pid[child]))
    assert meta == {"hostname": socket.gethostname(), "ppid": str(os.getpid()), "dpRankId": "3"}


def test_fork_while_the_drain_commits(profile: Any) -> None:
    profile.start()
    stop = threading.Event()
    now = time.time_ns()
    record = (EVENT, now, now, threading.get_ident(), None, ("r",), None)
    written = 0

    def drain() -> None:
        nonlocal written
        while not stop.is_set():
            profile.sink.write([record] * 20)
            written += 20
            profile.sink.commit()

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                profile.sink.after_fork()
                profile.sink.write([record])
                profile.sink.commit()
                os._exit(0 if profile.sink.state().written == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    profile.sink.shutdown(1)
    [own] = [path for path in profile.files if path.stem.endswith(f"-{os.getpid()}")]
    assert profile.rows("SELECT count(*) FROM slice", own) == [written]
    assert profile.rows("PRAGMA integrity_check", own) == ["ok"]
    assert len(profile.files) == 21


def test_thread_ids() -> None:
    ids = ThreadIds()
    assert ids(threading.get_ident()) == threading.get_native_id()
    assert ids(123) == os.getpid()
    seen: list[tuple[int, int]] = []
    hold = threading.Event()

    def run() -> None:
        seen.append((threading.get_ident(), threading.get_native_id()))
        hold.wait()

    thread = threading.Thread(target=run)
    thread.start()
    while not seen:
        time.sleep(0.001)
    ident, tid = seen[0]
    assert ids(ident) == tid
    ids._known[ident] = 1  # as if the ident had belonged to a thread that ended
    ids.refresh()
    assert ids(ident) == tid
    hold.set()
    thread.join()
    assert ids(ident) == tid


def test_import_needs_no_sdk() -> None:
    code = """
import sys
import ascend_opentelemetry.native as native
native.NativeSink
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")], sys.modules
native.MsServiceProfilerSpanExporter
assert "opentelemetry.sdk.trace.export" in sys.modules
try:
    native.nothing
except AttributeError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "module 'ascend_opentelemetry.native' has no attribute 'nothing'\n"
