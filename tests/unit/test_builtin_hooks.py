"""Which names of vLLM's functions are expected in which version."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_opentelemetry import _builtin_hooks, symbols, vllm
from ascend_opentelemetry._builtin_hooks import since, spellings
from ascend_opentelemetry.hooks import Installer


def test_every_name_is_in_one_group() -> None:
    names = [name for group in spellings() for name in group]
    assert sorted(map(str, names)) == sorted(map(str, vllm.HOOKED))
    assert [group for group in spellings() if len({name.module.partition(".")[0] for name in group}) != 1] == []


def test_executors_do_not_stand_for_each_other() -> None:
    executors = [group for group in spellings() if group[0].module.startswith("vllm.v1.executor.")]
    assert [len(group) for group in executors if group[0].qualname.endswith(".execute_model")] == [1, 1, 1]


@pytest.fixture
def empty_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """A vLLM without any module, and the built-in hooks."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").touch()
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "vllm"}
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("_ASCEND_OTEL_MISSING", "")
    installer = Installer()
    yield installer
    installer.remove_all()
    sys.modules.pop("vllm", None)
    sys.modules.update(kept)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.9.1", {"0.9.1"}),
        ("0.11.0", {"0.9.1", "0.10.0", "0.10.2"}),
        ("0.32.0+cpu", {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.17.0"}),
        ("0.1.dev1+g0", {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.17.0"}),
        (None, {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.17.0"}),
    ],
)
def test_what_a_version_should_have_is_missed(
    empty_vllm: Installer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version, expected
) -> None:
    monkeypatch.setattr(symbols, "installed_version", lambda package: version)
    with caplog.at_level(logging.WARNING):
        _builtin_hooks.install(empty_vllm)
        __import__("vllm")
    groups = [group for group in spellings() if group[0].module.startswith("vllm.") and str(since(group)) in expected]
    targets = [f"{group[0].module}:{group[0].qualname}" for group in groups]
    assert empty_vllm.left_out == targets
    said = [record.getMessage() for record in caplog.records]
    assert [message.partition(" has no ")[2].partition(": what")[0].partition(",")[0] for message in said] == targets
    assert {str(since(group)) for group in groups} == expected
