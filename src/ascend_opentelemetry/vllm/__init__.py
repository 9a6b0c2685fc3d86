"""Handlers that know vLLM: what each of its functions says about requests, steps, KV cache and execution."""

from __future__ import annotations

from typing import NamedTuple

from ascend_opentelemetry.hooks import Handler, Wrapper
from ascend_opentelemetry.recorder import RecordType
from ascend_opentelemetry.vllm import (
    _kv_cache,
    _lifecycle,
    _output_processor,
    _phases,
    _ranks,
    _requests,
    _scheduler,
    _serving,
    _step_types,
    _steps,
    _tracing,
    _worker,
)


class Hooked(NamedTuple):
    """A function of vLLM and its handler; hooked wherever it exists, whatever the symbols file says."""

    module: str
    qualname: str
    handler: Handler | Wrapper


_stop_processes = _lifecycle.StopProcesses()
_execute = _steps.ExecuteModel()
_model_runner = _worker.ModelRunner()
_sample_tokens = _worker.SampleTokens()
_completion = _serving.Serve("text_completion")
_chat = _serving.Serve("chat")

#: Source of each: vLLM 0.32.0; what an older version lacks is left out there.
HOOKED = (
    Hooked("vllm.tracing.otel", "init_otel_tracer", _tracing.init_tracer),
    # vllm.tracing has kept the function itself where it was imported before our hooks
    Hooked("vllm.v1.engine.async_llm", "init_tracer", _tracing.init_tracer),
    Hooked("vllm.v1.engine.llm_engine", "init_tracer", _tracing.init_tracer),
    Hooked("vllm.v1.engine.async_llm", "AsyncLLM.add_request", _output_processor.AsyncAddRequest()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.add_request", _output_processor.OutputAddRequest()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.process_outputs", _output_processor.ProcessOutputs()),
    Hooked(
        "vllm.v1.engine.output_processor", "OutputProcessor._update_stats_from_finished", _output_processor.Finished()
    ),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.abort_requests", _output_processor.AbortRequests()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.propagate_error", _output_processor.PropagateError()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.do_tracing", _tracing.DoTracing()),
    Hooked("vllm.v1.engine.llm_engine", "LLMEngine.step", _output_processor.EngineStep()),
    Hooked("vllm.entrypoints.openai.completion.serving", "OpenAIServingCompletion.create_completion", _completion),
    Hooked("vllm.entrypoints.openai.serving_completion", "OpenAIServingCompletion.create_completion", _completion),
    Hooked("vllm.entrypoints.openai.chat_completion.serving", "OpenAIServingChat.create_chat_completion", _chat),
    Hooked("vllm.entrypoints.openai.serving_chat", "OpenAIServingChat.create_chat_completion", _chat),
    Hooked(
        "vllm.entrypoints.serve.exception_handling.error_response", "create_error_response", _serving.ErrorResponse()
    ),
    Hooked("vllm.v1.utils", "shutdown", _stop_processes),
    Hooked("vllm.v1.engine.utils", "shutdown", _stop_processes),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.add_request", _scheduler.AddRequest()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.schedule", _steps.Schedule()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.update_from_output", _steps.UpdateFromOutput()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler._preempt_request", _scheduler.PreemptRequest()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler._free_request", _scheduler.FreeRequest()),
    Hooked("vllm.v1.core.kv_cache_manager", "KVCacheManager.free", _kv_cache.Free()),
    Hooked("vllm.v1.core.kv_cache_manager", "KVCacheManager.get_computed_blocks", _kv_cache.GetComputedBlocks()),
    Hooked("vllm.v1.executor.multiproc_executor", "MultiprocExecutor.execute_model", _execute),
    Hooked("vllm.v1.executor.uniproc_executor", "UniProcExecutor.execute_model", _execute),
    Hooked("vllm.v1.executor.abstract", "Executor.execute_model", _execute),
    Hooked("vllm.v1.engine.core", "EngineCoreProc._notify_idle_state_callbacks", _lifecycle.Idle()),
    Hooked("vllm.v1.engine.core", "EngineCore.shutdown", _lifecycle.EngineShutdown()),
    Hooked("vllm.v1.executor.multiproc_executor", "WorkerProc.shutdown", _lifecycle.WorkerShutdown()),
    Hooked("vllm.v1.worker.gpu_model_runner", "GPUModelRunner.execute_model", _model_runner),
    Hooked("vllm.v1.worker.gpu_model_runner", "GPUModelRunner.sample_tokens", _sample_tokens),
    Hooked("vllm_ascend.worker.model_runner_v1", "NPUModelRunner.execute_model", _model_runner),
    Hooked("vllm_ascend.worker.model_runner_v1", "NPUModelRunner.sample_tokens", _sample_tokens),
    Hooked("vllm.v1.utils", "record_function_or_nullcontext", _worker.RecordFunction()),
)

#: Name of a built-in handler in the symbols file -> the native rows that naming it asks for.
NATIVE_TYPES: dict[str, tuple[RecordType, ...]] = {
    "async_add_request": (_requests.HTTP_REQUEST, _requests.TOKENIZE),
    "process_outputs": (_requests.HTTP_RESPONSE, _requests.DETOKENIZE),
    "add_request": (_scheduler.ENQUEUE_TYPE,),
    "schedule": (_step_types.SCHEDULE_TYPE, _step_types.KV_STATUS_TYPE),
    "kv_free": (_kv_cache.FREE_TYPE,),
    "get_computed_blocks": (_kv_cache.HIT_TYPE,),
    "execute_model": (_step_types.EXECUTE_TYPE,),
    "model_runner": (_worker.RUNNER_TYPE,),
    "record_function": tuple(_worker.TAG_TYPES[tag] for tag in _worker.NATIVE_TAGS),
    "data_parallel": (),
}

#: Every type that the handlers record.
TYPES: tuple[RecordType, ...] = (
    *(record_type for types in NATIVE_TYPES.values() for record_type in types),
    _phases.QUEUE,
    _phases.PREFILL,
    _phases.DECODE,
    _step_types.STEP_TYPE,
    _step_types.UPDATE_TYPE,
    _serving.ROOT_TYPE,
    _serving.CHILD_TYPE,
    _worker.SAMPLE_TYPE,
    *(_worker.TAG_TYPES[tag] for tag in _worker.TAGS),
)

#: Rows of the native ``Meta`` table before anything is known.
META = {_ranks.DP_RANK: _ranks.UNKNOWN_RANK}

__all__ = ["HOOKED", "META", "NATIVE_TYPES", "TYPES", "Hooked"]
