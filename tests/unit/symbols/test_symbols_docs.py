from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ascend_opentelemetry.symbols import Attribute, bind, compile_expression, load

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "symbols.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^\| `([^`]+)` \| (`[^`]+`|left out) \|$", PAGE.partition("| expression | value |")[2], re.MULTILINE
)


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match
    return match[1]


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == 20


@pytest.mark.parametrize(("text", "value"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_example_of_the_page(text: str, value: str) -> None:
    call: dict = {}
    exec(block("python"), call)
    text = text.replace("\\|", "|")
    errors: list[Exception] = []
    values = bind(
        [Attribute("x", "x", compile_expression(text))], call["function"], lambda _, error: errors.append(error)
    )
    (got,) = values(call["args"], call["kwargs"], call["result"])
    expected = None if value == "left out" else ast.literal_eval(value.strip("`"))
    assert (got, type(got), errors) == (expected, type(expected), [])


def test_yaml_of_the_page_loads(tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(block("yaml"))
    symbols, problems = load(path)
    assert problems == []
    assert [(symbol.domain, symbol.name, symbol.min_version) for symbol in symbols] == [
        ("Engine", "step", None),
        ("ModelExecute", "ModelRunnerExecuteModel", "0.11.0"),
    ]
    assert [(one.name, one.otel_name) for one in symbols[1].attributes] == [
        ("batch_size", "batch_size"),
        ("device", "my.device"),
    ]
