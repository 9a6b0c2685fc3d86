"""The end of the real ``vllm serve``: SIGTERM right after the last answer, with us and without, in turn.

Each run with us must have every span and every row that an independent wrapper of vLLM counted.
"""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from benchmarks._table import show_rounds
from benchmarks.bench_llm import NO_PLUGINS
from devtools import vllm_env
from devtools.client import Client
from devtools.server import VllmServer
from tests.support.service import Service
from tests.support.shapes import CLIENTS, Shape, ask, assert_complete, assert_one_tree, running

#: Seconds that the exit may take longer than without us.
LONGER = 0.6


def run(quick: bool) -> bool:
    """Run, compare and print; whether the goals are met."""
    env = vllm_env.ensure()
    rounds = 3 if quick else 20
    seconds: dict[str, list[float]] = {"bare": [], "collector at once": [], "collector after 200 ms": []}
    complete = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            seconds["bare"].append(_bare(env, folder / "bare.log"))
            for way, delay in (("collector at once", 0.0), ("collector after 200 ms", 0.2)):
                with running(folder / way.replace(" ", "-"), env.python, env.model, Shape()) as service:
                    service.receiver.delay = delay
                    ask(service, CLIENTS)
                    service.server.stop()
                seconds[way].append(service.server.stop_seconds)
                complete += _complete(service)
            print(
                f"round {number + 1}:",
                ", ".join(f"{way} {times[-1]:.2f} s" for way, times in seconds.items()),
                flush=True,
            )
    show_rounds("SIGTERM to the end of the API server", "s", seconds)
    print(f"complete: {complete} of {2 * rounds} runs")
    longer = [
        ours - bare for way in list(seconds)[1:] for ours, bare in zip(seconds[way], seconds["bare"], strict=True)
    ]
    print(f"longer than the bare run beside it: at most {max(longer):.2f} s (goal {LONGER} s)")
    return complete == 2 * rounds and max(longer) <= LONGER


def _bare(env: vllm_env.VllmEnv, log: Path) -> float:
    server = VllmServer(env.python, env.model, env=NO_PLUGINS, instrument=False, log_path=log)
    with server:
        client = Client(server.url)
        client.completion(max_tokens=2)
        ask_all = [
            client.completion(f"hello {index}", max_tokens=16 + index, ignore_eos=True) for index in range(CLIENTS)
        ]
        assert {answer.status for answer in ask_all} == {200}
        server.stop()
    return server.stop_seconds


def _complete(service: Service) -> bool:
    try:
        assert_complete(service, Shape())
        assert_one_tree(service)
    except AssertionError:
        traceback.print_exc()
        return False
    return True
