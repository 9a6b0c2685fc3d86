from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.semconv import RegistryError, load

ProblemsOf = Callable[[str], list[str]]

ATTRIBUTE = """
attributes:
  - {key: vllm.rank, type: int, brief: A rank., stability: development}
"""
SPAN = """
spans:
  - type: vllm.step
    kind: internal
    name: {note: step}
    brief: A step.
    stability: development
    annotations: {emitted: {scope: ascend_opentelemetry.Schedule}}
    attributes:
      - {ref: vllm.rank, requirement_level: required, brief: Its rank.}
      - {ref: gen_ai.model}
"""


def test_a_span_has_the_attributes_it_refers_to_with_what_it_refines(small: Path) -> None:
    (small / "model" / "names.yaml").write_text(f"file_format: definition/2\n{ATTRIBUTE}{SPAN}")
    (span,) = load(small).registry["spans"]
    assert span["attributes"] == [
        {
            "key": "vllm.rank",
            "type": "int",
            "brief": "Its rank.",
            "note": "",
            "stability": "development",
            "requirement_level": "required",
        },
        {
            "key": "gen_ai.model",
            "type": "string",
            "brief": "A model.",
            "note": "",
            "stability": "stable",
            "requirement_level": "recommended",
        },
    ]


def test_a_refined_metric_of_a_dependency_has_its_attributes_and_our_annotations(small: Path) -> None:
    (small / "model" / "names.yaml").write_text(
        "file_format: definition/2\nmetric_refinements:\n  - id: vllm.duration\n    ref: gen_ai.duration\n"
        "    annotations: {boundaries: [1.0, 2.0]}\n"
        "    attributes: [{ref: error.type, requirement_level: opt_in}]\n"
    )
    registry = load(small)
    (metric,) = registry.refinements["metrics"]
    assert registry.registry["metrics"] == []
    assert (metric["id"], metric["name"], metric["unit"]) == ("vllm.duration", "gen_ai.duration", "s")
    assert metric["annotations"] == {"code_generation": {"metric_value_type": "double"}, "boundaries": [1.0, 2.0]}
    levels = {attribute["key"]: attribute["requirement_level"] for attribute in metric["attributes"]}
    assert levels == {"gen_ai.model": "required", "error.type": "opt_in"}


def test_an_imported_event_is_one_of_the_registry(small: Path) -> None:
    (small / "model" / "names.yaml").write_text("file_format: definition/2\nimports: {events: [exc*]}\n")
    assert [event["name"] for event in load(small).registry["events"]] == ["exception"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("colours: []", "model/names.yaml: colours is no section: there are imports, attributes"),
        ("attributes: {}", "model/names.yaml: attributes is no list"),
        ("attributes:\n  - 7", "model/names.yaml: attributes: entry 1: 7 is no mapping"),
        (ATTRIBUTE.replace("int", "integer"), "attributes: vllm.rank: type: 'integer' is none of string, int"),
        (ATTRIBUTE.replace(", stability: development", ""), "attributes: vllm.rank: stability is missing"),
        (ATTRIBUTE.replace("development", "experimental"), "stability: 'experimental' is none of stable"),
        (ATTRIBUTE.replace("A rank.", "A rank"), "brief: 'A rank' does not end with a full stop"),
        (ATTRIBUTE.replace("A rank.", "'A \"rank\".'"), "brief: contains ['\"']"),
        (ATTRIBUTE.replace("type:", "colour: red, type:"), "attributes: vllm.rank: colour is no field here"),
        (ATTRIBUTE, "attributes: vllm.rank: nothing refers to it"),
        ((ATTRIBUTE + SPAN).replace("vllm.rank", "gen_ai.rank"), "gen_ai.rank: ours begin with vllm. or npu."),
        ((ATTRIBUTE + SPAN).replace("vllm.rank", "vllm.Rank"), "vllm.Rank: not lower case words"),
        (ATTRIBUTE + SPAN.replace("internal", "local"), "spans: vllm.step: kind: 'local' is none of internal"),
        (ATTRIBUTE + SPAN.replace("required", "always"), "requirement_level: 'always' is none of required"),
        (SPAN, "spans: vllm.step: nobody defines the attribute vllm.rank"),
        (SPAN.replace("ref: vllm.rank, requirement_level: required, brief: Its rank.", "ref_group: none"),
         "spans: vllm.step: nobody defines the group none"),
        (ATTRIBUTE + SPAN.replace("scope: ascend_opentelemetry.Schedule", ""), "annotations.emitted.scope is missing"),
        (ATTRIBUTE + SPAN.replace("Schedule}", "Schedule, events: [gone]}"), "nobody defines the event gone"),
        (ATTRIBUTE + SPAN.replace("Schedule}", "Schedule, links: [gone]}"), "public attribute group gone"),
        (ATTRIBUTE + SPAN.replace("Schedule}", "Schedule, colour: red}"), "annotations.emitted: colour is none of"),
        ("attribute_groups: [{id: a, visibility: public, attributes: [{ref: gen_ai.model}]}]",
         "attribute_groups: a: brief is missing"),
        ("attribute_groups: [{id: a, visibility: internal, brief: An a., attributes: []}]",
         "attribute_groups: a: brief is no field here"),
        ("attribute_groups: [{id: a, visibility: secret, attributes: []}]", "visibility: 'secret' is none of internal"),
        ("imports: {events: [gone.*]}", "imports: events: no dependency has gone.*"),
        ("metric_refinements: [{id: a, ref: gone}]", "metric_refinements: a: nobody defines gone"),
        ("metrics:\n  - {name: vllm.x, instrument: gauge, unit: seconds, brief: An x., stability: stable}",
         "metrics: vllm.x: seconds is no UCUM unit that is known here"),
        ("metrics:\n  - {name: vllm.x_bytes, instrument: gauge, unit: By, brief: An x., stability: stable}",
         "metrics: vllm.x_bytes: bytes belongs to the unit, not to the name"),
        ("metrics:\n  - {name: vllm.x, instrument: gauge, unit: s, brief: An x., stability: stable}",
         "metrics: vllm.x: annotations.code_generation.metric_value_type is neither int nor double"),
        ("metrics:\n  - {name: vllm.x, instrument: timer, unit: s, brief: An x., stability: stable}",
         "metrics: vllm.x: instrument: 'timer' is none of counter"),
        ("metrics: [", "model/names.yaml: while parsing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_section_and_name(problems_of: ProblemsOf, text: str, problem: str) -> None:
    assert any(problem in found for found in problems_of(text)), problems_of(text)


def test_nothing_is_wrong_with_a_span_and_its_attribute(problems_of: ProblemsOf) -> None:
    assert problems_of(ATTRIBUTE + SPAN) == []


def test_a_name_is_defined_once(small: Path) -> None:
    for name in ("a", "b"):
        (small / "model" / f"{name}.yaml").write_text(f"file_format: definition/2\n{ATTRIBUTE}")
    with pytest.raises(RegistryError, match=r"model/b\.yaml: attributes: vllm\.rank is defined in model/a\.yaml too"):
        load(small)


def test_a_dependency_that_is_not_there_is_named(small: Path) -> None:
    manifest = small / "model" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("others/2.0.0", "others/3.0.0"))
    with pytest.raises(RegistryError, match=r"model/manifest\.yaml: https://others/3\.0\.0 has no folder"):
        load(small)


def test_a_file_says_its_format(problems_of: ProblemsOf, small: Path) -> None:
    (small / "model" / "old.yaml").write_text("groups: []\n")
    assert "model/old.yaml: file_format is not definition/2" in problems_of("")
