"""The oldest OpenTelemetry supported, whose ``opentelemetry-instrument`` does not reach spawned processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools import otel_oldest
from tests.support.service import Service
from tests.support.shapes import Shape, ask, assert_complete, assert_one_tree, running

pytestmark = pytest.mark.vllm

REQUESTS = 8


@pytest.fixture(scope="module", params=["opentelemetry-instrument", "plain"])
def served(
    request: pytest.FixtureRequest, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Service, Shape]:
    shape = Shape(instrument=request.param != "plain")
    env = otel_oldest.ensure()
    with running(tmp_path_factory.mktemp("oldest") / "run", env.python, env.model, shape) as service:
        ask(service, REQUESTS)
    return service, shape


def test_spawned_processes_are_instrumented_by_the_plugin(served: tuple[Service, Shape]) -> None:
    service, shape = served
    assert_complete(service, shape)
    assert_one_tree(service)
    pids = {span.resource["process.pid"] for span in service.spans() if span.scope.startswith("ascend_opentelemetry.")}
    assert len(pids) == 3
    assert {span.resource["telemetry.sdk.version"] for span in service.spans()} == {"1.41.0"}


def test_nothing_is_said_about_it(served: tuple[Service, Shape]) -> None:
    service, _ = served
    lines = [line for line in service.server.log().splitlines() if "ascend_opentelemetry" in line]
    assert [line for line in lines if "WARNING" in line or "ERROR" in line] == []
