from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ascend_opentelemetry.native._session import SESSION_VARIABLE, ProfileSession


def test_first_process_starts_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.struct_time((2026, 3, 4, 5, 6, 0, 0, 63, 0))
    monkeypatch.setattr(time, "strftime", lambda form, real=time.strftime: real(form, moment))
    assert ProfileSession.join() == ("0304-0506", os.getpid())
    assert os.environ[SESSION_VARIABLE] == f"0304-0506,{os.getpid()}"
    monkeypatch.undo()
    os.environ[SESSION_VARIABLE] = f"0304-0506,{os.getpid()}"
    assert ProfileSession.join() == ("0304-0506", os.getpid())


def test_child_joins_and_is_no_owner() -> None:
    session = ProfileSession.join()
    code = "from ascend_opentelemetry.native._session import ProfileSession as P; s = P.join(); print(*s, s.is_owner)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == f"{session.folder} {os.getpid()} False\n"
    assert session.is_owner


@pytest.mark.parametrize("value", ["", "x", "0304-0506", "0304-0506,", "../../etc,12", "0304-0506,1,2"])
def test_odd_variable_starts_a_new_session(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, value)
    assert ProfileSession.join().is_owner


def test_path_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "n\u00f6de 1/x_a.b-c")
    monkeypatch.chdir(tmp_path)
    session = ProfileSession("0304-0506", 1)
    name = f"ms_service_n_de_1_x_a.b-c-{os.getpid()}.db"
    assert session.file("prof") == tmp_path / "prof" / "0304-0506" / "Trace_Service" / name
    assert session.file("/p") == Path("/p/0304-0506/Trace_Service") / name


def test_what_is_not_below_the_owner_starts_its_own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = subprocess.Popen(["sleep", "60"])  # lives, but is no ancestor
    try:
        monkeypatch.setenv(SESSION_VARIABLE, f"0304-0506,{owner.pid}")
        session = ProfileSession.join()
    finally:
        owner.kill()
        owner.wait()
    assert session.owner == os.getpid()
    assert session.folder != "0304-0506"
    assert os.environ[SESSION_VARIABLE] == f"{session.folder},{os.getpid()}"
    monkeypatch.setenv(SESSION_VARIABLE, f"0304-0506,{owner.pid}")  # has ended
    assert ProfileSession.join().owner == os.getpid()


GRANDCHILD = """
import os, subprocess, sys
from ascend_opentelemetry.native._session import SESSION_VARIABLE, ProfileSession
depth = int(sys.argv[1])
if depth:
    sys.exit(subprocess.run([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]]).returncode)
print(*ProfileSession.join())
"""


def test_a_descendant_joins_however_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, f"0304-0506,{os.getpid()}")
    done = subprocess.run([sys.executable, "-c", GRANDCHILD, "2", GRANDCHILD], capture_output=True, text=True)
    assert done.stdout == f"0304-0506 {os.getpid()}\n", done.stderr
