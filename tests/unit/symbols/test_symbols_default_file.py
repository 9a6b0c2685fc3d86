from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from ascend_opentelemetry.symbols import DEFAULT_FILE, Builtin, applies, load, resolve_handler

MATRIX = Path(__file__).resolve().parents[3] / ".." / "shared" / "reference" / "vllm-symbols.txt"

# symbol, built-in handler, domain, name
EVENTS = {
    ("vllm.v1.engine.async_llm:AsyncLLM.add_request", "async_add_request", "Engine", "httpReq"),
    ("vllm.v1.engine.output_processor:OutputProcessor.process_outputs", "process_outputs", "Engine", "httpRes"),
    ("vllm.v1.core.sched.scheduler:Scheduler.add_request", "add_request", "Schedule", "Enqueue"),
    ("vllm.v1.core.sched.scheduler:Scheduler.schedule", "schedule", "Schedule", "batchFrameworkProcessing"),
    ("vllm.v1.core.kv_cache_manager:KVCacheManager.free", "kv_free", "Schedule.KVCache", "Free"),
    (
        "vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks",
        "get_computed_blocks",
        "Schedule.KVCache",
        "CacheHitRate",
    ),
    ("vllm.v1.executor.abstract:Executor.execute_model", "execute_model", "Execute", "modelExec"),
    ("vllm.v1.executor.multiproc_executor:MultiprocExecutor.execute_model", "execute_model", "Execute", "modelExec"),
    ("vllm.v1.executor.uniproc_executor:UniProcExecutor.execute_model", "execute_model", "Execute", "modelExec"),
    ("vllm.v1.worker.gpu_model_runner:GPUModelRunner.execute_model", "model_runner", "Execute", "modelRunnerExec"),
    ("vllm_ascend.worker.model_runner_v1:NPUModelRunner.execute_model", "model_runner", "Execute", "modelRunnerExec"),
    ("vllm.v1.utils:record_function_or_nullcontext", "record_function", "Execute", "forward"),
    ("vllm.v1.engine.core:DPEngineCoreProc.add_request", "data_parallel", "Meta", "dpRankId"),
}


def test_events() -> None:
    symbols, problems = load(DEFAULT_FILE)
    assert problems == []
    assert len(symbols) == len(EVENTS)
    handlers = [resolve_handler(one) for one in symbols]
    assert all(isinstance(handler, Builtin) for handler in handlers)
    assert {
        (one.target, handler[0], one.domain, one.name) for one, handler in zip(symbols, handlers, strict=True)
    } == EVENTS


def test_its_example_loads_when_the_comment_signs_are_gone(tmp_path: Path) -> None:
    lines = DEFAULT_FILE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("#   - symbol:"))
    end = lines.index("#", start)
    path = tmp_path / "example.yaml"
    path.write_text("\n".join(line[4:] for line in lines[start:end]))
    (symbol,), problems = load(path)
    assert problems == []
    assert (symbol.target, symbol.handler, symbol.domain, symbol.name) == (
        "package.module:Class.method",
        None,
        "MyDomain",
        "myEvent",
    )
    assert [(one.name, one.otel_name) for one in symbol.attributes] == [
        ("num_requests", "num_requests"),
        ("device", "my.device"),
    ]


@pytest.mark.skipif(not MATRIX.is_file(), reason="the table of vLLM's symbols is not here")
def test_its_bounds_are_those_of_vllm() -> None:
    rows = [line.split() for line in MATRIX.read_text().splitlines() if line and not line.startswith("#")]
    versions = rows[0][1:]
    assert [versions[0], versions[-1]] == ["0.9.2", "0.32.0"]
    present = {row[0]: dict(zip(versions, row[1:], strict=True)) for row in rows[1:]}
    symbols = [one for one in load(DEFAULT_FILE)[0] if one.module.startswith("vllm.")]
    assert len(symbols) == 12
    for symbol in symbols:
        for version in sorted(versions, key=Version):
            hooked = applies(symbol, lambda _, version=version: version)
            assert hooked is not present[symbol.target][version].startswith("-"), (symbol.target, version)
