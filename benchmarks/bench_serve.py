"""Tokens a second of the real ``vllm serve``, one server at a time, each configuration several times in turn."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks._receiver import Receiver
from benchmarks._table import show_ratios, show_rounds
from benchmarks.bench_llm import NO_PLUGINS
from devtools import vllm_env
from devtools.client import Client
from devtools.server import VllmServer

CLIENTS, TOKENS = 8, 180
#: Seconds of CPU time in a clock tick of ``/proc``.
TICK = 1 / os.sysconf("SC_CLK_TCK")


def servers(env: vllm_env.VllmEnv, endpoint: str, folder: Path) -> Mapping[str, VllmServer]:
    """The configurations; each server can be started more than once."""
    config = folder / "config.json"
    config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "native")}))
    exporter = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    ours = {
        "OTEL_PYTHON_DISTRO": "ascend",
        "OTEL_PYTHON_CONFIGURATOR": "ascend",
        "SERVICE_PROF_CONFIG_PATH": str(config),
    }
    stock = {
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "vllm",
    }

    def server(way: str, settings: Mapping[str, str], *args: str) -> VllmServer:
        instrument = way != "bare"
        log = folder / f"{way}.log"
        return VllmServer(env.python, env.model, args=args, env=settings, instrument=instrument, log_path=log)

    return {
        "bare": server("bare", NO_PLUGINS),
        "ours": server("ours", exporter | ours),
        "stock": server("stock", exporter | stock | NO_PLUGINS, "--otlp-traces-endpoint", endpoint),
    }


def run(quick: bool) -> bool:
    """Measure and print; whether the goals are met."""
    env = vllm_env.ensure()
    speeds: defaultdict[str, list[float]] = defaultdict(list)
    costs: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver())
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for _ in range(1 if quick else 3):
            for way, server in servers(env, receiver.endpoints["grpc"], folder).items():
                with server:
                    _round(server, pool, stream=True)
                    for number in range(10 if quick else 12):
                        stream = number % 2 == 0
                        speed, cost = _round(server, pool, stream=stream)
                        name = f"{way}, {'streamed' if stream else 'whole answers'}"
                        speeds[name].append(speed)
                        costs[name].append(cost)
                receiver.count()
    show_rounds(f"vllm serve, {CLIENTS} clients, {TOKENS} tokens each", "tokens/s", dict(sorted(speeds.items())))
    show_rounds("The same, all processes of the server", "CPU ms a token", dict(sorted(costs.items())))

    def ratio(way: str, kind: str) -> list[float]:
        bare = statistics.median(speeds[f"bare, {kind}"])
        return [bare / speed for speed in speeds[f"{way}, {kind}"]]

    kinds = ("streamed", "whole answers")
    return show_ratios(
        [(f"time of {way} / bare, {kind}", ratio(way, kind), None) for kind in kinds for way in ("ours", "stock")]
    )


def _round(server: VllmServer, pool: ThreadPoolExecutor, stream: bool) -> tuple[float, float]:
    """Tokens a second and CPU milliseconds a token."""
    client = Client(server.url)

    def request(number: int) -> int:
        prompt = f"hello world {number}"
        answer = client.completion(prompt, max_tokens=TOKENS, ignore_eos=True, stream=stream)
        assert answer.status == 200, answer.error
        return answer.usage["completion_tokens"]

    before, start = _cpu(server), time.perf_counter()
    tokens = sum(pool.map(request, range(CLIENTS)))
    seconds = time.perf_counter() - start
    return tokens / seconds, (_cpu(server) - before) / tokens * 1e3


def _cpu(server: VllmServer) -> float:
    """CPU seconds of all live processes of a server."""
    total = 0
    for pid in server.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK
