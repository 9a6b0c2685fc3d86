from __future__ import annotations

import importlib
from pathlib import Path

import opentelemetry.semconv
import pytest

from ascend_opentelemetry.semconv import attributes, events, metrics, spans
from devtools.semconv import load
from devtools.semconv.__main__ import main

Capture = pytest.CaptureFixture[str]


def test_generated_files_are_up_to_date(capsys: Capture) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_a_changed_name_makes_the_check_fail_until_the_files_are_generated(root: Path, capsys: Capture) -> None:
    assert main([], root) == 0
    assert main(["--check"], root) == 0
    step = root / "model" / "step.yaml"
    step.write_text(step.read_text().replace("vllm.step.batch_size", "vllm.step.requests"))
    capsys.readouterr()
    assert main(["--check"], root) == 1
    assert capsys.readouterr().err.splitlines() == [
        "docs/semconv/spans.md is not up to date: run `python -m devtools.semconv`",
        "src/ascend_opentelemetry/semconv/attributes.py is not up to date: run `python -m devtools.semconv`",
    ]
    assert main([], root) == 0
    assert main(["--check"], root) == 0
    text = (root.parent / "src" / "ascend_opentelemetry" / "semconv" / "attributes.py").read_text()
    assert 'VLLM_STEP_REQUESTS: Final = "vllm.step.requests"\n"""Number of requests in the batch."""\n' in text


def test_a_file_that_no_template_makes_is_removed(root: Path, capsys: Capture) -> None:
    main([], root)
    stray = root.parent / "docs" / "semconv" / "old.md"
    stray.write_text("old")
    assert main(["--check"], root) == 1
    assert "docs/semconv/old.md" in capsys.readouterr().err
    main([], root)
    assert not stray.exists()


def test_a_broken_registry_changes_nothing_and_says_why(root: Path, capsys: Capture) -> None:
    main([], root)
    before = {path: path.read_bytes() for path in root.parent.rglob("*.py")}
    (root / "model" / "bad.yaml").write_text("file_format: definition/2\nattributes: [{key: vllm.x}]\n")
    assert main([], root) == 2
    assert "model/bad.yaml: attributes: vllm.x: type is missing" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in root.parent.rglob("*.py")} == before


def test_constants_are_what_the_registry_says() -> None:
    assert attributes.GEN_AI_LATENCY_TIME_TO_FIRST_TOKEN == "gen_ai.latency.time_to_first_token"
    assert spans.VLLM_ENGINE_STEP == "engine.step"
    assert events.PREEMPTED == "preempted"
    duration = metrics.GEN_AI_SERVER_REQUEST_DURATION
    assert duration[:3] == ("gen_ai.server.request.duration", "histogram", "s")
    assert duration.boundaries[:3] == (0.01, 0.02, 0.04)
    registry = load()
    signals = [*registry.refinements["metrics"], *registry.refinements["spans"], *registry.refinements["events"]]
    used = {attribute["key"] for signal in signals for attribute in signal["attributes"]}
    constants = {value for name, value in vars(attributes).items() if name.isupper()}
    assert used <= constants


def conventions() -> set[str]:
    """Every name in the published constants of the OpenTelemetry conventions."""
    root = Path(opentelemetry.semconv.__path__[0])
    found: set[str] = set()
    for path in [*root.rglob("*_attributes.py"), *root.rglob("*_metrics.py")]:
        module = ".".join(("opentelemetry.semconv", *path.relative_to(root).with_suffix("").parts))
        found |= {value for name, value in vars(importlib.import_module(module)).items() if name.isupper()}
    return found


def test_what_is_said_to_be_of_the_conventions_is_in_them() -> None:
    registry = load()
    own = {attribute["key"] for attribute in registry.registry["attributes"]}
    names = {value for name, value in vars(attributes).items() if name.isupper()} - own
    names |= {metric["name"] for metric in registry.refinements["metrics"] if metric["id"] != metric["name"]}
    assert names - conventions() == set()
