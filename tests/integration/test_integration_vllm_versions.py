"""The hooks, and what they read, against the source of each supported version of vLLM."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
from packaging.version import Version

from ascend_opentelemetry import symbols, vllm
from ascend_opentelemetry._builtin_hooks import since, spellings
from devtools import vllm_sources
from tests.support.vllm_source import VllmSource

#: All of them in `make versions`; in `make test`, those with the greatest differences.
VERSIONS = vllm_sources.VERSIONS if os.environ.get("ASCEND_OTEL_TEST_VERSIONS") == "all" else vllm_sources.CORE

#: Functions of the API server's program before they had modules of their own.
HANDLERS = {"exception_handler", "validation_exception_handler"}
#: What a version has under no name; docs/versions.md tells users what that means.
LACKING = {
    "0.9.1": {
        "EngineCoreProc._notify_idle_state_callbacks", "GPUModelRunner.sample_tokens", "OutputProcessor.do_tracing",
        "Scheduler._preempt_request", "StatLoggerManager.record", "UniProcExecutor.execute_model", "init_otel_tracer",
        "record_function_or_nullcontext", *HANDLERS,
    },
    "0.10.2": {
        "EngineCoreProc._notify_idle_state_callbacks", "GPUModelRunner.sample_tokens", "Scheduler._preempt_request",
        "UniProcExecutor.execute_model", *HANDLERS,
    },
    "0.11.0": {
        "EngineCoreProc._notify_idle_state_callbacks", "GPUModelRunner.sample_tokens", "Scheduler._preempt_request",
        "UniProcExecutor.execute_model", *HANDLERS,
    },
    "0.11.2": {"EngineCoreProc._notify_idle_state_callbacks", "Scheduler._preempt_request", *HANDLERS},
    "0.14.1": {"EngineCoreProc._notify_idle_state_callbacks", *HANDLERS},
    "0.16.0": {"EngineCoreProc._notify_idle_state_callbacks", "exception_handler"},
}  # fmt: skip

#: What the request trace, the step trace and the native rows stand on.
CORE = {
    "AsyncLLM.add_request", "OutputProcessor.add_request", "OutputProcessor.process_outputs",
    "OutputProcessor._update_stats_from_finished", "OutputProcessor.abort_requests", "OutputProcessor.propagate_error",
    "LLMEngine.step", "OpenAIServingCompletion.create_completion", "OpenAIServingChat.create_chat_completion",
    "create_error_response", "shutdown", "Scheduler.add_request", "Scheduler.schedule", "Scheduler.update_from_output",
    "Scheduler._free_request", "KVCacheManager.free", "KVCacheManager.get_computed_blocks",
    "MultiprocExecutor.execute_model", "Executor.execute_model", "EngineCore.__init__", "EngineCore.shutdown",
    "WorkerProc.shutdown",
    "GPUModelRunner.execute_model",
}  # fmt: skip

#: Parameters that handlers read, in the place where they look for one given by position.
PARAMETERS: Mapping[str, Mapping[int, str]] = {
    "OutputProcessor.add_request": {1: "request", 2: "prompt", 3: "parent_req", 4: "request_index"},
    "OutputProcessor.process_outputs": {1: "engine_core_outputs"},
    "OutputProcessor._update_stats_from_finished": {1: "req_state", 2: "finish_reason"},
    "OutputProcessor.abort_requests": {1: "request_ids"},
    "OutputProcessor.propagate_error": {1: "e"},
    "OpenAIServingCompletion.create_completion": {1: "request", 2: "raw_request"},
    "OpenAIServingChat.create_chat_completion": {1: "request", 2: "raw_request"},
    "OpenAIServingResponses.create_responses": {1: "request", 2: "raw_request"},
    "OpenAIServingChatBatch.create_batch_chat_completion": {1: "request", 2: "raw_request"},
    "AnthropicServingMessages.create_messages": {1: "request", 2: "raw_request"},
    "CohereServingChatV2.create_chat_v2": {1: "request", 2: "raw_request"},
    "ServingTokens.serve_tokens": {1: "request", 2: "raw_request"},
    "Scheduler.add_request": {1: "request"},
    "Scheduler.update_from_output": {1: "scheduler_output", 2: "model_runner_output"},
    "Scheduler._preempt_request": {1: "request"},
    "Scheduler._free_request": {1: "request"},
    "KVCacheManager.free": {1: "request"},
    "KVCacheManager.get_computed_blocks": {1: "request"},
    "MultiprocExecutor.execute_model": {1: "scheduler_output"},
    "UniProcExecutor.execute_model": {1: "scheduler_output"},
    "Executor.execute_model": {1: "scheduler_output"},
    "RayDistributedExecutor._execute_dag": {1: "scheduler_output"},
    "RayDistributedExecutor.execute_model": {1: "scheduler_output"},
    "exception_handler": {1: "exc"},
    "validation_exception_handler": {1: "exc"},
    "GPUModelRunner.execute_model": {1: "scheduler_output"},
    "StatLoggerManager.record": {1: "scheduler_stats", 2: "iteration_stats"},
    "shutdown": {0: "procs"},
    "init_tracer": {0: "instrumenting_module_name", 1: "otlp_traces_endpoint"},
    "init_otel_tracer": {0: "instrumenting_module_name", 1: "otlp_traces_endpoint"},
    "record_function_or_nullcontext": {0: "name"},
}

#: Attributes that handlers read of each class, without asking whether they are there.
ATTRIBUTES: Mapping[str, set[str]] = {
    "vllm.v1.core.sched.output:SchedulerOutput": {
        "scheduled_new_reqs", "scheduled_cached_reqs", "num_scheduled_tokens", "total_num_scheduled_tokens",
        "scheduled_spec_decode_tokens", "finished_req_ids",
    },
    "vllm.v1.core.sched.output:NewRequestData": {"req_id", "prompt_token_ids", "num_computed_tokens"},
    "vllm.v1.core.sched.output:CachedRequestData": {"num_computed_tokens"},
    "vllm.v1.core.sched.scheduler:Scheduler": {
        "requests", "running", "waiting", "kv_cache_manager", "vllm_config", "has_requests",
    },
    "vllm.v1.core.kv_cache_manager:KVCacheManager": {"block_pool"},
    "vllm.v1.core.block_pool:BlockPool": {"num_gpu_blocks", "get_num_free_blocks"},
    "vllm.v1.request:Request": {
        "request_id", "status", "num_prompt_tokens", "num_output_tokens", "num_computed_tokens", "num_tokens",
        "sampling_params",
    },
    "vllm.v1.request:RequestStatus": {"FINISHED_ABORTED"},
    "vllm.v1.engine:EngineCoreRequest": {"request_id", "prompt_token_ids", "sampling_params", "arrival_time"},
    "vllm.v1.engine:EngineCoreOutput": {"request_id", "new_token_ids"},
    "vllm.v1.engine.core:EngineCore": {"scheduler", "model_executor"},
    "vllm.v1.engine.output_processor:OutputProcessor": {"request_states"},
    "vllm.v1.engine.output_processor:RequestState": {"request_id", "prompt_len", "detokenizer", "stats"},
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer": {"output_token_ids"},
    "vllm.v1.engine.parallel_sampling:ParentRequest": {"request_id", "sampling_params"},
    "vllm.v1.metrics.stats:RequestStateStats": {"queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts"},
    "vllm.v1.metrics.stats:IterationStats": {
        "num_preempted_reqs", "num_prompt_tokens", "num_generation_tokens",
    },
    "vllm.v1.outputs:ModelRunnerOutput": {"sampled_token_ids", "req_id_to_index"},
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner": {"vllm_config"},
    "vllm.sampling_params:SamplingParams": {
        "temperature", "top_p", "top_k", "min_p", "max_tokens", "n", "stop", "seed", "frequency_penalty",
        "presence_penalty", "repetition_penalty",
    },
    "vllm.config:ParallelConfig": {"rank", "tensor_parallel_size", "data_parallel_rank"},
}  # fmt: skip
#: Those of statistics that are read from the version on whose hook gets them.
STATS = {"num_running_reqs", "num_waiting_reqs", "kv_cache_usage", "prefix_cache_stats"}


@pytest.fixture(scope="module", params=VERSIONS)
def source(request: pytest.FixtureRequest) -> VllmSource:
    version: str = request.param
    if not vllm_sources.is_fetched(version):
        pytest.skip(f"no sources of vLLM {version}: fetch them with `python3 -m devtools.vllm_sources`")
    return VllmSource(version, vllm_sources.fetch(version))


@pytest.fixture(scope="module")
def groups() -> list[list[vllm.Hooked]]:
    """The functions of vLLM that are hooked, each with its names."""
    return [group for group in spellings() if group[0].module.startswith("vllm.")]


@pytest.fixture(scope="module")
def names(source: VllmSource, groups: list[list[vllm.Hooked]]) -> list[list[vllm.Hooked]]:
    """Of each of these functions, the names that the version has."""
    return [[name for name in group if source.find(name.module, name.qualname) is not None] for group in groups]


def test_what_a_version_lacks_is_known(source, groups, names) -> None:
    lacking = {group[0].qualname for group, found in zip(groups, names, strict=True) if not found}
    assert lacking == LACKING.get(str(source.version), set())


def test_what_a_version_should_have_is_what_it_has(source, groups, names) -> None:
    for group, found in zip(groups, names, strict=True):
        assert bool(found) == (since(group) <= source.version), group[0]


def test_the_traces_and_the_native_rows_have_their_hooks(names) -> None:
    found = {name.qualname.replace("OpenAIServing.", "") for group in names for name in group}
    assert CORE - found == set()


def test_names_stand_for_functions_whose_parameters_are_where_handlers_look(source, names) -> None:
    checked = set()
    for name in (name for group in names for name in group):
        there = source.parameters(name.module, name.qualname)
        for index, parameter in PARAMETERS.get(name.qualname, {}).items():
            assert there[index : index + 1] == [parameter], f"{name.module}:{name.qualname}({', '.join(there)})"
            checked.add(name.qualname)
    assert CORE & PARAMETERS.keys() <= checked


def test_objects_have_the_attributes_that_handlers_read(source) -> None:
    missing = {
        target: lacking
        for target, attributes in ATTRIBUTES.items()
        if (lacking := attributes - source.attributes(*target.split(":")))
    }
    assert missing == {}
    if source.version >= Version("0.10.0"):
        assert STATS - source.attributes("vllm.v1.metrics.stats", "SchedulerStats") == set()


def test_the_trace_context_has_something_to_travel_in(source) -> None:
    request = source.attributes("vllm.v1.engine", "EngineCoreRequest")
    assert ("trace_headers" in request) == ("trace_headers" in source.attributes("vllm.v1.request", "Request"))
    assert "trace_headers" in request or "extra_args" in source.attributes("vllm.sampling_params", "SamplingParams")


def test_cached_requests_are_of_a_shape_that_the_step_reads(source) -> None:
    cached = source.attributes("vllm.v1.core.sched.output", "CachedRequestData")
    one_a_request = {"req_id", "resumed_from_preemption"} <= cached
    one_a_step = "req_ids" in cached and bool({"resumed_req_ids", "resumed_from_preemption"} & cached)
    oldest = source.version == Version("0.9.1")
    assert (one_a_request, one_a_step) == (oldest, not oldest)


def test_the_symbols_of_the_package_are_those_of_the_version(source) -> None:
    loaded, problems = symbols.load(symbols.DEFAULT_FILE)
    assert problems == []
    wrong = [
        symbol.target
        for symbol in loaded
        if symbol.module.startswith("vllm.")
        and symbols.applies(symbol, lambda package: str(source.version))
        != (source.find(symbol.module, symbol.qualname) is not None)
    ]
    assert wrong == []
