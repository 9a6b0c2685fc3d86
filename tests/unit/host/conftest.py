"""A sampling source, its metrics, and what it has emitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.host import _source
from ascend_opentelemetry.native import ProfileConfig
from ascend_opentelemetry.recorder import Recorder, SourceWindow


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """The recorder that the source emits to; nothing takes its records."""
    recorder = Recorder()
    monkeypatch.setattr(_source, "recorder", recorder)
    yield recorder
    recorder.shutdown(1)


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def window(hertz: int) -> SourceWindow:
    return SourceWindow(ProfileConfig(host_system_usage_freq=hertz), Path("/prof/1126-0300"), time.time_ns())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
