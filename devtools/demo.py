"""The demo: a real vLLM server, a few requests, and what they left behind. Run it by ``make demo``."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from devtools import _env, native, tree, vllm_env
from devtools.client import Answer, Client, mix
from devtools.otlp_json import read_spans
from devtools.process import NotReadyError
from devtools.server import VllmServer

OUTPUT = _env.REPO / "demo-output"
#: The environment holds the stock distro too, so ours has to be named; every step is traced, for the demo is short.
SETTINGS = {
    "OTEL_PYTHON_DISTRO": "ascend",
    "OTEL_PYTHON_CONFIGURATOR": "ascend",
    "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "health,metrics",
}


def main() -> int:
    """Builds the environment, then runs the demo with its Python; 1 when the build or the server failed."""
    try:
        env = vllm_env.ensure()
    except _env.BuildError as error:
        _env.say(f"error: {error}")
        return 1
    if Path(sys.executable) != env.python:
        return subprocess.run([env.python, "-m", "devtools.demo"], cwd=_env.REPO, check=False).returncode
    try:
        run(env)
    except NotReadyError as error:
        _env.say(f"error: {error}")
        return 1
    return 0


def run(env: vllm_env.VllmEnv) -> None:
    """Serves, sends the mix of requests, stops the server and prints what came of it."""
    # the receiver needs the environment's packages, the builder must do without
    from devtools.otlp_receiver import OtlpReceiver

    started = time.monotonic()
    folder = OUTPUT / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    (OUTPUT / ".gitignore").write_text("*\n")
    config = folder / "ms_service_profiler_config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "native")}, indent=2))
    traces = folder / "traces.jsonl"
    elsewhere = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    with contextlib.ExitStack() as stack:
        if elsewhere:
            otel = {key: value for key, value in os.environ.items() if key.startswith("OTEL_")}
        else:
            receiver = stack.enter_context(OtlpReceiver(traces))
            otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
            otel["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
        settings = SETTINGS | otel | {"SERVICE_PROF_CONFIG_PATH": str(config)}
        _env.say("starting vllm serve (about half a minute) ...")
        server = VllmServer(env.python, env.model, env=settings, log_path=folder / "server.log")
        with server:
            _env.say(f"  ready after {server.ready_seconds:.0f} s at {server.url}, pids {sorted(server.pids())}")
            processes = {pid: title.removeprefix("VLLM::") for pid, title in server.pids().items()}
            processes[server.pid] = "APIServer"
            client = Client(server.url)
            client.chat()  # the first request of a server takes longer than the others
            answers = mix(client)
        _env.say(f"  stopped in {server.stop_seconds:.1f} s")
    _print_answers(answers)
    if elsewhere:
        print(f"\nTraces went to {elsewhere}; look for X-Request-Id {answers['stream'].request_id} there.")
    else:
        _print_traces(traces, answers["stream"], processes)
    _print_native(folder / "native")
    print(f"\nAll of it lies in {folder}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}")
    print(f"The demo took {time.monotonic() - started:.0f} s.")


def _print_answers(answers: dict[str, Answer]) -> None:
    print("\n== Requests, by the client's clock\n")
    for kind, answer in answers.items():
        outcome = ", ".join(reason or "client left" for reason in answer.finish_reasons)
        tokens = answer.usage.get("completion_tokens", len(answer.chunks))
        print(
            f"{kind:14} {answer.status}  first {_ms(answer.first, answer)}  end {_ms(answer.end, answer)}"
            f"  {tokens:3} tokens  {outcome or (answer.error or {}).get('message', '')[:60]}"
        )


def _ms(moment: int, answer: Answer) -> str:
    return f"{(moment - answer.start) / 1e6:7.1f} ms" if moment else "      -   "


def _print_traces(path: Path, answer: Answer, processes: dict[int, str]) -> None:
    spans = tree.without_asgi_events(read_spans(path))
    print(
        f"\n== {len(spans)} spans of {len(tree.traces(spans))} traces: the streamed chat, X-Request-Id {answer.request_id}\n"
    )
    request = tree.find_request(spans, answer.request_id)
    if request is None:
        print("no span names this request")
        return
    print(tree.render(spans, request, processes=processes))
    step = tree.find_step(spans, request)
    if step:
        print("\n== An engine step that worked on it, with links to the requests of its batch\n")
        print(tree.render(spans, step, processes=processes))


def _print_native(folder: Path) -> None:
    print("\n== Native files: rows of each process by name\n")
    lines = list(native.listing(folder))
    print("\n".join(lines) or f"none below {folder}")
    if lines:
        print("\nAnalyze them where ms_service_profiler is installed (it comes with CANN):")
        print(f"  msserviceprofiler analyze --input-path={folder} --output-path={folder.parent / 'analysis'}")


if __name__ == "__main__":
    sys.exit(main())
