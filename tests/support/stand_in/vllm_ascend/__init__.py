"""Stands in for vllm-ascend, whose hardware (an Ascend NPU with CANN and torch-npu) is not here.

The real vLLM loads it as a platform of another distribution and runs its worker and model runner, which have the module
and class names of vllm-ascend and compute on the CPU. It shows what holds for any such platform: which processes there
are, how they start, what is hooked in them. It shows nothing of what an NPU does.

Put the folder above on ``PYTHONPATH``. Workers are forked, as in vLLM without a word on it. With
``STAND_IN_ASYNC=1`` steps are scheduled asynchronously, as off the CPU. Each step that the model runner takes is a line
``{"kind": "npu step"}`` of the witness's log.
"""

from __future__ import annotations


def register() -> str:
    """Entry point ``vllm.platform_plugins``: the class of the platform."""
    return "vllm_ascend.platform.NPUPlatform"
