"""A scheduler and an executor that the user brings, whose methods call none of vLLM's: steps are recorded all the same."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from devtools.otlp_receiver import OtlpReceiver
from devtools.server import DEFAULT_ENV, clean_environment
from tests.support.service import OURS

pytestmark = pytest.mark.vllm

#: The functions of vLLM's classes come from a second copy of their modules, in which nothing is hooked.
SCRIPT = """
import importlib.util
import sys
from vllm import LLM, SamplingParams
from vllm.v1.core.sched import scheduler
from vllm.v1.executor import uniproc_executor

def unhooked(module):
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_copy", module.__file__)
    copy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = copy
    spec.loader.exec_module(copy)
    return copy

class Scheduler(scheduler.Scheduler):
    steps = 0
    _plain = unhooked(scheduler).Scheduler

    def schedule(self, *args, **kwargs):
        output = self._plain.schedule(self, *args, **kwargs)
        Scheduler.steps += bool(output.total_num_scheduled_tokens)
        return output

    def update_from_output(self, *args, **kwargs):
        return self._plain.update_from_output(self, *args, **kwargs)

class Executor(uniproc_executor.UniProcExecutor):
    _plain = unhooked(uniproc_executor).UniProcExecutor

    def execute_model(self, *args, **kwargs):
        return self._plain.execute_model(self, *args, **kwargs)

llm = LLM(sys.argv[1], max_model_len=256, enforce_eager=True, max_num_seqs=8, scheduler_cls=Scheduler,
          distributed_executor_backend=Executor)
llm.generate(["hello", "hello world"], SamplingParams(max_tokens=8, ignore_eos=True), use_tqdm=False)
print("steps", Scheduler.steps)
"""


def test_steps_of_an_own_scheduler_and_executor_are_recorded(
    vllm_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        env = clean_environment() | DEFAULT_ENV | OURS
        env |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint or "",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
        }
        done = subprocess.run(
            [vllm_python.with_name("opentelemetry-instrument"), vllm_python, script, tiny_model],
            env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        names = Counter(span.name for span in receiver.spans())
    assert "steps 8" in done.stdout
    assert {name: names[name] for name in ("queue", "prefill", "decode")} == {"queue": 2, "prefill": 2, "decode": 2}
    steps = ("engine.step", "batchFrameworkProcessing", "modelExec", "modelRunnerExec", "update_from_output")
    assert {name: names[name] for name in steps} == dict.fromkeys(steps, 8)
