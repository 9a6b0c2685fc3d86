from __future__ import annotations

import re
from pathlib import Path

import pytest

from ascend_opentelemetry.symbols import Builtin, Custom, Symbol, Timer, load, resolve_handler

NEW, OLD = (
    "ms_service_profiler.patcher.vllm.handlers.v1.{}_handlers:{}",
    "msserviceprofiler.vllm_profiler.vllm_v1.{}_hookers:{}",
)

BUILTINS = [
    ("batch", "schedule", "schedule"),
    ("batch", "add_request", "add_request"),
    ("kvcache", "free", "kv_free"),
    ("kvcache", "get_computed_blocks", "get_computed_blocks"),
    ("model", "execute_model", "execute_model"),
    ("model", "execute_model_runner", "model_runner"),
    ("model", "record_function_or_nullcontext", "record_function"),
    ("request", "add_request_async", "async_add_request"),
    ("request", "process_outputs", "process_outputs"),
    ("meta", "init_data_parallel", "data_parallel"),
    ("meta", "init_data_parallel_worker", "data_parallel"),
]
TIMERS = [
    ("model", "compute_logits", "Execute", "computing_logits"),
    ("model", "sampler_forward", "Execute", "sample"),
    ("model", "capture_async", "Execute", "method"),
    ("model", "set_forward_context", "Execute", "method"),
    ("mtp", "propose_draft_token_ids_npu", "Execute", "specDecoding"),
    ("mtp", "capture_rejection_output", "Execute", "method"),
    ("kvcache", "allocate_slots", "Default", "method"),
    ("request", "schedule", "Default", "method"),
    ("new", "function", "Default", "method"),
]


@pytest.mark.parametrize("form", [NEW, OLD], ids=["ms_service_profiler", "msserviceprofiler"])
@pytest.mark.parametrize(("topic", "function", "name"), BUILTINS)
def test_built_in_of_the_same_purpose(form: str, topic: str, function: str, name: str) -> None:
    assert resolve_handler(Symbol("m", "C.method", form.format(topic, function))) == Builtin(name)


@pytest.mark.parametrize("form", [NEW, OLD], ids=["ms_service_profiler", "msserviceprofiler"])
@pytest.mark.parametrize(("topic", "function", "domain", "name"), TIMERS)
def test_timer_of_the_same_event(form: str, topic: str, function: str, domain: str, name: str) -> None:
    handler = form.format(topic, function)
    assert resolve_handler(Symbol("m", "C.method", handler)) == Timer(domain, name)
    assert resolve_handler(Symbol("m", "C.method", handler, "Mine", "mine")) == Timer("Mine", "mine")


@pytest.mark.parametrize(
    "handler",
    [
        "ms_service_profiler.patcher.vllm.handlers.v0.batch_handlers:schedule",
        "msserviceprofiler.vllm_profiler.vllm_v0.batch_hookers:schedule",
        "ms_service_profiler.patcher.vllm.handlers.v1.batch_handlers:schedule.inner",
        "ms_service_profiler.patcher.vllm.handlers.utils:helper",
    ],
)
def test_other_functions_of_those_packages_are_never_imported(handler: str) -> None:
    assert resolve_handler(Symbol("m", "f", handler, "D", "n")) == Timer("D", "n")


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (None, Timer("Default", "f")),
        ("timer", Timer("Default", "f")),
        ("ascend_opentelemetry.vllm:schedule", Builtin("schedule")),
        ("ascend_opentelemetry.vllm:other", Timer("Default", "f")),
        ("ascend_opentelemetry.vllm.more:schedule", Custom("ascend_opentelemetry.vllm.more", "schedule")),
        (
            "vllm_profiler.config.custom_handler_example:kvcache_manager_free_example_handler",
            Custom("vllm_profiler.config.custom_handler_example", "kvcache_manager_free_example_handler"),
        ),
        ("ms_service_profiler.mine:schedule", Custom("ms_service_profiler.mine", "schedule")),
        ("my.mod:Class.func", Custom("my.mod", "Class.func")),
    ],
)
def test_handler(handler: str | None, expected: object) -> None:
    got = resolve_handler(Symbol("m", "f", handler))
    assert (got, type(got)) == (expected, type(expected))


FIELD = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "symbols"
TIMED = {
    "kvcache:allocate_slots": Timer("Default", "method"),
    "model:capture_async": Timer("Execute", "method"),
    "model:compute_logits": Timer("Execute", "computing_logits"),
    "model:sampler_forward": Timer("Execute", "sample"),
    "mtp:capture_rejection_output": Timer("Execute", "method"),
    "mtp:propose_draft_token_ids_npu": Timer("Execute", "specDecoding"),
}


@pytest.mark.skipif(not FIELD.is_dir(), reason="no shared/data/symbols beside the repository")
def test_every_handler_of_the_files_in_the_field_is_ours() -> None:
    files = [load(path)[0] for path in FIELD.glob("*.yaml")]
    handlers = {symbol.handler for found in files for symbol in found if symbol.handler is not None}
    assert (len(files), len(handlers)) == (3, 28)
    found = {handler: resolve_handler(Symbol("m", "C.method", handler)) for handler in handlers}
    short = {re.sub(r".*\.(\w+)_(?:handlers|hookers):", r"\1:", handler): one for handler, one in found.items()}
    assert short == {f"{topic}:{function}": Builtin(name) for topic, function, name in BUILTINS} | TIMED
