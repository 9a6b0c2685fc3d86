"""vLLM's own ``--otlp-traces-endpoint`` on real servers: beside our endpoint, alone, and without us."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from devtools.client import Answer, Client, new_traceparent
from devtools.otlp_json import SERVER, Span
from devtools.otlp_receiver import OtlpReceiver
from devtools.server import DEFAULT_ENV, VllmServer
from tests.support.contract import read_rows
from tests.support.service import OURS

pytestmark = pytest.mark.vllm

#: vLLM's own spans of a start, each made once.
STARTUP = ("API server setup", "EngineCoreProc init", "Executor init", "Load model", "Loading (CPU)", "Overall Loading")
PHASES = ("queue", "prefill", "decode")
#: Statistics are off, as ``LLM`` does by default: vLLM's own span of a request would fail without them.
SCRIPT = """
import sys
from vllm import LLM, SamplingParams
llm = LLM(sys.argv[1], otlp_traces_endpoint=sys.argv[2], max_model_len=256, enforce_eager=True, max_num_seqs=8)
llm.generate(["hello", "world"], SamplingParams(max_tokens=3, ignore_eos=True), use_tqdm=False)
"""


@dataclass
class Run:
    """A server that is over: what its clients got, what it exported, what it printed."""

    answers: dict[str, Answer]
    receiver: OtlpReceiver
    #: Up to the signal that stops it, and all.
    served: str
    log: str

    @property
    def spans(self) -> list[Span]:
        return self.receiver.spans()

    def requests(self) -> list[Span]:
        """Every ``llm_request``, whoever made it."""
        return [span for span in self.spans if span.name == "llm_request"]

    def request(self, kind: str) -> Span:
        """The ``llm_request`` of an answer; there is exactly one."""
        request_id = f"cmpl-{self.answers[kind].request_id}-0"
        (found,) = [span for span in self.requests() if span.attributes["gen_ai.request.id"] == request_id]
        return found


def run(
    folder: Path,
    python: Path,
    model: Path,
    receiver: OtlpReceiver,
    args: Sequence[str],
    env: Mapping[str, str],
    instrument: bool,
) -> Run:
    """Start a server, send it a request of each kind, and stop it."""
    env = {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1", **env}
    server = VllmServer(python, model, args=args, env=env, instrument=instrument, log_path=folder / "server.log")
    with server:
        client = Client(server.url)
        answers = {
            "plain": client.completion(max_tokens=2),
            "traced": client.completion(max_tokens=4, traceparent=new_traceparent()),
            "stream": client.completion(max_tokens=4, stream=True, traceparent=new_traceparent()),
            "two": client.completion(max_tokens=4, n=2, temperature=1, ignore_eos=True),
        }
        served = server.log()
    assert {answer.status for answer in answers.values()} == {200}
    return Run(answers, receiver, served, server.log())


@pytest.fixture(scope="module")
def both(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, OtlpReceiver]:
    """Our endpoint by OTLP/HTTP, another one by vLLM's option; and the receiver of the latter."""
    folder = tmp_path_factory.mktemp("both")
    with OtlpReceiver(folder / "ours.jsonl") as ours, OtlpReceiver(folder / "vllm.jsonl") as other:
        env = {
            **OURS,
            "OTEL_EXPORTER_OTLP_ENDPOINT": ours.http_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        args = ["--otlp-traces-endpoint", other.grpc_endpoint or ""]
        return run(folder, vllm_python, tiny_model, ours, args, env, instrument=True), other


@pytest.fixture(scope="module")
def option(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Plain ``vllm serve --otlp-traces-endpoint``: no variable names an endpoint."""
    folder = tmp_path_factory.mktemp("option")
    with OtlpReceiver(folder / "traces.jsonl") as receiver:
        args = [f"--otlp-traces-endpoint={receiver.grpc_endpoint}"]
        return run(folder, vllm_python, tiny_model, receiver, args, {}, instrument=False)


@pytest.fixture(scope="module")
def native(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """Native files are all that is asked of us, and vLLM traces by its configuration file; and ``prof_dir``."""
    folder = tmp_path_factory.mktemp("native")
    config = folder / "config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "prof")}))
    with OtlpReceiver(folder / "traces.jsonl") as receiver:
        options = folder / "vllm.yaml"
        options.write_text(f"otlp-traces-endpoint: {receiver.grpc_endpoint}\n")
        env = {"SERVICE_PROF_CONFIG_PATH": str(config)}
        args = ["--config", str(options)]
        return run(folder, vllm_python, tiny_model, receiver, args, env, instrument=False), folder / "prof"


def span_ids(spans: list[Span]) -> list[tuple[str, str]]:
    return [(span.trace_id, span.span_id) for span in spans]


def client_of(answer: Answer) -> tuple[str, str]:
    """Trace and span of the client."""
    assert answer.traceparent is not None
    _, trace_id, span_id, _ = answer.traceparent.split("-")
    return trace_id, span_id


def test_with_both_endpoints_every_span_goes_to_ours(both: tuple[Run, OtlpReceiver]) -> None:
    ours, other = both
    assert (other.received, other.refused) == ({}, {})
    pids = Counter(span.resource["process.pid"] for span in ours.spans)
    assert len(pids) == 3
    names = {span.name for span in ours.spans}
    assert {"llm_request", *PHASES, "engine.step", "modelRunnerExec", *STARTUP} <= names


def test_with_both_endpoints_a_request_is_one_span(both: tuple[Run, OtlpReceiver]) -> None:
    ours, _ = both
    assert len(ours.requests()) == len(ours.answers)
    assert {span.scope for span in ours.requests()} == {"ascend_opentelemetry.Request"}
    by_id = {(span.trace_id, span.span_id): span for span in ours.spans}
    for kind in ("traced", "stream"):
        span = ours.request(kind)
        server = by_id[span.trace_id, span.parent_id]
        assert server.kind == SERVER
        assert (server.trace_id, server.parent_id) == client_of(ours.answers[kind])
    children = Counter(span.name for span in ours.spans if span.parent_id == ours.request("two").span_id)
    assert children == {"queue": 2, "prefill": 2, "decode": 2}


@pytest.mark.parametrize("kind", ["plain", "stream", "two"])
def test_the_span_has_vllms_keys_too(both: tuple[Run, OtlpReceiver], kind: str) -> None:
    ours, _ = both
    usage, found = ours.answers[kind].usage, ours.request(kind).attributes
    assert found["gen_ai.usage.prompt_tokens"] == found["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert found["gen_ai.usage.completion_tokens"] == found["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert found["gen_ai.request.n"] == (2 if kind == "two" else 1)


def test_with_both_endpoints_a_start_is_told_once(both: tuple[Run, OtlpReceiver]) -> None:
    ours, _ = both
    names = Counter(span.name for span in ours.spans if span.scope.startswith("vllm."))
    assert {name: names[name] for name in STARTUP} == dict.fromkeys(STARTUP, 1)
    assert [key for key, count in Counter(span_ids(ours.spans)).items() if count > 1] == []


def test_with_both_endpoints_one_warning_says_which_is_used(both: tuple[Run, OtlpReceiver]) -> None:
    ours, other = both
    warnings = [line for line in ours.log.splitlines() if "gets no spans" in line]
    assert len(warnings) == 1
    assert f"--otlp-traces-endpoint {other.grpc_endpoint} gets no spans" in warnings[0]
    assert f"go to {ours.receiver.http_endpoint};" in warnings[0]
    assert "Overriding of current" not in ours.log
    assert "Failed to export" not in ours.log


def test_the_option_alone_sends_everything_there(option: Run) -> None:
    assert set(option.receiver.received) == {"traces"}
    names = Counter(span.name for span in option.spans)
    assert {name: names[name] for name in STARTUP} == dict.fromkeys(STARTUP, 1)
    assert {name: names[name] for name in PHASES} == {"queue": 5, "prefill": 5, "decode": 5}
    assert names["engine.step"] == names["modelRunnerExec"] > 0
    # in EngineCore and Worker vLLM's own provider is there first, and takes our spans along
    processes = {span.resource.get("process.pid") or int(span.resource["vllm.process_id"]) for span in option.spans}
    assert len(processes) == 3
    assert {span.resource["service.name"] for span in option.spans} == {"vllm"}
    assert [key for key, count in Counter(span_ids(option.spans)).items() if count > 1] == []


def test_the_option_alone_gives_one_span_a_request(option: Run) -> None:
    assert len(option.requests()) == len(option.answers)
    for kind in ("traced", "stream"):
        span = option.request(kind)
        assert (span.trace_id, span.parent_id, span.kind) == (*client_of(option.answers[kind]), SERVER)
        children = {other.name for other in option.spans if other.parent_id == span.span_id}
        assert children == set(PHASES)
    assert option.request("plain").parent_id == ""
    assert option.request("plain").attributes["gen_ai.usage.completion_tokens"] == 2


def test_the_option_alone_gives_no_cause_to_complain(option: Run) -> None:
    for text in ("gets no spans", "Overriding of current", "Failed to export", "localhost:4317"):
        assert text not in option.log
    # on its way out vLLM's own output handler may find its socket's task cancelled, and prints that as an error
    assert "Traceback" not in option.served
    assert "/ascend_opentelemetry/" not in option.log


def test_with_native_files_alone_vllms_tracing_is_left_as_it_is(native: tuple[Run, Path]) -> None:
    vllms, profile = native
    assert {span.scope.partition(".")[0] for span in vllms.spans} == {"vllm"}
    assert {span.scope for span in vllms.requests()} == {"vllm.tracing.otel"}
    assert len(vllms.requests()) == len(vllms.answers) + 1  # one a choice
    for kind in ("traced", "stream"):
        span = vllms.request(kind)
        assert (span.trace_id, span.parent_id, span.kind) == (*client_of(vllms.answers[kind]), SERVER)
    rows = Counter(row.name for row in read_rows(profile))
    assert rows["httpRes"] == 5
    assert rows["forward"] > 0
    assert "gets no spans" not in vllms.log


def test_an_llm_of_a_script_that_has_both_endpoints_goes_to_ours(
    vllm_python: Path, tiny_model: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with OtlpReceiver(tmp_path / "ours.jsonl") as ours, OtlpReceiver(tmp_path / "vllm.jsonl") as other:
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | DEFAULT_ENV
        env |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": ours.http_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        command = [str(vllm_python), str(script), str(tiny_model), other.grpc_endpoint or ""]
        done = subprocess.run(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert (other.received, other.refused) == ({}, {})
        requests = [span for span in ours.spans() if span.name == "llm_request"]
    assert [span.attributes["gen_ai.usage.completion_tokens"] for span in requests] == [3, 3]
    assert done.stdout.count("gets no spans") == 1
    assert "Overriding of current" not in done.stdout
