"""An environment without settings, and no status files but those of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("OTEL_", "VLLM_", "SERVICE_PROF_", "PROFILING_")) or name.endswith("_CA_BUNDLE"):
            del os.environ[name]
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    yield
    os.environ.clear()
    os.environ.update(before)
