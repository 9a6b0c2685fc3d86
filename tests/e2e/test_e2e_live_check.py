"""Everything of ours that the tests of this folder have received, against the registry; ``conftest.py`` runs it last."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.symbols import DEFAULT_FILE
from devtools.otlp_json import spans_of
from devtools.semconv import load
from tests.support.live_check import LiveCheck, timers
from tests.support.service import Service

pytestmark = pytest.mark.vllm

TESTS = Path(__file__).parents[1]
FIELD = TESTS.parents[1] / "shared" / "data" / "symbols"
#: What tests have others add to spans of ours: a processor of ``witness``, and the client's baggage.
ADDED = {"witness.tag", "witness.parent", "tier"}
#: Timers of a symbols file that is written over while its server runs.
OVERWRITTEN = {("ascend_opentelemetry.ModelExecute", "ModelRunnerExecuteModel"): {"device", "dp", "batch_size"}}
#: Spans of every server.
ALWAYS = ("queue", "prefill", "decode", "engine.step", "batchFrameworkProcessing", "modelRunnerExec", "forward")


def test_all_that_was_received_is_as_the_registry_declares_it(
    mixed: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    received = tmp_path_factory.getbasetemp()
    declared = [Path(DEFAULT_FILE), *FIELD.glob("*.yaml"), *TESTS.rglob("*.yaml"), *received.rglob("*.yaml")]
    check = LiveCheck(load(), known_timers={**timers(declared), **OVERWRITTEN}, added=ADDED)
    for path in sorted(received.rglob("*.jsonl")):
        check.add_file(path)
    assert check.seen["span llm_request"] >= len(mixed.answers)
    assert {f"span {name}" for name in ALWAYS} <= check.seen.keys()
    assert check.findings == {}


def plant(request: dict[str, Any]) -> None:
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                span["attributes"].append({"key": "vllm.planted", "value": {"stringValue": "x"}})


def test_an_attribute_that_nobody_declared_is_found(mixed: Service) -> None:
    def has_request(request: dict[str, Any]) -> bool:
        return any(span.name == "llm_request" for span in spans_of(request))

    request = next(request for request in mixed.receiver.requests("traces") if has_request(request))
    check = LiveCheck(load())
    check.add(request)
    assert check.findings == {}
    planted = copy.deepcopy(request)
    plant(planted)
    check.add(planted)
    assert "span llm_request of ascend_opentelemetry.Request: attribute vllm.planted is not declared for it" in (
        check.findings
    )
