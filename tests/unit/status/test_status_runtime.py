"""What the runtime puts into the status file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider

from ascend_opentelemetry import _runtime
from ascend_opentelemetry._runtime import Runtime
from ascend_opentelemetry.otlp import BridgeSink
from ascend_opentelemetry.recorder import Recorder


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr(_runtime, "recorder", Recorder())
    monkeypatch.setattr(_runtime, "show_messages", lambda: None)
    monkeypatch.delenv("SERVICE_PROF_CONFIG_PATH", raising=False)
    runtime = Runtime()
    yield runtime
    runtime.shutdown()


def status(folder: Path, mode: str) -> dict[str, Any]:
    path = folder / f"{os.getpid()}.json"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        content = json.loads(path.read_text()) if path.exists() else {}
        if content.get("mode") == mode:
            return content
        time.sleep(0.02)
    raise AssertionError(f"no status of mode {mode}")


def test_a_process_that_records_nothing(runtime, folder) -> None:
    runtime.start()
    content = status(folder, "none")
    assert (content["exporters"], content["hooks"], content["native"]) == ([], None, None)
    assert content["service"] == os.environ["_ASCEND_OTEL_SERVICE"]


def test_hooks_are_asked_for(runtime, folder) -> None:
    hooks = {"installed": ["a:b"], "left_out": ["a:c"], "switched_off": []}
    runtime.hooks = lambda: hooks
    runtime.start()
    assert status(folder, "none")["hooks"] == hooks


def test_native_files_only(runtime, folder, tmp_path, monkeypatch) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"enable": 0}))
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", str(config))
    runtime.start()
    assert status(folder, "native")["native"] == {
        "config": str(config),
        "enabled": False,
        "file": None,
        "written": 0,
        "dropped": {},
    }


def test_a_provider_of_others(runtime, folder) -> None:
    runtime.add_traces([BridgeSink(TracerProvider())], lambda *_: True)
    assert status(folder, "bridge")["exporters"] == []


def test_the_file_is_there_again_after_a_restart(runtime, folder) -> None:
    runtime.start()
    status(folder, "none")
    runtime.shutdown()
    assert list(folder.iterdir()) == []
    runtime.start()
    status(folder, "none")


@pytest.mark.parametrize("given", [False, True])
def test_the_meter_provider_is_named(runtime, folder, monkeypatch, given) -> None:
    provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())], shutdown_on_exit=False)
    if given:
        runtime.set_meter_provider(provider)
    else:
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    runtime.start()
    assert status(folder, "none")["metrics"] == {
        "provider": "opentelemetry.sdk.metrics._internal.MeterProvider",
        "origin": "given" if given else "global",
        "read": True,
        "readers": ["PeriodicExportingMetricReader(ConsoleMetricExporter)"],
    }
    runtime.measuring._owned = provider
    assert runtime.measuring.describe()["origin"] == ("given" if given else "own")
    provider.shutdown()


def test_without_a_meter_provider_nobody_reads(runtime, folder) -> None:
    runtime.start()
    found = status(folder, "none")["metrics"]
    assert (found["read"], found["readers"], found["origin"]) == (False, [], "global")
