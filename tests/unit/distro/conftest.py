"""An environment without settings, and the state of the process as it was before."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ascend_opentelemetry.native._session import SESSION_VARIABLE
from ascend_opentelemetry.recorder import Recorder, recorder


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("OTEL_", "SERVICE_PROF_", "PROFILING_")) or name == SESSION_VARIABLE:
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def global_recorder() -> Iterator[Recorder]:
    """The recorder of the process, put back in order afterwards."""
    yield recorder
    recorder.shutdown(1)
    recorder.unregister_all()
    recorder.queue.clear()
    recorder.meta.clear()
    recorder.dropped = 0
    recorder.append = recorder.queue.append
