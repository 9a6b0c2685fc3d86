"""Which names of vLLM's functions are expected in which version."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ascend_opentelemetry import _builtin_hooks, symbols, vllm
from ascend_opentelemetry._builtin_hooks import since, spellings
from ascend_opentelemetry.hooks import Installer
from ascend_opentelemetry.vllm._overrides import EngineInit


def test_every_name_is_in_one_group() -> None:
    names = [name for group in spellings() for name in group]
    assert sorted(map(str, names)) == sorted(map(str, vllm.HOOKED))
    assert [group for group in spellings() if len({name.module.partition(".")[0] for name in group}) != 1] == []


def test_executors_do_not_stand_for_each_other() -> None:
    executors = [group for group in spellings() if group[0].module.startswith("vllm.v1.executor.")]
    assert [len(group) for group in executors if "Executor." in group[0].qualname] == [1, 1, 1, 2]


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
        ("0.32.0+cpu", {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.16.0", "0.17.0", "0.18.0"}),
        ("0.1.dev1+g0", {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.16.0", "0.17.0", "0.18.0"}),
        (None, {"0.9.1", "0.10.0", "0.10.2", "0.11.1", "0.13.0", "0.16.0", "0.17.0", "0.18.0"}),
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


def test_methods_of_classes_that_do_not_come_with_vllm_are_hooked_when_an_engine_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_classes.py").write_text(
        """
class Base:
    def schedule(self): ...
    def update_from_output(self): ...
    def execute_model(self): ...

Base.__module__ = "vllm.v1.core.sched.scheduler"

class Scheduler(Base):
    kv_cache_manager = None
    def schedule(self): return 1

class AsyncScheduler(Scheduler): ...
class Executor(Base):
    def execute_model(self): return 2

class Alien:
    def schedule(self): ...
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_classes")
    plain = own.Scheduler.schedule
    installer = Installer()
    _builtin_hooks.install(installer)
    for scheduler in (own.AsyncScheduler(), own.Scheduler()):
        engine = SimpleNamespace(scheduler=scheduler, model_executor=own.Executor())
        vllm.ENGINE_INIT.exit(None, (engine,), {}, None, None)
    found = [name for name in installer.installed if name.startswith("own_classes:")]
    assert found == ["own_classes:Executor.execute_model", "own_classes:Scheduler.schedule"]
    assert own.Scheduler.schedule.__wrapped__ is plain
    assert (own.AsyncScheduler().schedule(), own.Executor().execute_model()) == (1, 2)
    installer.remove_all()
    assert own.Scheduler.schedule is plain


def test_a_class_that_no_module_leads_to_is_said_to_be_made_inside_of_a_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Scheduler:
        kv_cache_manager = None

        def schedule(self) -> None: ...

    plain = Scheduler.schedule
    installer = Installer()
    _builtin_hooks.install(installer)
    for _ in range(2):
        engine = SimpleNamespace(scheduler=Scheduler(), model_executor=None)
        vllm.ENGINE_INIT.exit(None, (engine,), {}, None, None)
    installer.remove_all()
    assert Scheduler.schedule is plain
    assert [name for name in installer.left_out if name.startswith(__name__)] == [
        f"{__name__}:{Scheduler.__qualname__}.schedule"
    ]
    (message,) = [message for message in caplog.messages if "schedule" in message]
    assert message.endswith(
        "<locals>.Scheduler.schedule is not hooked, and what it does is not recorded: its class was made inside of a"
        " function; define it at the top of its module"
    )


def test_a_scheduler_of_another_kind_is_named_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Alien:
        def schedule(self) -> None: ...

    hooked: list[str] = []
    init = EngineInit({"schedule": vllm.ENGINE_INIT}, {})  # pyright: ignore[reportArgumentType]
    init.hook = lambda owner, name, handler: hooked.append(name)
    init.exit(None, (SimpleNamespace(scheduler=Alien(), model_executor=None),), {}, None, None)
    assert hooked == []
    (message,) = caplog.messages
    assert message.endswith(
        "<locals>.Alien is no subclass of vLLM's Scheduler: steps and phases of requests are not recorded"
    )
