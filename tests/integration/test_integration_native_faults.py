"""Native files while disks fill, folders go away, pids collide, clocks jump, handlers hang and processes are killed.

Each program is a process of its own that does what the test tells it, and says what it did.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import warnings
from tests.support.analyzer import run_analyzer
from tests.support.reliability import note

pytestmark = pytest.mark.reliability

SYMBOLS = "- symbol: fake_vllm.engine:Engine.step\n  domain: Execute\n"
HOUR = 3600 * 10**9
MENDED = 'rows are dropped until that is mended and "enable" is set to 0 and 1 again'

DRIVER = """
import json, os, subprocess, sys, threading, time
from ascend_opentelemetry._runtime import runtime
from ascend_opentelemetry.hooks import _timer
from ascend_opentelemetry.recorder import recorder
from fake_vllm.engine import Engine

engine = Engine("driven")

def steps(count):
    for number in range(count):
        engine.step([1])
        if number % 500 == 499:
            recorder.flush(5)
    return count

def state():
    recorder.flush(5)
    return runtime._native.state()._asdict() | {"lost": recorder.lost, "queue": recorder.dropped}

def load(path):
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        engine.step([1])
        os.write(log, b"%d\\n" % time.time_ns())
        time.sleep(0.001)

def stick():
    threading.Thread(target=engine.step, args=([1],), name="stuck", daemon=True).start()

real_ns = time.time_ns

def set_clock(by):
    time.time_ns = _timer.time_ns = lambda: real_ns() + by

def run(*command):
    return subprocess.run(command, capture_output=True, text=True).stderr

for line in sys.stdin:
    print(json.dumps(eval(line), default=str), flush=True)
