"""Names of spans; generated from ``semconv/`` by ``python -m devtools.semconv``."""

from typing import Final

VLLM_DECODE: Final = "decode"
"""A request from its first token to its last one."""

VLLM_ENGINE_STEP: Final = "engine.step"
"""A step of the engine, from its scheduling to the update with its output; a trace of its own."""

VLLM_LLM_REQUEST: Final = "llm_request"
"""A request from its arrival to its last token, its abort, or its refusal."""

VLLM_MODEL_EXECUTION: Final = "modelExec"
"""EngineCore has the executor run a step, until the model's result is there."""

VLLM_MODEL_RUNNER: Final = "modelRunnerExec"
"""The model runner of a worker executes a step."""

VLLM_MODEL_RUNNER_ASYNC_STATE_UPDATE: Final = "async_state_update"
"""The state of the batch is updated while the device computes (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_BOOKKEEP: Final = "bookkeep"
"""Sampled tokens are entered into the state of their requests."""

VLLM_MODEL_RUNNER_DRAFT: Final = "draft"
"""The drafter of speculative decoding proposes tokens."""

VLLM_MODEL_RUNNER_DRAFT_TOKEN: Final = "draft_token"
"""The drafter of speculative decoding proposes tokens (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_EPLB_UPDATE: Final = "EPLB update"
"""The placement of experts is updated (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_EPLB_WEIGHT: Final = "EPLB weight D2D"
"""Weights of experts move between devices (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_FORWARD: Final = "forward"
"""The forward pass of the model; on an NPU the time of its launch."""

VLLM_MODEL_RUNNER_POST_PROCESS: Final = "post process"
"""Hidden states become logits (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_POSTPROCESS: Final = "postprocess"
"""Hidden states become logits."""

VLLM_MODEL_RUNNER_PREPARE_INPUT: Final = "prepare input"
"""The model runner prepares the input of a step (vLLM-Ascend)."""

VLLM_MODEL_RUNNER_PREPROCESS: Final = "preprocess"
"""The model runner prepares the input of a step."""

VLLM_MODEL_RUNNER_SAMPLE: Final = "sample"
"""The sampler runs."""

VLLM_MODEL_RUNNER_SAMPLE_TOKEN: Final = "sample_token"
"""The sampler runs (vLLM-Ascend)."""

VLLM_PREFILL: Final = "prefill"
"""A request from its first run to its first token."""

VLLM_QUEUE: Final = "queue"
"""A request waits in the scheduler's queue for its first run."""

VLLM_SAMPLE_TOKENS: Final = "sample_tokens"
"""The model runner samples the tokens of a step."""

VLLM_SCHEDULE: Final = "batchFrameworkProcessing"
"""The scheduler chooses the batch of a step."""

VLLM_UPDATE_FROM_OUTPUT: Final = "update_from_output"
"""The scheduler takes in what the model has put out."""
