"""A model of vLLM compiled by ``torch.compile`` with the hooks of vllm-ascend's symbols file in place, profiling on."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.server import DEFAULT_ENV, clean_environment
from tests.support.contract import Row, read_rows

FIELD = Path(__file__).parents[3] / "shared" / "data" / "symbols" / "vllm-ascend-main.yaml"
TOKENS = 8
#: Functions inside the compiled code: a layer of the model's own module, one of another, a method, a plain function.
REFUSED = "vllm.model_executor.models.qwen2:Qwen2DecoderLayer.forward"
INSIDE = f"""
- symbol: {REFUSED}
  domain: Inside
- symbol: vllm.model_executor.layers.linear:QKVParallelLinear.forward
  domain: Inside
- symbol: vllm.model_executor.layers.linear:UnquantizedLinearMethod.apply
  domain: Inside
- symbol: vllm._custom_ops:onednn_mm
  domain: Inside
"""
#: Dynamo traces as it does in service; only kernels are not generated, which takes half a minute and has no hooks.
SCRIPT = """
import json, sys
import torch._inductor.compile_fx
from torch._dynamo.utils import counters
from vllm import LLM, SamplingParams

graphs = []

def compile_fx(graph, *args, **options):
    graphs.append(graph)
    return graph.forward

torch._inductor.compile_fx.compile_fx = compile_fx
llm = LLM(sys.argv[1], max_model_len=256, max_num_seqs=8, seed=0)
params = SamplingParams(temperature=0, max_tokens=int(sys.argv[3]), ignore_eos=True)
for prompts in (["hello"], ["hello", "hello world", "world one two three"]):
    llm.generate(prompts, params, use_tqdm=False)
stacks = [node.meta.get("stack_trace") or "" for graph in graphs for node in graph.graph.nodes]
seen = {name: dict(counters[name]) for name in ("stats", "graph_break", "recompiles", "unimplemented")}
with open(sys.argv[2], "w") as file:
    json.dump({"graphs": len(graphs), "nodes": len(stacks), "stacks": "".join(stacks), **seen}, file)
"""

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(not FIELD.is_file(), reason="vllm-ascend's file is not here")]


@dataclass
class Compiled:
    """What the script saw of the compiler, what it printed, and the rows."""

    seen: dict[str, Any]
    log: str
    rows: list[Row]


@pytest.fixture(scope="module")
def compiled(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    script, config, result = folder / "script.py", folder / "config.json", folder / "result.json"
    script.write_text(SCRIPT)
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "prof")}))
    (folder / "symbols.yaml").write_text(FIELD.read_text() + INSIDE)
    env = clean_environment() | DEFAULT_ENV
    env |= {
        "PROFILING_SYMBOLS_PATH": str(folder / "symbols.yaml"),
        "SERVICE_PROF_CONFIG_PATH": str(config),
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_AOT_COMPILE": "0",
    }
    done = subprocess.run(
        [vllm_python, script, tiny_model, result, str(TOKENS)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return Compiled(json.loads(result.read_text()), done.stdout, read_rows(folder / "prof"))


def test_the_model_is_one_graph_compiled_once(compiled: Compiled) -> None:
    seen = compiled.seen
    assert seen["graphs"] == 1
    assert seen["stats"]["unique_graphs"] == 1
    assert seen["graph_break"] == seen["recompiles"] == seen["unimplemented"] == {}


def test_nothing_of_the_hooks_is_in_the_graph(compiled: Compiled) -> None:
    assert compiled.seen["nodes"] > 20
    assert "qwen2.py" in compiled.seen["stacks"]
    assert "ascend_opentelemetry/hooks/_wrap" not in compiled.seen["stacks"]


def test_a_symbol_inside_is_refused_with_the_reason(compiled: Compiled) -> None:
    (line,) = [line for line in compiled.log.splitlines() if "torch.compile makes of" in line]
    number = (FIELD.read_text() + INSIDE).splitlines().index(f"- symbol: {REFUSED}") + 1
    assert f"/symbols.yaml:{number}: {REFUSED} is part of the code that torch.compile makes of Qwen2Model" in line
    assert "which a hook would break; it is left out (hook Qwen2Model.__call__)" in line


def test_what_runs_around_the_compiled_code_is_recorded(compiled: Compiled) -> None:
    names = Counter(f"{row.cat}/{row.name}" for row in compiled.rows)
    steps = names["Engine/EngineCore.step"]
    assert steps == 2 * TOKENS
    assert names["Execute/forward"] == steps
    assert names["Execute/computing_logits"] >= steps  # the warm-up has some too
    assert names["Execute/sample"] >= steps
    # the last layer, which makes the logits, is not compiled
    inside = {name: count for name, count in names.items() if name.startswith("Inside/")}
    assert inside == {"Inside/onednn_mm": names["Execute/computing_logits"]}