"""


class Driven:
    """A program that does what it is told, one expression at a time.

    Args:
        program: its environment and folder.
        wrapper: command that runs it, e.g. in a namespace.
    """

    def __init__(self, program: Any, *wrapper: str) -> None:
        self._log = program.folder / f"{time.monotonic_ns()}.err"
        command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), "python", "-c", DRIVER]
        with self._log.open("w") as err:
            self.process = subprocess.Popen(
                [*wrapper, *command],
                env=program.environment,
                cwd=program.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def ask(self, expression: str) -> Any:
        assert self.process.stdout is not None
        self.tell(expression)
        answer = self.process.stdout.readline()
        assert answer, self._log.read_text()
        return json.loads(answer)

    def wait_for(self, enabled: bool) -> None:
        """Until it has seen the config file."""
        deadline = time.monotonic() + 20
        while self.ask("state()")["enabled"] is not enabled:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, timeout: float = 30) -> list[str]:
        """Let it end by itself; its warnings."""
        self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, self._log.read_text()
        return warnings(self._log.read_text())

    def copy_of(self, file: str) -> Path:
        """A copy of a file of its mount namespace, with a journal if there is one."""
        copy = self._log.with_suffix(".db")
        for suffix in ("", "-journal"):
            # SQLite resolves links by itself and would not get through /proc
            source, target = Path(f"/proc/{self.process.pid}/root{file}{suffix}"), Path(f"{copy}{suffix}")
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        return copy


Start = Callable[..., Driven]


@pytest.fixture
def start(program: Any) -> Iterator[Start]:
    program.symbols.write_text(SYMBOLS)
    program.native()
    started: list[Driven] = []

    def start(*wrapper: str) -> Driven:
        started.append(Driven(program, *wrapper))
        return started[-1]

    yield start
    for driven in started:
        driven.process.kill()
        driven.process.communicate()


def namespaces(*kinds: str) -> tuple[str, ...]:
    """Command that runs another one in new namespaces; skips where that is not allowed."""
    for command in (("unshare", *kinds), ("unshare", "--map-root-user", *kinds)):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip(f"unshare {' '.join(kinds)} is not allowed here")


def mounted(folder: Path, options: str) -> tuple[str, ...]:
    """Command that runs another one with a disk of its own at ``folder``."""
    folder.mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs {folder} && exec "$@"'
    return (*namespaces("--mount"), "sh", "-c", script, "sh")


def container() -> tuple[str, ...]:
    """Command that runs another one as pid 1, under the host name of this machine."""
    return namespaces("--pid", "--fork", "--mount-proc", "--kill-child")


def query(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute(sql)]
    finally:
        connection.close()


def intact_rows(path: Path) -> int:
    """Number of rows of a file without a fault."""
    assert query(path, "PRAGMA integrity_check") == ["ok"]
    assert query(path, "SELECT count(*) FROM slice WHERE duration < 0") == [0]
    return query(path, "SELECT count(*) FROM slice")[0]


def spans(receiver: Any) -> int:
    return Counter(span.name for span in receiver.spans())["step"]


def toggle(program: Any, driven: Driven) -> None:
    """Turn profiling off and on again."""
    for enable in (0, 1):
        program.native(enable=enable)
        driven.wait_for(enable == 1)


def not_late_in_the_minute() -> None:
    """The date folder is named after the minute, and processes are to share it."""
    if time.localtime().tm_sec > 40:
        time.sleep(61 - time.localtime().tm_sec)


def test_full_disk(program, receiver, start) -> None:
    program.export_to(receiver.grpc_endpoint)
    disk = program.folder / "prof"
    driven = start(*mounted(disk, "size=256k"))
    made = driven.ask("steps(100)")
    state = driven.ask("state()")
    assert (state["written"], state["dropped"]) == (100, {})
    file = state["file"]
    made += driven.ask("steps(6000)")
    state = driven.ask("state()")
    written, dropped = state["written"], state["dropped"]["disk"]
    assert written >= 100
    assert dropped > 0
    assert (written + dropped, state["dropped"]) == (made, {"disk": dropped})
    assert intact_rows(driven.copy_of(file)) == written

    assert driven.ask(f"run('mount', '-o', 'remount,size=16m', {str(disk)!r})") == ""
    assert driven.ask("steps(100)") == 100  # not before it is enabled again
    dropped += 100
    toggle(program, driven)
    made += 100 + driven.ask("steps(1000)")
    state = driven.ask("state()")
    assert (state["written"], state["dropped"], state["lost"], state["queue"]) == (1000, {"disk": dropped}, {}, 0)
    assert state["file"] == file
    out = intact_rows(driven.copy_of(file))
    assert out == written + 1000
    assert out + dropped == made
    assert driven.end() == [f"{file}: cannot be written: database or disk is full; {MENDED}"]
    assert spans(receiver) == made
    note("native: disk full", "tmpfs of 256 KiB filled, then enlarged", made, out, f"{dropped} `disk`, one warning")


def test_folder_that_is_read_only(program, receiver, start) -> None:
    program.export_to(receiver.grpc_endpoint)
    disk = program.folder / "prof"
    driven = start(*mounted(disk, "size=4m,ro"))
    dropped = driven.ask("steps(50)")
    state = driven.ask("state()")
    assert (state["written"], state["dropped"]) == (0, {"disk": dropped})
    assert driven.ask(f"run('mount', '-o', 'remount,rw', {str(disk)!r})") == ""
    toggle(program, driven)
    written = driven.ask("steps(60)")
    state = driven.ask("state()")
    assert (state["written"], state["dropped"]) == (written, {"disk": dropped})
    program.native(enable=0)
    driven.wait_for(False)
    file = state["file"]
    assert intact_rows(driven.copy_of(file)) == written

    assert driven.ask(f"run('mount', '-o', 'remount,ro', {str(disk)!r})") == ""
    program.native()
    driven.wait_for(True)
    dropped += driven.ask("steps(70)")
    assert driven.ask("state()")["dropped"] == {"disk": dropped}
    assert intact_rows(driven.copy_of(file)) == written
    first, second = driven.end()
    assert first.startswith(f"{file}: cannot be written: [Errno 30] Read-only file system: ")
    assert first.endswith(f"; {MENDED}")
    assert second == f"{file}: cannot be written: attempt to write a readonly database; {MENDED}"
    made = written + dropped
    assert spans(receiver) == made
    note(
        "native: read-only folder", "mounted read-only, writable, read-only", made, written,
        f"{dropped} `disk`, a warning each time",
    )  # fmt: skip


def test_folder_that_is_removed_while_it_is_written(program, receiver, start) -> None:
    program.export_to(receiver.grpc_endpoint)
    driven = start()
    driven.ask("steps(30)")
    file = Path(driven.ask("state()")["file"])
    removed = intact_rows(file)
    assert removed == 30
    shutil.rmtree(program.folder / "prof")
    written = driven.ask("steps(40)")
    state = driven.ask("state()")
    assert (Path(state["file"]), state["dropped"]) == (file, {})
    written += driven.ask("steps(50)")
    assert driven.end() == [f"{file}: was removed or moved while in use; rows go on in a new file"]
    assert program.databases == [file]
    assert intact_rows(file) == written == 90
    assert spans(receiver) == removed + written
    note(
        "native: folder removed", "prof_dir removed while it is written", removed + written, written,
        f"the {removed} rows that were removed; one warning",
    )  # fmt: skip


def test_services_with_the_same_pid_and_host_name_have_files_of_their_own(program, receiver, start) -> None:
    program.export_to(receiver.grpc_endpoint)
    not_late_in_the_minute()
    services = [start(*container()) for _ in range(3)]
    counts = [50, 70, 90]
    for service in services:
        assert service.ask("os.getpid()") == 1
    for _ in range(2):
        for service, count in zip(services, counts, strict=True):
            service.tell(f"steps({count})")
        for service in services:
            assert service.process.stdout is not None
            service.process.stdout.readline()
    files = [Path(service.ask("state()")["file"]) for service in services]
    assert sorted(path.name for path in files) == [
        f"ms_service_{socket.gethostname()}-1{number}.db" for number in ("-1", "-2", "")
    ]
    assert len({path.parent for path in files}) == 1
    toggle(program, services[0])  # each goes on in its own
    services[1].wait_for(True)
    assert services[0].ask("steps(5)") == 5
    for service in services:
        assert service.end() == []
    assert program.databases == sorted(files)
    assert [intact_rows(path) for path in files] == [105, 140, 180]
    for path in files:
        assert query(path, "SELECT DISTINCT pid FROM slice") == [1]
        assert query(path, "SELECT count(*) FROM process") == [1]
    assert spans(receiver) == 425
    note("native: same pid and host name", "three services as pid 1 in one `prof_dir`", 425, 425)


def test_service_that_is_killed_and_started_again_within_the_minute(program, start) -> None:
    not_late_in_the_minute()
    files = []
    for count in (20, 30):
        service = start(*container())
        service.ask(f"steps({count})")
        files.append(Path(service.ask("state()")["file"]))
        service.process.kill()
        service.process.wait()
    first, second = files
    assert second == first.with_name(f"{first.stem}-1.db")
    assert [intact_rows(path) for path in files] == [20, 30]
    note("native: restarted within the minute", "pid 1 killed and started again", 50, 50)


def test_the_analyzer_reads_both_files_of_one_pid(program, start, tmp_path) -> None:
    not_late_in_the_minute()
    for count in (20, 30):
        service = start(*container())
        service.ask(f"steps({count})")
        service.end()
    assert len(program.databases) == 2
    run_analyzer("parse", program.folder / "prof", tmp_path / "output", expected=())
    trace = json.loads((tmp_path / "output" / "chrome_tracing.json").read_text())
    assert Counter(event["name"] for event in trace)["step"] == 50


def test_process_that_is_killed_keeps_all_but_the_last_rows(program, start, tmp_path) -> None:
    made = out = 0
    for number in range(3):
        driven = start()
        driven.ask("steps(1)")
        file = Path(driven.ask("state()")["file"])
        log = tmp_path / f"{number}.log"
        driven.tell(f"load({str(log)!r})")
        time.sleep(0.8 + number * 0.03)
        driven.process.kill()
        driven.process.wait()
        logged = [int(line) for line in log.read_text().split()]
        assert len(logged) > 50
        kept = intact_rows(file) - 1
        starts = query(file, "SELECT timestamp FROM slice WHERE id > 1 ORDER BY id")
        # none is missing but the last ones: each started between two lines of the log
        ends = [0, *logged, sys.maxsize]
        assert all(before <= start <= after for before, start, after in zip(ends, starts, ends[1:], strict=False))
        assert kept > 0
        # a round of the drain is 100 ms; the margin is for a machine that is busy with other things
        assert logged[-1] - starts[-1] < 10**9, "rows of more than the last rounds are missing"
        made += max(len(logged), kept)
        out += kept
    note("native: killed", "SIGKILL under load, three times", made, out, "not counted: the last 100 to 200 ms")


@pytest.mark.parametrize(("name", "step"), [("back", -HOUR), ("forward", HOUR)])
def test_clock_that_is_set_while_serving(program, receiver, start, name, step) -> None:
    program.export_to(receiver.grpc_endpoint)
    program.native(timelimit=3600)
    driven = start()
    made = 0
    for by, count in ((0, 300), (step, 400), (0, 500)):
        driven.ask(f"set_clock({by})")
        made += driven.ask(f"steps({count})")
        state = driven.ask("state()")
        assert (state["enabled"], state["written"], state["dropped"]) == (True, made, {})
    assert driven.end() == []
    (file,) = program.databases
    assert intact_rows(file) == made == 1200
    assert query(file, f"SELECT count(*) FROM slice WHERE abs(timestamp - {time.time_ns()}) > {HOUR // 2}") == [400]
    found = [span for span in receiver.spans() if span.name == "step"]
    assert len(found) == made
    assert all(0 <= span.end - span.start < HOUR for span in found)
    note(f"clock: set {name}", "an hour, and set right again", made, made)


HANDLER = """
import threading

def handler(original, *args, **kwargs):
    if threading.current_thread().name == "stuck":
        threading.Event().wait()
    return original(*args, **kwargs)
"""


def test_handler_that_never_returns_holds_up_its_caller_only(program, receiver, start) -> None:
    program.export_to(receiver.grpc_endpoint)
    (program.folder / "mine.py").write_text(HANDLER)
    program.symbols.write_text(f"{SYMBOLS}- symbol: fake_vllm.engine:Engine.scale\n  handler: mine:handler\n")
    driven = start()
    driven.ask("stick()")
    made = driven.ask("steps(600)")
    state = driven.ask("state()")
    assert (state["written"], state["dropped"], state["queue"]) == (made, {}, 0)
    begin = time.monotonic()
    assert driven.end() == []
    assert time.monotonic() - begin < 15  # 5 s at most for the pipeline, the rest is the end of Python
    (file,) = program.databases
    assert intact_rows(file) == made
    assert spans(receiver) == made
    note("handler: never returns", "a user's handler waits for ever in one thread", made, made)
