"""Handlers that know vLLM: what each of its functions says about requests, steps, KV cache and execution."""

from __future__ import annotations

from typing import NamedTuple

from ascend_opentelemetry.hooks import Handler, Wrapper
from ascend_opentelemetry.recorder import RecordType
from ascend_opentelemetry.vllm import (
    _kv_cache,
    _lifecycle,
    _metrics,
    _operations,
    _output_processor,
    _overrides,
    _phase_spans,
    _ranks,
    _refusals,
    _requests,
    _scheduler,
    _scope,
    _serving,
    _step_types,
    _steps,
    _tracing,
    _worker,
)

#: The oldest version of vLLM that the handlers work with.
OLDEST = "0.9.1"


class Hooked(NamedTuple):
    """A name of a function of vLLM, and its handler; hooked wherever it exists, whatever the symbols file says.

    Attributes:
        since: first version of vLLM that has the function under one of its names.
        group: of names of which any one suffices: what they stand for; by default, those with one handler object.
    """

    module: str
    qualname: str
    handler: Handler | Wrapper
    since: str = OLDEST
    group: str = ""


_engine_add = _output_processor.EngineAddRequest()
_stop_processes = _lifecycle.StopProcesses()
_busy_loop = _lifecycle.BusyLoop()
_error_response = _refusals.ErrorResponse()
_model_runner = _worker.ModelRunner()
_sample_tokens = _worker.SampleTokens()
_schedule = _steps.Schedule()
_update = _steps.UpdateFromOutput()
_ray_execute = _steps.ExecuteModel()
#: Asks for hooks of what it finds; see ``EngineInit.hook``.
ENGINE_INIT = _overrides.EngineInit(
    scheduler={"schedule": _schedule, "update_from_output": _update}, executor={"execute_model": _steps.ExecuteModel()}
)
#: Operations that generate text; of the others an engine does one, and what takes them has moved often.
_GENERATING = ("text_completion", "chat")
_serve = {
    operation: _serving.Serve(operation or _operations.pooling_operation) for _, _, operation in _operations.OPERATIONS
}

_HANDLERS = "vllm.entrypoints.serve.exception_handling.handlers"
_OLDER_HANDLERS = ("vllm.entrypoints.serve.utils.server_utils", "vllm.entrypoints.openai.server_utils")
_EXCEPTION_HANDLERS = (
    ((f"{_HANDLERS}.exception", *_OLDER_HANDLERS), "exception_handler", _refusals.ExceptionHandler(), "0.18.0"),
    ((f"{_HANDLERS}.validation", *_OLDER_HANDLERS), "validation_exception_handler", _refusals.ExceptionHandler(),
     "0.16.0"),
)  # fmt: skip

