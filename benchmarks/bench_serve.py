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
#: Rounds of each kind before those that count.
WARM_UP = 3
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
    times: defaultdict[str, list[float]] = defaultdict(list)
    shares: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver())
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for turn in range(2 if quick else 5):
            bare: dict[str, tuple[float, float]] = {}
            for way, server in servers(env, receiver.endpoints["grpc"], folder).items():
                rounds = _serve(server, pool, 8 if quick else 15)
                assert way == "bare" or receiver.count(), f"no span of {way} arrived"
                for kind, values in rounds.items():
                    name = f"{way}, {kind}"
                    mine = [speed for speed, _ in values], [cost for _, cost in values]
                    bare.setdefault(kind, (statistics.median(mine[0]), statistics.median(mine[1])))
                    speeds[name] += mine[0]
                    costs[name] += mine[1]
                    times[name] += [bare[kind][0] / speed for speed in mine[0]]
                    shares[name] += [cost / bare[kind][1] for cost in mine[1]]
            middle = {name: statistics.median(values[-len(mine[0]) :]) for name, values in speeds.items()}
            print(
                f"servers {turn + 1}, tokens/s: {', '.join(f'{name} {middle[name]:.0f}' for name in middle)}",
                flush=True,
            )
    show_rounds(f"vllm serve, {CLIENTS} clients, {TOKENS} tokens each", "tokens/s", speeds)
    show_rounds("The same, all processes of the server", "CPU ms a token", costs)
    rows = [(f"time, {name} / bare", times[name], None) for name in times if not name.startswith("bare")]
    rows += [(f"CPU time, {name} / bare", shares[name], None) for name in shares if not name.startswith("bare")]
    return show_ratios(rows)


def _serve(server: VllmServer, pool: ThreadPoolExecutor, count: int) -> dict[str, list[tuple[float, float]]]:
    """Start the server and run rounds, streamed ones and whole answers in turn, after some that do not count."""
    rounds: dict[str, list[tuple[float, float]]] = {"streamed": [], "whole answers": []}
    with server:
        for number in range(-WARM_UP, count):
            for kind, values in rounds.items():
                measured = _round(server, pool, stream=kind == "streamed")
                if number >= 0:
                    values.append(measured)
    return rounds


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
