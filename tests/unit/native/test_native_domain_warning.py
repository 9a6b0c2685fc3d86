"""A ``domain`` filter that selects nothing is told once a service, also when the window opens before vLLM is hooked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import _runtime, _symbol_hooks
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.hooks import Installer
from ascend_opentelemetry.native import ProfileConfig, parse
from ascend_opentelemetry.recorder import Recorder, RecordType


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr(_runtime, "recorder", Recorder())
    monkeypatch.setattr(_runtime, "show_messages", lambda: None)
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/etc/prof.json")
    monkeypatch.delenv("_ASCEND_OTEL_SERVICE", raising=False)
    runtime = Runtime()
    runtime._leader = os.getpid()
    yield runtime
    runtime.shutdown()


def config(domain: str) -> ProfileConfig:
    return parse(json.dumps({"enable": 1, "domain": domain}), "c.json")[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if '"domain"' in message]


def test_it_is_told_once_for_each_filter(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    runtime.domains = lambda: {"Engine", "Schedule"}
    for domain in ("Enjine", "Enjine", "Engine; Nonsense", "", "Schedul"):
        runtime._on_change(config(domain))
        runtime._on_change(None)
    assert warnings(caplog) == [
        f'/etc/prof.json: "domain": no event of vLLM and no symbol belongs to {name}: only rows of your own Profiler'
        " calls can be written; known are BatchSchedule, Engine, Request, Schedule"
        for name in ("Enjine", "Schedul")
    ]


def test_a_window_that_opens_before_vllm_is_hooked_is_judged_after_it(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime._on_change(config("Enjine"))
    assert warnings(caplog) == []
    runtime.domains = lambda: {"Engine"}
    runtime.check_filter()
    assert len(warnings(caplog)) == 1


def test_a_filter_of_a_closed_window_is_no_matter(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    runtime.domains = lambda: {"Engine"}
    runtime._on_change(config("Engine"))
    runtime._on_change(None)
    runtime.check_filter()
    assert warnings(caplog) == []


def test_other_processes_of_the_service_say_nothing(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    runtime._leader = None
    runtime.domains = lambda: {"Engine"}
    runtime._on_change(config("Enjine"))
    assert warnings(caplog) == []


def test_known_are_built_in_types_that_have_rows_and_symbols_of_modules_that_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "symbols.yaml"
    file.write_text(
        "- symbol: vllm.v1.core.sched.scheduler:Scheduler.schedule\n"
        "  handler: ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:schedule\n"
        "- symbol: not_imported.module:Transfer.send\n"
        "  domain: KVTransfer\n"
    )
    recorder = Recorder()
    monkeypatch.setattr(_symbol_hooks, "recorder", recorder)
    installer = Installer()
    try:
        hooks: Any = _symbol_hooks.install(installer, file)
        assert recorder.domains == {"Schedule", "Schedule.KVCache"}
        assert hooks.domains() == {"Schedule", "Schedule.KVCache", "KVTransfer"}
        recorder.register(RecordType("Mine", "call"))
        assert hooks.domains() == {"Schedule", "Schedule.KVCache", "KVTransfer", "Mine"}
        file.write_text(file.read_text().replace("KVTransfer", "Wire"))
        hooks.update()
        assert "Wire" in hooks.domains()
        assert "KVTransfer" not in hooks.domains()
        sampling = {"host_system_usage_freq": 5, "npu_memory_usage_freq": -1}
        recorder.set_native(parse(json.dumps({"enable": 1, **sampling}), "c.json")[0])
        assert "host" in hooks.domains()
        assert "npu" not in hooks.domains()
    finally:
        _symbol_hooks.uninstall(installer)
