from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ascend_opentelemetry.native._session import SESSION_VARIABLE, ProfileSession, make_private


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


def test_modes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = tmp_path / "a" / "0304-0506" / "Trace_Service" / "x.db"
        make_private(path)
        assert [stat.S_IMODE(item.stat().st_mode) for item in (path, *path.parents[:3])] == [0o640] + [0o750] * 3
        path.chmod(0o600)
        make_private(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "a" / "x.db")
