"""The platform: that of the CPU, with workers of this package."""

from __future__ import annotations

import os
from typing import Any

from vllm.platforms.cpu import CpuPlatform


class NPUPlatform(CpuPlatform):
    """What vLLM asks about the device."""

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        super().check_and_update_config(vllm_config)
        vllm_config.parallel_config.worker_cls = "vllm_ascend.worker.worker.NPUWorker"
        # the base has forced both to what suits a CPU
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        vllm_config.scheduler_config.async_scheduling = os.environ.get("STAND_IN_ASYNC") == "1"
