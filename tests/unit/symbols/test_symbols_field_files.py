from __future__ import annotations

from pathlib import Path

import pytest

from ascend_opentelemetry.symbols import Builtin, Symbol, Timer, load, resolve_handler

FOLDER = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "symbols"
FILES = {
    "vllm-ascend-main.yaml": (76, 66, 15),
    "msserviceprofiler-26.0.0.yaml": (23, 0, 15),
    "msserviceprofiler-1.2.3.yaml": (18, 0, 11),
}

needs_files = pytest.mark.skipif(not FOLDER.is_dir(), reason="the symbols files of other packages are not here")


def loaded(name: str) -> list[Symbol]:
    symbols, problems = load(FOLDER / name)
    assert problems == []
    return symbols


@needs_files
@pytest.mark.parametrize("name", FILES)
def test_loads_without_a_problem(name: str) -> None:
    symbols = loaded(name)
    attributes = [one for symbol in symbols for one in symbol.attributes]
    builtins = [one for one in symbols if isinstance(resolve_handler(one), Builtin)]
    assert (len(symbols), len(attributes), len(builtins)) == FILES[name]
    # no handler of another package is ever imported
    assert {type(resolve_handler(one)) for one in symbols} == {Builtin, Timer}
    lines = (FOLDER / name).read_text().split("\n")
    for symbol in symbols:
        assert lines[symbol.line - 1].replace('"', "") == f"- symbol: {symbol.target}"


@needs_files
def test_wildcards_and_bounds() -> None:
    by_target = {symbol.target: symbol for symbol in loaded("msserviceprofiler-26.0.0.yaml")}
    assert [target for target, one in by_target.items() if one.wildcard] == [
        "vllm.model_executor.models.*:*.embed_multimodal"
    ]
    bounded = by_target["vllm_ascend.utils:ProfileExecuteDuration.capture_async"]
    assert (bounded.min_version, bounded.max_version) == ("0.9.1", "0.14.0rc1")


@needs_files
def test_domains_and_names_of_timers_that_stand_for_handlers() -> None:
    symbols = [one for one in loaded("vllm-ascend-main.yaml") if one.handler]
    timers = {one.target.rpartition(":")[2]: resolve_handler(one) for one in symbols}
    assert {name: timer for name, timer in timers.items() if isinstance(timer, Timer)} == {
        "LogitsProcessor.forward": Timer("Execute", "computing_logits"),
        "Sampler.forward": Timer("Execute", "sample"),
        "ProfileExecuteDuration.capture_async": Timer("Execute", "capture_async"),
        "NPUModelRunner.propose_draft_token_ids": Timer("Execute", "specDecoding"),
        "rejection_sample": Timer("Execute", "rejection_sample"),
    }


@needs_files
def test_expressions_of_the_long_file() -> None:
    symbols = {one.target.rpartition(":")[2]: one for one in loaded("vllm-ascend-main.yaml")}
    forward = symbols["NPUModelRunner._model_forward"]
    assert [(one.name, one.otel_name, one.expr.root, one.expr.steps) for one in forward.attributes] == [
        ("req_ids", "req_ids", "this", (("attr", "input_batch"), ("attr", "req_ids"), ("call", "str"))),
        ("dp_rank", "dp_rank", "this", (("attr", "dp_rank"), ("call", "str"))),
        ("npu_id", "npu_id", "this", (("attr", "device"), ("attr", "index"), ("call", "str"))),
    ]
