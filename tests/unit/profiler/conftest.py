"""The recorder of the process without a drain, with spans or native rows on as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context as otel_context

from ascend_opentelemetry.profiler import _types
from ascend_opentelemetry.recorder import NativeRow, Record, recorder


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    """Whatever is marked, the current context is what it was."""
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() is before


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_types, "_types", {})
    monkeypatch.setattr(_types, "_said", set())
    monkeypatch.setattr(recorder, "meta", {})
    recorder.queue.clear()
    recorder.dropped = 0
    yield
    recorder.set_traces(False)
    recorder.set_native(None)
    recorder.queue.clear()
    recorder.dropped = 0


class Recording:
    """Switches, and what was recorded."""

    def native(self, level: int = 20, *domains: str) -> None:
        recorder.set_native(SimpleNamespace(profiler_level=level, domain=frozenset(domains)))

    def native_off(self) -> None:
        recorder.set_native(None)

    def traces(self, **options: Any) -> None:
        recorder.set_traces(True, **options)

    def traces_off(self) -> None:
        recorder.set_traces(False)

    def records(self) -> list[Record]:
        """Those made since the last call."""
        return [recorder.queue.popleft() for _ in range(len(recorder.queue))]

    def rows(self) -> list[NativeRow]:
        """The native rows of the records since the last call."""
        return [row for record in self.records() for row in record[0].rows(record)]

    def row(self) -> tuple[str, str, str]:
        """Name, domain and args of the only row since the last call."""
        ((_, _, name, domain, args),) = self.rows()
        return name, domain, args


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def native(recording: Recording) -> Recording:
    """Native rows of level INFO and below, no spans."""
    recording.native()
    return recording


@pytest.fixture
def traces(recording: Recording) -> Recording:
    """Spans, all roots sampled, no native rows."""
    recording.traces()
    return recording
