"""Each folder of the package is a stage that knows only those before it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "ascend_opentelemetry"
ROOT = Path(__file__).resolve().parents[2] / "src" / PACKAGE
TOP = "top level"

#: What each stage may import besides itself.
ALLOWED = {
    "recorder": set(),
    "symbols": set(),
    "hooks": {"recorder"},
    "vllm": {"recorder", "hooks", "semconv"},
    "native": {"recorder"},
    "otlp": {"recorder", "semconv"},
    "profiler": {"recorder"},
    "status": set(),
    "semconv": set(),
    "metrics": {"recorder", "semconv"},
    "host": {"recorder", "semconv"},
    "npu": {"recorder", "semconv"},
    TOP: {"recorder", "symbols", "hooks", "vllm", "profiler", "native", "otlp", "status", "metrics", "host", "npu"},
    "distro": {TOP, "otlp", "recorder", "semconv"},
    "cli": {"native", "symbols", "status", "otlp", "recorder", "npu"},
}
#: The same for the folders of ``npu``: each but the base (``npu`` itself) stands for a library or a kind of file.
ALLOWED_IN_NPU = {
    "npu": set(),
    "npu.operators": {"npu"},
    "npu.dcmi": {"npu"},
    "npu.mspti": {"npu", "npu.operators"},
    "npu.torch": {"npu", "npu.operators", "npu.dcmi"},
    "npu.aclprof": {"npu", "npu.torch"},
    "npu.recordings": {"npu", "npu.operators"},
}
#: Modules that import nothing of ours: open to all.
LEAVES = {
    f"{PACKAGE}.version",
    f"{PACKAGE}.environment_variables",
    f"{PACKAGE}._endpoint",
    f"{PACKAGE}._role",
    f"{PACKAGE}._batch_histogram",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def stage(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else TOP


def folder(module: str) -> str:
    """``npu.dcmi`` of a module in that folder."""
    parts = MODULES[module].relative_to(ROOT).parent.parts
    return ".".join(parts)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(node: ast.AST, typing: bool) -> Iterator[str]:
    """Modules of ours that the code below ``node`` imports, in functions too."""
    for child in ast.iter_child_nodes(node):
        if is_for_type_checkers(child) and not typing:
            continue
        if isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            for alias in child.names:
                submodule = f"{child.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(child.module)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child, typing)


def imports(module: str, typing: bool = True) -> set[str]:
    tree = ast.parse(MODULES[module].read_text())
    return {name for name in imported(tree, typing) if name.partition(".")[0] == PACKAGE} - {module}


def test_every_folder_is_a_known_stage() -> None:
    assert {stage(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_stage_and_those_before_it(module) -> None:
    own = stage(module)
    allowed = ALLOWED[own] | {own}
    wrong = {name for name in imports(module) - LEAVES if stage(name) not in allowed}
    assert wrong == set()


@pytest.mark.parametrize("module", [module for module in MODULES if stage(module) == "npu"])
def test_a_module_of_the_npu_imports_what_its_folder_may(module) -> None:
    wrong = {name for name in imports(module) if stage(name) == "npu"}
    wrong = {name for name in wrong if folder(name) not in ALLOWED_IN_NPU[folder(module)] | {folder(module)}}
    assert wrong == set()


@pytest.mark.parametrize("module", sorted(LEAVES))
def test_leaves_import_nothing_of_ours(module) -> None:
    assert imports(module) == set()


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if cycle := visit(other, [*path, node]):
                return cycle
        done.add(node)
        return []

    return next((cycle for node in graph if (cycle := visit(node, []))), [])


def test_no_modules_import_each_other() -> None:
    graph = {module: imports(module, typing=False) & MODULES.keys() for module in MODULES}
    assert find_cycle(graph) == []


def test_no_stages_import_each_other() -> None:
    graph: dict[str, set[str]] = {name: set() for name in ALLOWED}
    for module in MODULES:
        graph[stage(module)] |= {stage(name) for name in imports(module) - LEAVES} - {stage(module)}
    assert find_cycle(graph) == []


def test_the_check_for_cycles_finds_one() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.distro", f"{PACKAGE}.environment_variables"])
def test_entry_points_are_light(module) -> None:
    """Every Python process below ``opentelemetry-instrument`` imports them, helpers too."""
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)
    heavy = ("vllm", "torch", "torch_npu", "grpc", "requests", "yaml", "sqlite3", "google.protobuf")
    heavy += ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
    assert [name for name in loaded for prefix in heavy if name == prefix or name.startswith(f"{prefix}.")] == []
    ours = {name for name in loaded if name.partition(".")[0] == PACKAGE}
    assert ours <= {PACKAGE, *LEAVES, f"{PACKAGE}.distro"} | {
        f"{PACKAGE}.distro.{name}" for name in ("_distro", "_plugin")
    }
