"""Names of events; generated from ``semconv/`` by ``python -m devtools.semconv``."""

from typing import Final

CHUNK: Final = "chunk"
"""An engine step computes the next part of the prompt."""

EXCEPTION: Final = "exception"
"""An exception left the operation, or made it fail."""

FINISHED: Final = "finished"
"""The request has ended without an error of the engine."""

FIRST_TOKEN: Final = "first_token"
"""The first token of the request is out."""

NPU_MEMORY_OOM: Final = "npu.memory.oom"
"""Allocations on an NPU have failed for want of memory since the collection before."""

NPU_MEMORY_SAMPLE: Final = "npu.memory.sample"
"""Memory of an NPU, sampled while a native window asks for it."""

NPU_OPERATOR_WINDOW: Final = "npu.operator.window"
"""What the NPU executed in a second, in a forward of the model, or in a profiled step."""

NPU_PROFILING_SESSION: Final = "npu.profiling.session"
"""A recording that a profiler of the service has made, or a file of one that was read."""

PREEMPTED: Final = "preempted"
"""The request lost its KV blocks to others."""

RESUMED: Final = "resumed"
"""The preempted request runs again."""

SCHEDULED: Final = "scheduled"
"""The request runs for the first time."""
