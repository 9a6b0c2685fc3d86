"""Names that the registry declares are constants in the code: a literal would drift."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from devtools.semconv import ROOT, load

SOURCE = ROOT.parent / "src" / "ascend_opentelemetry"
REGISTRY = load()
KEYS = {attribute["key"] for attribute in REGISTRY.registry["attributes"]}
#: Beginnings of names: ours by namespace, since ``vllm.`` begins names of modules too.
PREFIXES = ("gen_ai.", "npu.", *{".".join(key.split(".")[:2]) + "." for key in KEYS if key.startswith("vllm.")})
NAMES = KEYS | {metric["name"] for metric in REGISTRY.refinements["metrics"]}


def literals(code: str) -> Iterator[str]:
    """Names in the code that are text, and beginnings of them."""
    for node in ast.walk(ast.parse(code)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and " " not in text and (text in NAMES or text.startswith(PREFIXES)):
            yield text


def test_names_are_constants() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.parent != SOURCE / "semconv"]
    found = {str(path.relative_to(SOURCE)): list(literals(path.read_text())) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_literal_is_found_wherever_it_stands() -> None:
    code = (
        '"""Of ``gen_ai.request.id``."""\nmodule = "vllm.v1.core"\nkind = "vllm.process_kind"\n'
        'pairs = {"gen_ai.new": 1, f"vllm.step.{kind}": 2}\n'
    )
    assert sorted(literals(code)) == ["gen_ai.new", "vllm.process_kind", "vllm.step."]
