"""What the tests of MSPTI share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ascend_opentelemetry.native import ProfileConfig
from ascend_opentelemetry.npu.mspti._buffers import Buffers
from ascend_opentelemetry.npu.mspti._library import Library
from ascend_opentelemetry.npu.mspti._records import Reader
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from ascend_opentelemetry.recorder import SourceWindow


class Event(NamedTuple):
    name: str
    time_ns: int
    attributes: Mapping[str, Any]
    body: Any
    ids: Any


class Events(list[Event]):
    """Takes what is emitted."""

    def emit(
        self, name: str, time_ns: int, attributes: Mapping[str, Any], *, body: Any = None, ids: Any = None
    ) -> None:
        self.append(Event(name, time_ns, attributes, body, ids))


class Metrics:
    """A provider, and the points that it has."""

    def __init__(self, **options: Any) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False, **options)

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Points by the values of their attributes, in the order of keys."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {
            tuple(point.attributes[key] for key in sorted(point.attributes)): point
            for scope in scopes
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def values(self, name: str) -> dict[tuple[Any, ...], Any]:
        return {key: point.value for key, point in self.points(name).items()}


def session(path: Path) -> tuple[MsptiSession, Reader]:
    """A subscription to the library, and the reader of its buffers."""
    library = Library(str(path))
    reader = Reader(library)
    return MsptiSession(library, Buffers(threading.Event()), reader), reader


def window(folder: Path, opened_ns: int = 0, **fields: Any) -> SourceWindow:
    return SourceWindow(ProfileConfig(**{"acl_task_time": 2, **fields}), folder, opened_ns)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
