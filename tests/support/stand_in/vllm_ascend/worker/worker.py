"""The worker."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vllm.v1.worker import cpu_worker

from vllm_ascend.worker.model_runner_v1 import NPUModelRunner


class NPUWorker(cpu_worker.CPUWorker):
    """The CPU's worker with a model runner of this package."""

    def init_device(self) -> None:
        cpu_worker.CPUModelRunner = NPUModelRunner  # the name by which the base makes its runner
        if find_spec("torch_npu") is not None:  # the stand-in beside this one
            import_module("torch_npu").npu.init()
        super().init_device()

    def execute_model(self, scheduler_output: Any) -> Any:
        return super().execute_model(scheduler_output)
