"""Nobody's text makes the reader of the config JSON raise anything but its own error, or take long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.native import ConfigError, ProfileConfig, parse
from ascend_opentelemetry.native._config import specs
from tests.support.property_cases import cases

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
example = hypothesis.example

FIELDS = [spec.name for _, spec, _ in specs()]


WORDS = st.sampled_from(
    [
        "Request",
        "KVCache",
        "INFO",
        "L1",
        "L0;10",
        "L1,0",
        "ACL_PROF_AICPU",
        ";",
        ",",
        "\uff1b",
        "~",
        "~nobody/x",
        "\0",
        "a",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.integers(-2, 60)
    | st.floats()
    | st.text()
    | st.lists(WORDS, max_size=6).map("".join),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=8)
TOKENS = st.sampled_from(
    ["{", "}", "[", "]", ":", ",", '"', "'", "\\", "\\u0000", "\\ud800", "null", "true", "NaN", "-Infinity", "1e999", "9" * 99, "\n", " ", "#", "//"]
    + [f'"{name}":' for name in FIELDS]
)  # fmt: skip
TEXTS = st.text(max_size=200) | st.lists(TOKENS, max_size=40).map("".join)


def check(text: str) -> ProfileConfig:
    config, problems = parse(text, "c.json")
    for problem in problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        said = str(problem)
        assert said.startswith(f'c.json:{problem.line}: "{problem.field}": ')
        assert len(said) < 2000 + len(problem.field)
    wrong = {problem.field for problem in problems}
    for attribute, spec, default in specs():
        # of the default's kind, whatever the file says
        assert type(getattr(config, attribute)) is type(default)
        if spec.name in wrong or f'"{spec.name}"' in text:
            continue
        assert getattr(config, attribute) == default
    return config


@cases("any object as JSON", content=CONFIGS, indent=st.sampled_from([None, 0, 4]), ascii_only=st.booleans())
def test_any_json_object_is_a_config(content: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    config = check(json.dumps(content, indent=indent, ensure_ascii=ascii_only))
    config.selects("Request", 20)
    Path(config.prof_dir)


@cases("any text as JSON", text=TEXTS)
@example(text='{"enable": ' * 5000)
@example(text='{"domain": "' + ";" * 100_000 + '"}')
@example(text='{"acl_prof_task_time_level": "L1,' + "9" * 5000 + '"}')
@example(text='{"prof_dir": "' + "~" * 5000 + '"}')
@example(text="{" + ", ".join(f'"k{number}": 1' for number in range(2000)) + "}")
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    said = "c.json:"
    try:
        check(text)
    except ConfigError as error:
        said = str(error)
    assert said.startswith("c.json:")


@cases(
    "any word in a field of JSON",
    level=st.lists(WORDS | st.text(max_size=4), max_size=4).map("".join),
    name=st.sampled_from(FIELDS),
)
def test_any_word_in_any_field(level: str, name: str) -> None:
    check(json.dumps({name: level}))
