"""Metrics; generated from ``semconv/`` by ``python -m devtools.semconv``."""

from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """What an instrument is made of; ``boundaries`` are those that a histogram advises, if it does."""

    name: str
    instrument: Literal["counter", "updowncounter", "gauge", "histogram"]
    unit: str
    description: str
    boundaries: tuple[float, ...] = ()


GEN_AI_SERVER_REQUEST_DURATION: Final = Metric(
    name="gen_ai.server.request.duration",
    instrument="histogram",
    unit="s",
    description="Time from the arrival of a request to its last token.",
    boundaries=(
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
    ),
)
"""Time from the arrival of a request to its last token."""

GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    name="gen_ai.server.time_per_output_token",
    instrument="histogram",
    unit="s",
    description="Time per token after the first one, of requests that succeeded.",
    boundaries=(
        0.01,
        0.025,
        0.05,
        0.075,
        0.1,
        0.15,
        0.2,
        0.3,
        0.4,
        0.5,
        0.75,
        1.0,
        2.5,
    ),
)
"""Time per token after the first one, of requests that succeeded."""

GEN_AI_SERVER_TIME_TO_FIRST_TOKEN: Final = Metric(
    name="gen_ai.server.time_to_first_token",
    instrument="histogram",
    unit="s",
    description="Time from the arrival of a request to its first token, of requests that succeeded.",
    boundaries=(
        0.001,
        0.005,
        0.01,
        0.02,
        0.04,
        0.06,
        0.08,
        0.1,
        0.25,
        0.5,
        0.75,
        1.0,
        2.5,
        5.0,
        7.5,
        10.0,
    ),
)
"""Time from the arrival of a request to its first token, of requests that succeeded."""

HW_ERRORS: Final = Metric(
    name="hw.errors",
    instrument="counter",
    unit="{error}",
    description="Errors of the component.",
)
"""Errors of the component."""

HW_GPU_MEMORY_LIMIT: Final = Metric(
    name="hw.gpu.memory.limit",
    instrument="updowncounter",
    unit="By",
    description="Memory that the NPU has.",
)
"""Memory that the NPU has."""

HW_GPU_MEMORY_USAGE: Final = Metric(
    name="hw.gpu.memory.usage",
    instrument="updowncounter",
    unit="By",
    description="Memory of the NPU that is used.",
)
"""Memory of the NPU that is used."""

HW_GPU_MEMORY_UTILIZATION: Final = Metric(
    name="hw.gpu.memory.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the memory of the NPU that is used.",
)
"""Share of the memory of the NPU that is used."""

HW_GPU_UTILIZATION: Final = Metric(
    name="hw.gpu.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the time that a unit of the NPU is busy.",
)
"""Share of the time that a unit of the NPU is busy."""

HW_POWER: Final = Metric(
    name="hw.power",
    instrument="gauge",
    unit="W",
    description="Power that the component takes.",
)
"""Power that the component takes."""

HW_STATUS: Final = Metric(
    name="hw.status",
    instrument="updowncounter",
    unit="1",
    description="1 for the state that the component is in, 0 for the others.",
)
"""1 for the state that the component is in, 0 for the others."""

HW_TEMPERATURE: Final = Metric(
    name="hw.temperature",
    instrument="gauge",
    unit="Cel",
    description="Temperature of the component.",
)
"""Temperature of the component."""

NPU_ALLOCATOR_ALLOCATION_SIZE: Final = Metric(
    name="npu.allocator.allocation.size",
    instrument="counter",
    unit="By",
    description="Size of the tensors allocated.",
)
"""Size of the tensors allocated."""

NPU_ALLOCATOR_ALLOCATIONS: Final = Metric(
    name="npu.allocator.allocations",
    instrument="counter",
    unit="{allocation}",
    description="Tensors allocated.",
)
"""Tensors allocated."""

NPU_ALLOCATOR_MEMORY: Final = Metric(
    name="npu.allocator.memory",
    instrument="updowncounter",
    unit="By",
    description="Memory of an allocator, by state.",
)
"""Memory of an allocator, by state."""

NPU_ALLOCATOR_OOM: Final = Metric(
    name="npu.allocator.oom",
    instrument="counter",
    unit="{allocation}",
    description="Allocations that failed for want of memory.",
)
"""Allocations that failed for want of memory."""

NPU_ALLOCATOR_PEAK: Final = Metric(
    name="npu.allocator.peak",
    instrument="gauge",
    unit="By",
    description="Largest value of npu.allocator.memory in a window, or since the process has begun.",
)
"""Largest value of npu.allocator.memory in a window, or since the process has begun."""

NPU_ALLOCATOR_RETRIES: Final = Metric(
    name="npu.allocator.retries",
    instrument="counter",
    unit="{allocation}",
    description="Allocations that succeeded only after the allocator had given back what it held.",
)
"""Allocations that succeeded only after the allocator had given back what it held."""