#: Source of each: vLLM 0.9.1 to 0.32.0, the newest name first; docs/versions.md tells what an older version lacks.
HOOKED = (
    Hooked("vllm.tracing.otel", "init_otel_tracer", _tracing.init_tracer, since="0.10.2"),
    # vllm.tracing has kept the function itself where it was imported before our hooks
    Hooked("vllm.v1.engine.async_llm", "init_tracer", _tracing.init_tracer),
    Hooked("vllm.v1.engine.llm_engine", "init_tracer", _tracing.init_tracer),
    Hooked("vllm.v1.engine.async_llm", "AsyncLLM.add_request", _engine_add),
    Hooked("vllm.v1.engine.llm_engine", "LLMEngine.add_request", _engine_add),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.add_request", _output_processor.OutputAddRequest()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.process_outputs", _output_processor.ProcessOutputs()),
    Hooked(
        "vllm.v1.engine.output_processor", "OutputProcessor._update_stats_from_finished", _output_processor.Finished()
    ),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.abort_requests", _output_processor.AbortRequests()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.propagate_error", _output_processor.PropagateError()),
    Hooked("vllm.v1.engine.output_processor", "OutputProcessor.do_tracing", _tracing.DoTracing(), "0.10.2"),
    Hooked("vllm.v1.engine.llm_engine", "LLMEngine.step", _output_processor.EngineStep()),
    *(
        Hooked(module, qualname, _serve[operation], group=operation if operation in _GENERATING else "pooling")
        for module, qualname, operation in _operations.OPERATIONS
    ),
    Hooked("vllm.entrypoints.serve.exception_handling.error_response", "create_error_response", _error_response),
    Hooked("vllm.entrypoints.serve.utils.error_response", "create_error_response", _error_response),
    Hooked("vllm.entrypoints.utils", "create_error_response", _error_response),
    Hooked("vllm.entrypoints.openai.engine.serving", "OpenAIServing.create_error_response", _error_response),
    Hooked("vllm.entrypoints.openai.serving_engine", "OpenAIServing.create_error_response", _error_response),
    *(
        Hooked(module, name, handler, since)
        for modules, name, handler, since in _EXCEPTION_HANDLERS
        for module in modules
    ),
    Hooked("vllm.v1.metrics.loggers", "StatLoggerManager.record", _metrics.RecordStats(), "0.10.0"),
    Hooked("vllm.v1.utils", "shutdown", _stop_processes),
    Hooked("vllm.v1.engine.utils", "shutdown", _stop_processes),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.add_request", _scheduler.AddRequest()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.schedule", _schedule),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.update_from_output", _update),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler.make_stats", _metrics.MakeStats()),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler._preempt_request", _scheduler.PreemptRequest(), "0.13.0"),
    Hooked("vllm.v1.core.sched.scheduler", "Scheduler._free_request", _scheduler.FreeRequest()),
    Hooked("vllm.v1.core.kv_cache_manager", "KVCacheManager.free", _kv_cache.Free()),
    Hooked("vllm.v1.core.kv_cache_manager", "KVCacheManager.get_computed_blocks", _kv_cache.GetComputedBlocks()),
    Hooked("vllm.v1.executor.multiproc_executor", "MultiprocExecutor.execute_model", _steps.ExecuteModel()),
    Hooked("vllm.v1.executor.uniproc_executor", "UniProcExecutor.execute_model", _steps.ExecuteModel(), "0.11.1"),
    Hooked("vllm.v1.executor.abstract", "Executor.execute_model", _steps.ExecuteModel()),
    # its ``execute_model`` keeps the batch for ``sample_tokens``, which then runs all of it
    Hooked("vllm.v1.executor.ray_executor", "RayDistributedExecutor._execute_dag", _ray_execute),
    Hooked("vllm.v1.executor.ray_distributed_executor", "RayDistributedExecutor.execute_model", _ray_execute),
    Hooked("vllm.v1.engine.core", "EngineCore.__init__", ENGINE_INIT),
    Hooked("vllm.v1.engine.core", "EngineCoreProc._notify_idle_state_callbacks", _lifecycle.Idle(), "0.17.0"),
    Hooked("vllm.v1.engine.core", "EngineCoreProc._process_input_queue", _lifecycle.InputQueue()),
    Hooked("vllm.v1.engine.core", "EngineCoreProc.run_busy_loop", _busy_loop),
    Hooked("vllm.v1.engine.core", "DPEngineCoreProc.run_busy_loop", _busy_loop),
    Hooked("vllm.v1.executor.multiproc_executor", "WorkerProc.worker_busy_loop", _busy_loop),
    Hooked("vllm.v1.engine.core", "EngineCore.shutdown", _lifecycle.EngineShutdown()),
    Hooked("vllm.v1.executor.multiproc_executor", "WorkerProc.shutdown", _lifecycle.WorkerShutdown()),
    Hooked("vllm.v1.worker.gpu_model_runner", "GPUModelRunner.execute_model", _model_runner),
    Hooked("vllm.v1.worker.gpu_model_runner", "GPUModelRunner.sample_tokens", _sample_tokens),
    Hooked("vllm.v1.worker.gpu.model_runner", "GPUModelRunner.execute_model", _model_runner),
    Hooked("vllm.v1.worker.gpu.model_runner", "GPUModelRunner.sample_tokens", _sample_tokens, "0.11.1"),
    Hooked("vllm_ascend.worker.model_runner_v1", "NPUModelRunner.execute_model", _model_runner),
    Hooked("vllm_ascend.worker.model_runner_v1", "NPUModelRunner.sample_tokens", _sample_tokens),
    Hooked("vllm.v1.utils", "record_function_or_nullcontext", _worker.RecordFunction(), "0.10.2"),
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
    _phase_spans.QUEUE,
    _phase_spans.PREFILL,
    _phase_spans.DECODE,
    _step_types.STEP_TYPE,
    _step_types.UPDATE_TYPE,
    _scope.ROOT_TYPE,
    _scope.CHILD_TYPE,
    _worker.SAMPLE_TYPE,
    *_metrics.TYPES,
    *(_worker.TAG_TYPES[tag] for tag in _worker.TAGS),
)

#: Rows of the native ``Meta`` table before anything is known.
META = {_ranks.DP_RANK: _ranks.UNKNOWN_RANK}

__all__ = ["ENGINE_INIT", "HOOKED", "META", "NATIVE_TYPES", "TYPES", "Hooked"]
