"""``LLM(...)`` in a plain script with processes of its own, forked: the script ends, and they with it."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.otlp_json import Span
from devtools.otlp_receiver import OtlpReceiver
from devtools.server import DEFAULT_ENV, clean_environment
from tests.support.contract import check, read_rows
from tests.support.service import OURS
from tests.support.shapes import STAND_IN

pytestmark = pytest.mark.vllm

SCRIPT = """
import sys
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(sys.argv[1], max_model_len=256, enforce_eager=True, max_num_seqs=8, seed=0)
    params = [SamplingParams(temperature=0, max_tokens=8 + number, ignore_eos=True) for number in range(4)]
    outputs = llm.generate(["hello", "hello world", "world", "one two three"], params, use_tqdm=False)
    print("answers", [len(output.outputs[0].token_ids) for output in outputs])
    {end}
"""


@dataclass
class Run:
    """What the script printed, what the witness saw, what was exported."""

    output: str
    steps: list[dict[str, Any]]
    spans: list[Span]
    profile: Path


#: How the script ends: by its last line; by vLLM's own stop; without a word to anybody.
ENDS = {"last line": "pass", "shutdown": "llm.llm_engine.engine_core.shutdown()", "exit": "raise SystemExit(0)"}


@pytest.fixture(scope="module", params=ENDS)
def run(
    request: pytest.FixtureRequest, vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    folder = tmp_path_factory.mktemp("script")
    script, config, witness = folder / "script.py", folder / "config.json", folder / "witness"
    script.write_text(SCRIPT.replace("{end}", ENDS[request.param]))
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "prof")}))
    witness.mkdir()
    with OtlpReceiver(folder / "traces.jsonl") as receiver:
        env = clean_environment() | DEFAULT_ENV | OURS | STAND_IN
        env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint or "",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
            "SERVICE_PROF_CONFIG_PATH": str(config),
            "WITNESS_DIR": str(witness),
        }
        done = subprocess.run(
            [vllm_python.with_name("opentelemetry-instrument"), vllm_python, script, tiny_model],
            env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        spans = receiver.spans()
    lines = [json.loads(line) for path in witness.iterdir() for line in path.read_text().splitlines()]
    return Run(done.stdout, [line for line in lines if line["kind"] == "step"], spans, folder / "prof")


def test_every_request_and_step_of_the_script_is_there_once(run: Run) -> None:
    assert "answers [8, 9, 10, 11]" in run.output
    names = Counter(span.name for span in run.spans if span.scope.startswith("ascend_opentelemetry."))
    assert {name: names[name] for name in ("llm_request", "queue", "prefill", "decode")} == dict.fromkeys(
        ("llm_request", "queue", "prefill", "decode"), 4
    )
    assert len(run.steps) >= 11
    for name in ("engine.step", "batchFrameworkProcessing", "modelRunnerExec", "forward", "sample_tokens"):
        assert names[name] == len(run.steps), name
    pids = {span.resource["process.pid"] for span in run.spans if span.scope.startswith("ascend_opentelemetry.")}
    assert len(pids) == 3


def test_native_rows_are_complete(run: Run) -> None:
    rows = Counter(row.name for row in read_rows(run.profile))
    for name in ("batchFrameworkProcessing", "modelExec", "modelRunnerExec", "forward", "KVCacheStatus"):
        assert rows[name] == len(run.steps), name
    for name in ("httpReq", "httpRes", "tokenize"):
        assert rows[name] == 4, name
    assert check(run.profile, complete=True) == []


def test_no_span_is_an_orphan(run: Run) -> None:
    ids = {(span.trace_id, span.span_id) for span in run.spans}
    assert len(ids) == len(run.spans)
    assert [span.name for span in run.spans if span.parent_id and (span.trace_id, span.parent_id) not in ids] == []