NPU_COMMUNICATION_BANDWIDTH: Final = Metric(
    name="npu.communication.bandwidth",
    instrument="gauge",
    unit="By/s",
    description="Payload of the collectives of a window by their time.",
)
"""Payload of the collectives of a window by their time."""

NPU_COMMUNICATION_DURATION: Final = Metric(
    name="npu.communication.duration",
    instrument="histogram",
    unit="s",
    description="Duration of collectives.",
    boundaries=(
        1e-06,
        2e-06,
        5e-06,
        1e-05,
        2e-05,
        5e-05,
        0.0001,
        0.0002,
        0.0005,
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
    ),
)
"""Duration of collectives."""

NPU_COMMUNICATION_IO: Final = Metric(
    name="npu.communication.io",
    instrument="counter",
    unit="By",
    description="Payload of collectives.",
)
"""Payload of collectives."""

NPU_COMMUNICATION_TRANSFER_BANDWIDTH: Final = Metric(
    name="npu.communication.transfer.bandwidth",
    instrument="gauge",
    unit="By/s",
    description="Bytes over a link by the time of the transfers.",
)
"""Bytes over a link by the time of the transfers."""

NPU_COMMUNICATION_TRANSFER_IO: Final = Metric(
    name="npu.communication.transfer.io",
    instrument="counter",
    unit="By",
    description="Bytes that collectives moved over a link.",
)
"""Bytes that collectives moved over a link."""

NPU_MEMCPY_DURATION: Final = Metric(
    name="npu.memcpy.duration",
    instrument="histogram",
    unit="s",
    description="Duration of copies of memory.",
    boundaries=(
        1e-06,
        2e-06,
        5e-06,
        1e-05,
        2e-05,
        5e-05,
        0.0001,
        0.0002,
        0.0005,
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
    ),
)
"""Duration of copies of memory."""

NPU_MEMCPY_IO: Final = Metric(
    name="npu.memcpy.io",
    instrument="counter",
    unit="By",
    description="Bytes copied.",
)
"""Bytes copied."""

NPU_MEMORY_BANDWIDTH: Final = Metric(
    name="npu.memory.bandwidth",
    instrument="gauge",
    unit="By/s",
    description="Bandwidth of the HBM.",
)
"""Bandwidth of the HBM."""

NPU_MEMORY_BANDWIDTH_UTILIZATION: Final = Metric(
    name="npu.memory.bandwidth.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the bandwidth of the HBM that is used.",
)
"""Share of the bandwidth of the HBM that is used."""

NPU_MEMORY_OPERATION_SIZE: Final = Metric(
    name="npu.memory.operation.size",
    instrument="counter",
    unit="By",
    description="Memory of the NPU allocated and released.",
)
"""Memory of the NPU allocated and released."""

NPU_MEMORY_OPERATIONS: Final = Metric(
    name="npu.memory.operations",
    instrument="counter",
    unit="{operation}",
    description="Allocations and releases of memory of the NPU, below its allocators.",
)
"""Allocations and releases of memory of the NPU, below its allocators."""

NPU_MODULE_MEMORY: Final = Metric(
    name="npu.module.memory",
    instrument="updowncounter",
    unit="By",
    description="Memory that a module of CANN has reserved.",
)
"""Memory that a module of CANN has reserved."""

NPU_OPERATOR_COUNT: Final = Metric(
    name="npu.operator.count",
    instrument="counter",
    unit="{operator}",
    description="Operators that the NPU executed.",
)
"""Operators that the NPU executed."""

NPU_OPERATOR_DURATION: Final = Metric(
    name="npu.operator.duration",
    instrument="histogram",
    unit="s",
    description="Duration of operators on the NPU.",
    boundaries=(
        1e-06,
        2e-06,
        5e-06,
        1e-05,
        2e-05,
        5e-05,
        0.0001,
        0.0002,
        0.0005,
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
    ),
)
"""Duration of operators on the NPU."""

NPU_OPERATOR_TIME: Final = Metric(
    name="npu.operator.time",
    instrument="counter",
    unit="s",
    description="Time that the NPU spent in operators.",
)
"""Time that the NPU spent in operators."""

NPU_PROCESS_MEMORY_USAGE: Final = Metric(
    name="npu.process.memory.usage",
    instrument="updowncounter",
    unit="By",
    description="Memory of the NPU that the process uses.",
)
"""Memory of the NPU that the process uses."""

SYSTEM_CPU_UTILIZATION: Final = Metric(
    name="system.cpu.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the time of all CPUs of the host since the collection before.",
)
"""Share of the time of all CPUs of the host since the collection before."""

SYSTEM_MEMORY_USAGE: Final = Metric(
    name="system.memory.usage",
    instrument="updowncounter",
    unit="By",
    description="Memory of the host by state.",
)
"""Memory of the host by state."""

