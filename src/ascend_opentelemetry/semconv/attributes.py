"""Keys of attributes; generated from ``semconv/`` by ``python -m devtools.semconv``."""

from typing import Final

CPU_MODE: Final = "cpu.mode"
"""What CPUs spend their time with."""

ERROR_TYPE: Final = "error.type"
"""Class of the error that an operation ended with."""

EXCEPTION_MESSAGE: Final = "exception.message"
"""Message of the exception."""

EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""Traceback of the exception, as Python prints it."""

EXCEPTION_TYPE: Final = "exception.type"
"""Qualified name of the exception's class."""

GEN_AI_EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
"""Number of dimensions of embeddings that the client asked for."""

GEN_AI_LATENCY_E2E: Final = "gen_ai.latency.e2e"
"""Seconds from the arrival of the request to its last token."""

GEN_AI_LATENCY_TIME_IN_MODEL_DECODE: Final = "gen_ai.latency.time_in_model_decode"
"""Seconds from the first token to the last one."""

GEN_AI_LATENCY_TIME_IN_MODEL_INFERENCE: Final = "gen_ai.latency.time_in_model_inference"
"""Seconds from the first run to the last token."""

GEN_AI_LATENCY_TIME_IN_MODEL_PREFILL: Final = "gen_ai.latency.time_in_model_prefill"
"""Seconds from the first run to the first token."""

GEN_AI_LATENCY_TIME_IN_QUEUE: Final = "gen_ai.latency.time_in_queue"
"""Seconds in the scheduler's queue before the request ran first."""

GEN_AI_LATENCY_TIME_TO_FIRST_TOKEN: Final = "gen_ai.latency.time_to_first_token"
"""Seconds from the arrival of the request to its first token."""

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
"""What was asked of the model."""

GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
"""Kind of content that the client asked for."""

GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
"""Who serves the model."""

GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
"""Number of completions asked for."""

GEN_AI_REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
"""Encodings of embeddings that the client asked for."""

GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
"""Penalty on tokens by their frequency."""

GEN_AI_REQUEST_ID: Final = "gen_ai.request.id"
"""Id of the request as vLLM's clients see it."""

GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
"""Most tokens to generate."""

GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
"""Name of the model that the client asked for."""

GEN_AI_REQUEST_N: Final = "gen_ai.request.n"
"""Number of completions asked for, as vLLM's own span has it."""

GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
"""Penalty on tokens that have occurred."""

GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
"""Seed of the request's sampling."""

GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
"""Texts at which generation stops."""

GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
"""Whether the client asked for a stream."""

GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
"""Sampling temperature."""

GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
"""Number of most likely tokens to sample from."""

GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
"""Probability mass to sample from."""

GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
"""Why generation stopped, one reason a choice."""

GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
"""Name of the model that answered."""

GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
"""Number of prompt tokens that a cache held."""

GEN_AI_USAGE_COMPLETION_TOKENS: Final = "gen_ai.usage.completion_tokens"
"""Number of generated tokens, as vLLM's own span has it."""

GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
"""Number of prompt tokens, cached ones included."""

GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
"""Number of generated tokens."""

GEN_AI_USAGE_PROMPT_TOKENS: Final = "gen_ai.usage.prompt_tokens"
"""Number of prompt tokens, as vLLM's own span has it."""

HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
"""Status code of the HTTP response."""

HW_GPU_TASK: Final = "hw.gpu.task"
"""What a share of the time of a GPU is spent with."""

HW_ID: Final = "hw.id"
"""Id of a hardware component of the host."""

HW_MODEL: Final = "hw.model"
"""Model of a hardware component."""

HW_SENSOR_LOCATION: Final = "hw.sensor_location"
"""Where in a hardware component a sensor is."""

HW_STATE: Final = "hw.state"
"""State of a hardware component."""

HW_TYPE: Final = "hw.type"
"""Kind of a hardware component."""

HW_VENDOR: Final = "hw.vendor"
"""Vendor of a hardware component."""

NPU_ALLOCATION_RELEASED: Final = "npu.allocation.released"
"""Whether the tensor was released while the recording ran."""

NPU_ALLOCATOR_ALLOCATED: Final = "npu.allocator.allocated"
"""Bytes that tensors use."""

NPU_ALLOCATOR_OOM: Final = "npu.allocator.oom"
"""Allocations that failed for want of memory since the event before."""

NPU_ALLOCATOR_RESERVED: Final = "npu.allocator.reserved"
"""Bytes that the allocator holds."""

NPU_COMMUNICATION_DATA_TYPE: Final = "npu.communication.data_type"
"""Type of the elements that a collective moves."""

NPU_COMMUNICATION_GROUP: Final = "npu.communication.group"
"""Hash of the name of the group of ranks, which holds addresses."""

NPU_COMMUNICATION_LINK: Final = "npu.communication.link"
"""Kind of link between NPUs."""

