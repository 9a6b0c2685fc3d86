"""The real torch_npu on the stand-in of CANN: each test reads what a program of this folder has seen in a process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.npu_stand_in.cann import build_cann, environment
from tests.support.npu_stand_in.mspti import build_mspti

VARIABLE = "ASCEND_OTEL_TEST_VENDOR"
Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of this folder by its name, to what it prints as JSON."""
    if os.environ.get(VARIABLE) != "1":
        pytest.skip(f"the real torch_npu has an environment of its own: run `make vendor`, which sets {VARIABLE}=1")
    found = importlib.util.find_spec("torch_npu")
    assert found is not None, (
        f"{sys.executable} has no torch_npu: take the Python of `python3 -m devtools.torch_npu_env`"
    )
    assert found.origin is not None
    home = build_cann(Path(found.origin).parent, tmp_path_factory.mktemp("vendor") / "cann")
    build_mspti(home)

    def run(program: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.vendor.{program}"],
            env=os.environ | environment(home),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
