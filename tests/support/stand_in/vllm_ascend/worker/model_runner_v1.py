"""The model runner."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from vllm.v1.outputs import AsyncModelRunnerOutput
from vllm.v1.worker import gpu_model_runner
from vllm.v1.worker.cpu_model_runner import CPUModelRunner


class _Output(AsyncModelRunnerOutput):
    """A result that is there at once; takes what ``AsyncGPUModelRunnerOutput`` takes."""

    def __init__(
        self, model_runner_output: Any, sampled_token_ids: torch.Tensor, invalid_req_indices: list[int], **_: Any
    ) -> None:
        self._output = model_runner_output
        self._invalid = invalid_req_indices
        self.sampled_token_ids_cpu = sampled_token_ids.clone()
        self.async_copy_ready_event = SimpleNamespace(synchronize=lambda: None)

    def get_output(self) -> Any:
        tokens = self.sampled_token_ids_cpu.tolist()
        for index in self._invalid:
            tokens[index].clear()
        self._output.sampled_token_ids = tokens
        return self._output


class NPUModelRunner(CPUModelRunner):
    """Has methods of its own, as the real one; each calls the base."""

    def __init__(self, vllm_config: Any, device: torch.device) -> None:
        with mock.patch("torch.cuda.Event"):
            super().__init__(vllm_config, device)
        self.dp_rank = vllm_config.parallel_config.data_parallel_rank
        self.prepare_inputs_event = None  # nothing is copied while the next step is prepared
        gpu_model_runner.AsyncGPUModelRunnerOutput = _Output

    def execute_model(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if scheduler_output.total_num_scheduled_tokens and "WITNESS_DIR" in os.environ:
            with (Path(os.environ["WITNESS_DIR"]) / f"{os.getpid()}.jsonl").open("a") as log:
                log.write(json.dumps({"kind": "npu step", "pid": os.getpid()}) + "\n")
        return super().execute_model(scheduler_output, *args, **kwargs)

    def _update_states(self, *args: Any, **kwargs: Any) -> Any:
        return super()._update_states(*args, **kwargs)

    def _prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        return super()._prepare_inputs(*args, **kwargs)
