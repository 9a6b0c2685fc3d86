"""Fixtures of tests that look at traces in a real Jaeger, or behind a real Collector."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.backends import Backends, build, is_built
from devtools.collector import Collector
from devtools.jaeger import Jaeger


@pytest.fixture(scope="session")
def backends() -> Backends:
    """The commands of Jaeger and the Collector."""
    if os.environ.get("ASCEND_OTEL_TEST_VLLM") != "1" and not is_built():
        pytest.skip("no trace backends: build them with `python3 -m devtools.backends`, or run `make test`")
    return build()


@pytest.fixture
def jaeger(backends: Backends, tmp_path: Path) -> Iterator[Jaeger]:
    """A running Jaeger of its own for each test."""
    with Jaeger(backends.jaeger, log_path=tmp_path / "jaeger.log") as running:
        yield running


@pytest.fixture
def collector(backends: Backends, jaeger: Jaeger, tmp_path: Path) -> Iterator[Collector]:
    """A running Collector of its own for each test, which sends the traces to ``jaeger``."""
    options = {"file": tmp_path / "otel.jsonl", "log_path": tmp_path / "otelcol.log"}
    with Collector(backends.collector, traces_endpoint=jaeger.grpc_endpoint, **options) as running:
        yield running
