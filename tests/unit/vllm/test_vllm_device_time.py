"""Waiting for the device at the end of a span, on request."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_opentelemetry.vllm._device_time import DeviceTime


def fake_torch(monkeypatch: pytest.MonkeyPatch, *, name: str = "npu", available: bool = True, error: Any = None) -> Any:
    calls: list[str] = []

    def synchronize() -> None:
        calls.append("synchronized")
        if error is not None:
            raise error

    device = SimpleNamespace(
        is_available=lambda: available, current_stream=lambda: SimpleNamespace(synchronize=synchronize)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(**{name: device}))
    return calls


@pytest.mark.parametrize(("value", "asked"), [("", False), ("false", False), ("1", False), (" True ", True)])
def test_it_is_off_unless_asked_for(value: str, asked: bool) -> None:
    assert DeviceTime(value).asked is asked


@pytest.mark.parametrize("name", ["npu", "cuda"])
def test_the_current_stream_is_waited_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_torch(monkeypatch, name=name)
    device = DeviceTime("true")
    assert device.kind == "host"
    device.wait()
    device.wait()
    assert calls == ["synchronized"] * 2
    assert device.kind == "device"


def test_without_a_device_it_says_so_once_and_spans_hold_host_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_torch(monkeypatch, available=False)
    device = DeviceTime("true")
    device.wait()
    assert (device.asked, device.kind) == (False, "host")
    assert caplog.messages == ["OTEL_PYTHON_VLLM_SYNCHRONIZE has no effect: torch has no NPU or GPU here"]


def test_a_device_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    calls = fake_torch(monkeypatch, error=RuntimeError("device lost"))
    device = DeviceTime("true")
    with caplog.at_level(logging.WARNING):
        device.wait()
    assert (device.asked, device.kind, calls) == (False, "host", ["synchronized"])
    assert caplog.messages == ["the device cannot be waited for: spans hold host time"]