SYSTEM_MEMORY_UTILIZATION: Final = Metric(
    name="system.memory.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the memory of the host by state.",
)
"""Share of the memory of the host by state."""

VLLM_INTER_TOKEN_LATENCY: Final = Metric(
    name="vllm.inter_token_latency",
    instrument="histogram",
    unit="s",
    description="Time between two outputs of a choice, by when EngineCore made them.",
    boundaries=(
        0.01,
        0.025,
        0.05,
        0.075,
        0.1,
        0.15,
        0.2,
        0.3,
        0.4,
        0.5,
        0.75,
        1.0,
        2.5,
        5.0,
        7.5,
        10.0,
        20.0,
        40.0,
        80.0,
    ),
)
"""Time between two outputs of a choice, by when EngineCore made them."""

VLLM_KV_CACHE_UTILIZATION: Final = Metric(
    name="vllm.kv_cache.utilization",
    instrument="gauge",
    unit="1",
    description="Share of the KV cache blocks in use, after the last step.",
)
"""Share of the KV cache blocks in use, after the last step."""

VLLM_PREFIX_CACHE_HIT: Final = Metric(
    name="vllm.prefix_cache.hit",
    instrument="counter",
    unit="{token}",
    description="Prompt tokens that the prefix cache held.",
)
"""Prompt tokens that the prefix cache held."""

VLLM_PREFIX_CACHE_QUERIED: Final = Metric(
    name="vllm.prefix_cache.queried",
    instrument="counter",
    unit="{token}",
    description="Prompt tokens that were looked up in the prefix cache.",
)
"""Prompt tokens that were looked up in the prefix cache."""

VLLM_REQUEST_DECODE_DURATION: Final = Metric(
    name="vllm.request.decode.duration",
    instrument="histogram",
    unit="s",
    description="Time from the first to the last token of a choice.",
    boundaries=(
        0.001,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
        120.0,
    ),
)
"""Time from the first to the last token of a choice."""

VLLM_REQUEST_PREEMPTED: Final = Metric(
    name="vllm.request.preempted",
    instrument="counter",
    unit="{preemption}",
    description="Times that a running request lost its KV blocks and went back to wait.",
)
"""Times that a running request lost its KV blocks and went back to wait."""

VLLM_REQUEST_PREFILL_DURATION: Final = Metric(
    name="vllm.request.prefill.duration",
    instrument="histogram",
    unit="s",
    description="Time from the first run of a choice to its first token.",
    boundaries=(
        0.001,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
        120.0,
    ),
)
"""Time from the first run of a choice to its first token."""

VLLM_REQUEST_QUEUE_DURATION: Final = Metric(
    name="vllm.request.queue.duration",
    instrument="histogram",
    unit="s",
    description="Time that a choice of a request waited until it ran for the first time.",
    boundaries=(
        0.001,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
        120.0,
    ),
)
"""Time that a choice of a request waited until it ran for the first time."""

VLLM_REQUEST_RUNNING: Final = Metric(
    name="vllm.request.running",
    instrument="gauge",
    unit="{request}",
    description="Requests that run, after the last step.",
)
"""Requests that run, after the last step."""

VLLM_REQUEST_WAITING: Final = Metric(
    name="vllm.request.waiting",
    instrument="gauge",
    unit="{request}",
    description="Requests that wait to run, after the last step.",
)
"""Requests that wait to run, after the last step."""

VLLM_STEP_REQUESTS: Final = Metric(
    name="vllm.step.requests",
    instrument="histogram",
    unit="{request}",
    description="Requests in the batch of a step.",
    boundaries=(
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        1024,
    ),
)
"""Requests in the batch of a step."""

VLLM_STEP_TOKENS: Final = Metric(
    name="vllm.step.tokens",
    instrument="histogram",
    unit="{token}",
    description="Tokens that a step was scheduled to compute.",
    boundaries=(
        1,
        8,
        16,
        32,
        64,
        128,
        256,
        512,
        1024,
        2048,
        4096,
        8192,
        16384,
    ),
)
"""Tokens that a step was scheduled to compute."""

VLLM_TELEMETRY_RECORD_LOST: Final = Metric(
    name="vllm.telemetry.record.lost",
    instrument="counter",
    unit="{record}",
    description="Records of this distribution that reached no span, file or metric.",
)
"""Records of this distribution that reached no span, file or metric."""

VLLM_TOKEN_INPUT: Final = Metric(
    name="vllm.token.input",
    instrument="counter",
    unit="{token}",
    description="Prompt tokens of requests whose prefill is done.",
)
"""Prompt tokens of requests whose prefill is done."""

VLLM_TOKEN_OUTPUT: Final = Metric(
    name="vllm.token.output",
    instrument="counter",
    unit="{token}",
    description="Tokens generated.",
)
"""Tokens generated."""