NPU_COMMUNICATION_OPERATION: Final = "npu.communication.operation"
"""Kind of collective."""

NPU_CORE_TYPE: Final = "npu.core.type"
"""Kind of core that the operator ran on."""

NPU_MEMCPY_DIRECTION: Final = "npu.memcpy.direction"
"""Where a copy goes."""

NPU_MEMORY_CHANNEL: Final = "npu.memory.channel"
"""Number of the HBM."""

NPU_MEMORY_COMPONENT: Final = "npu.memory.component"
"""Allocator that holds the memory."""

NPU_MEMORY_IO_DIRECTION: Final = "npu.memory.io.direction"
"""Whether memory is read or written."""

NPU_MEMORY_KIND: Final = "npu.memory.kind"
"""Kind of memory."""

NPU_MEMORY_LIMIT: Final = "npu.memory.limit"
"""Bytes of memory that the NPU has."""

NPU_MEMORY_OPERATION: Final = "npu.memory.operation"
"""What is done with memory of the NPU."""

NPU_MEMORY_STATE: Final = "npu.memory.state"
"""What memory of an allocator is in."""

NPU_MEMORY_USAGE: Final = "npu.memory.usage"
"""Bytes of memory that are used."""

NPU_MEMORY_UTILIZATION: Final = "npu.memory.utilization"
"""Share of the memory that is used, 0 to 1, as the driver counts it."""

NPU_MODULE_NAME: Final = "npu.module.name"
"""Module of CANN that holds memory."""

NPU_OPERATOR_COUNT: Final = "npu.operator.count"
"""Number of operators."""

NPU_OPERATOR_TIME: Final = "npu.operator.time"
"""Seconds that the operators took together."""

NPU_OPERATOR_TYPE: Final = "npu.operator.type"
"""Type of the operator; `__other__` for those beyond the 100 that took the most time."""

NPU_PROFILER_LEVEL: Final = "npu.profiler.level"
"""Level of detail that the profiler was given."""

NPU_PROFILER_NAME: Final = "npu.profiler.name"
"""Profiler that made a recording."""

NPU_RANK: Final = "npu.rank"
"""Rank of the process that was recorded."""

NPU_RECORDING_COMMUNICATIONS: Final = "npu.recording.communications"
"""Number of collectives in a recording."""

NPU_RECORDING_DURATION: Final = "npu.recording.duration"
"""Seconds from the first operator or collective to the end of the last one, or those that the profiler ran."""

NPU_RECORDING_FILE: Final = "npu.recording.file"
"""Name of the file of a recording."""

NPU_RECORDING_FOLDER: Final = "npu.recording.folder"
"""Absolute path of the folder that holds a recording."""

NPU_RECORDING_NAME: Final = "npu.recording.name"
"""Name of the folder of a recording."""

NPU_RECORDING_OPERATORS: Final = "npu.recording.operators"
"""Number of operators in a recording."""

NPU_STEP_ID: Final = "npu.step.id"
"""Number of the profiled step."""

NPU_WINDOW_DURATION: Final = "npu.window.duration"
"""Seconds from the start of the first operator to the end of the last one."""

OTEL_COMPONENT_TYPE: Final = "otel.component.type"
"""Kind of the OpenTelemetry component."""

PROCESS_PID: Final = "process.pid"
"""Process id."""

SERVER_ADDRESS: Final = "server.address"
"""Name or address at which the server is reached."""

SERVER_PORT: Final = "server.port"
"""Port at which the server is reached."""

SERVICE_INSTANCE_ID: Final = "service.instance.id"
"""Id of one process of the service."""

SERVICE_NAME: Final = "service.name"
"""Logical name of the service."""

SYSTEM_MEMORY_STATE: Final = "system.memory.state"
"""What memory is used for."""

TELEMETRY_DISTRO_NAME: Final = "telemetry.distro.name"
"""Name of the distribution that configured the SDK."""

TELEMETRY_DISTRO_VERSION: Final = "telemetry.distro.version"
"""Version of the distribution that configured the SDK."""

TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"
"""Language of the SDK."""

TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
"""Name of the SDK."""

TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"
"""Version of the SDK."""

VLLM_DATA_PARALLEL_RANK: Final = "vllm.data_parallel.rank"
"""Rank among the data-parallel engines."""

VLLM_KV_CACHE_BLOCKS_FREE: Final = "vllm.kv_cache.blocks.free"
"""Number of free KV blocks after the step was scheduled."""

VLLM_KV_CACHE_BLOCKS_TOTAL: Final = "vllm.kv_cache.blocks.total"
"""Number of KV blocks that requests can use."""

VLLM_KV_CACHE_BLOCKS_USED: Final = "vllm.kv_cache.blocks.used"
"""Number of KV blocks in use after the step was scheduled."""

VLLM_KV_TRANSFER_DO_REMOTE_DECODE: Final = "vllm.kv_transfer.do_remote_decode"
"""Another instance will generate the tokens."""

VLLM_KV_TRANSFER_DO_REMOTE_PREFILL: Final = "vllm.kv_transfer.do_remote_prefill"
"""Another instance has computed the prompt."""

VLLM_KV_TRANSFER_REMOTE_ENGINE_ID: Final = "vllm.kv_transfer.remote_engine_id"
"""Id of the engine that holds the KV blocks."""

VLLM_KV_TRANSFER_REMOTE_HOST: Final = "vllm.kv_transfer.remote_host"
"""Host of the engine that holds the KV blocks."""

VLLM_KV_TRANSFER_REMOTE_PORT: Final = "vllm.kv_transfer.remote_port"
"""Port of the engine that holds the KV blocks."""

VLLM_KV_TRANSFER_REMOTE_REQUEST_ID: Final = "vllm.kv_transfer.remote_request_id"
"""Id of the request inside the engine that holds the KV blocks."""

VLLM_LINK_KIND: Final = "vllm.link.kind"
"""What a link of a request leads to."""

VLLM_LORA_NAME: Final = "vllm.lora.name"
"""Name of the LoRA adapter that the request uses."""

VLLM_PIPELINE_PARALLEL_RANK: Final = "vllm.pipeline_parallel.rank"
"""Rank among the pipeline-parallel workers."""

VLLM_PROCESS_KIND: Final = "vllm.process_kind"
"""Which part of the service a process is."""

VLLM_REQUEST_CHUNKS: Final = "vllm.request.chunks"
"""Number of engine steps that computed parts of the prompt."""

VLLM_REQUEST_ID: Final = "vllm.request.id"
"""Id of the request inside the engine."""

VLLM_REQUEST_INTER_TOKEN_LATENCY_MAX: Final = "vllm.request.inter_token_latency.max"
"""Longest time in seconds between two outputs with tokens."""

VLLM_REQUEST_INTER_TOKEN_LATENCY_MEAN: Final = "vllm.request.inter_token_latency.mean"
"""Seconds between two tokens on average, as the API server got them."""

VLLM_REQUEST_MIN_P: Final = "vllm.request.min_p"
"""Least probability of a token relative to the most likely one, where it is not 0."""

VLLM_REQUEST_PHASE: Final = "vllm.request.phase"
"""Phase of a request while an engine step ran."""

VLLM_REQUEST_PREEMPTIONS: Final = "vllm.request.preemptions"
"""How often the request lost its KV blocks and had to start over."""

VLLM_REQUEST_REPETITION_PENALTY: Final = "vllm.request.repetition_penalty"
"""Penalty on tokens of the prompt and those generated, where it is not 1."""

VLLM_REQUEST_SCHEDULED_TOKENS: Final = "vllm.request.scheduled_tokens"
"""Number of prompt tokens that an engine step computes for the request."""

VLLM_REQUEST_STEPS: Final = "vllm.request.steps"
"""Number of traced engine steps that the request was in, where not all of them are linked."""

VLLM_REQUEST_STRUCTURED_OUTPUT: Final = "vllm.request.structured_output"
"""What the output must match."""

VLLM_SPEC_DECODE_ACCEPTED_TOKENS: Final = "vllm.spec_decode.accepted_tokens"
"""Number of drafted tokens that the model accepted."""

VLLM_SPEC_DECODE_DRAFTED_TOKENS: Final = "vllm.spec_decode.drafted_tokens"
"""Number of tokens that the drafter proposed and the model verified."""

VLLM_STEP_BATCH_SIZE: Final = "vllm.step.batch_size"
"""Number of requests in the batch."""

VLLM_STEP_NEW_REQUESTS: Final = "vllm.step.new_requests"
"""Number of requests in the batch that run for the first time."""

VLLM_STEP_POSITION: Final = "vllm.step.position"
"""Which of a request's engine steps a link leads to, at the first and the last one."""

VLLM_STEP_PREEMPTED_REQUESTS: Final = "vllm.step.preempted_requests"
"""Number of requests that lost their KV blocks when the step was scheduled."""

VLLM_STEP_RESUMED_REQUESTS: Final = "vllm.step.resumed_requests"
"""Number of preempted requests that run again."""

VLLM_STEP_RUNNING_REQUESTS: Final = "vllm.step.running_requests"
"""Number of running requests after the step was scheduled."""

VLLM_STEP_SCHEDULED_TOKENS: Final = "vllm.step.scheduled_tokens"
"""Number of tokens that the step computes."""

VLLM_STEP_WAITING_REQUESTS: Final = "vllm.step.waiting_requests"
"""Number of waiting requests after the step was scheduled."""

VLLM_TENSOR_PARALLEL_RANK: Final = "vllm.tensor_parallel.rank"
"""Rank among the tensor-parallel workers."""

VLLM_TIME_KIND: Final = "vllm.time.kind"
"""Whose time the span holds."""

VLLM_WORKER_RANK: Final = "vllm.worker.rank"
"""Global rank of the worker."""
