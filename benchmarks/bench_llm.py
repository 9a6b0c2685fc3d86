"""An engine step of the real vLLM's in-process ``LLM``: CPU time of the process, telemetry against none.

Each configuration is a process that stays alive; the rounds go from one to the next while the others wait.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks._receiver import Receiver
from benchmarks._table import interleaved, per_round, show_ratios, show_rounds
from devtools import _env, vllm_env
from devtools.server import DEFAULT_ENV

#: Rounds before those that count: the first ones of a vLLM take longer.
WARM_UP = 3
#: Rounds of each set of processes.
ROUNDS = 10
#: Our vLLM plugin stays out of the other configurations.
NO_PLUGINS = {"VLLM_PLUGINS": "none"}


def ways(endpoint: str, config: Path) -> dict[str, dict[str, str]]:
    """Configuration of ``llm_process`` -> environment variables."""
    measured = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "SERVICE_PROF_CONFIG_PATH": str(config)}
    ours = measured | {"OTEL_METRICS_EXPORTER": "none"}
    return {
        "bare": NO_PLUGINS,
        "ours": ours,
        "ours, with metrics": measured,
        "ours, every step traced": ours | {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1"},
        "stock": NO_PLUGINS | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
    }


class Process:
    """An ``llm_process`` and the rounds that it ran."""

    def __init__(self, env: vllm_env.VllmEnv, way: str, settings: dict[str, str], log: Path) -> None:
        self.rounds: list[dict[str, Any]] = []
        self._log = log
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SERVICE_PROF_"))}
        quiet = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
        self._process = subprocess.Popen(
            [env.python, "-m", "benchmarks.llm_process", way.partition(",")[0], env.model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            cwd=_env.REPO,
            env=clean | DEFAULT_ENV | quiet | settings,
        )

    def __enter__(self) -> Process:
        self._answer()
        for _ in range(WARM_UP):
            self.round()
        self.rounds.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def round(self) -> float:
        """Milliseconds of CPU time a step of one more round."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        self.rounds.append(self._answer())
        return self.rounds[-1]["cpu"] / self.rounds[-1]["steps"] * 1e3

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # else vLLM's own
                return json.loads(line)
        raise RuntimeError(f"the process ended; the end of its log:\n{_env.tail(self._log, 20)}")


class Measured(NamedTuple):
    """Milliseconds a step of each configuration, by round; seconds of CPU time between rounds; size of a round."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]
    idle: float
    steps: int
    tokens: int


def _generation(env: vllm_env.VllmEnv, settings: dict[str, dict[str, str]], logs: Path, rounds: int) -> Measured:
    """Start a process of each configuration and let them take turns."""
    with ExitStack() as stack:
        processes = {
            way: stack.enter_context(Process(env, way, variables, logs / f"{way}.log"))
            for way, variables in settings.items()
        }
        cpu = interleaved(rounds, {way: process.round for way, process in processes.items()})
        wall = {way: [row["wall"] / row["steps"] * 1e3 for row in one.rounds] for way, one in processes.items()}
        idle = max(statistics.median(row["idle"] for row in one.rounds) for one in processes.values())
        first = processes["bare"].rounds[-1]
        return Measured(cpu, wall, idle, first["steps"], first["tokens"])


def run(quick: bool) -> bool:
    """Measure and print; whether the goals are met."""
    env = vllm_env.ensure()
    measured: list[Measured] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "config.json"
        config.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "native")}))
        receiver = stack.enter_context(Receiver())
        settings = list(ways(receiver.endpoints["grpc"], config).items())
        for turn in range(2 if quick else 6):
            # a process is up to 5 % slower than its twin for all its life: each turn has new ones, in another order
            order = dict(settings[turn % len(settings) :] + settings[: turn % len(settings)])
            measured.append(_generation(env, order, folder, ROUNDS))
            middle = {way: statistics.median(values) for way, values in measured[-1].cpu.items()}
            shown = ", ".join(f"{way} {middle[way] / middle['bare']:.3f}" for way, _ in settings)
            print(f"processes {turn + 1}, medians over bare: {shown}", flush=True)
    cpu, wall = (
        {way: [value for one in measured for value in getattr(one, clock)[way]] for way, _ in settings}
        for clock in ("cpu", "wall")
    )
    title = f"In-process LLM: {measured[0].steps} steps a round, {measured[0].tokens} tokens"
    show_rounds(title, "ms a step, process CPU", cpu)
    show_rounds("The same", "ms a step, wall clock", wall)
    print(f"CPU time of a process between two of its rounds: {max(one.idle for one in measured) * 1e3:.1f} ms at most")

    def ratio(way: str) -> list[float]:
        return per_round(cpu, lambda mine, bare: mine / bare, way, "bare")

    return show_ratios(
        [
            ("ours (native files and OTLP) / bare", ratio("ours"), 1.08),
            ("ours, with metrics / bare", ratio("ours, with metrics"), 1.10),
            ("ours, every step traced / bare", ratio("ours, every step traced"), None),
            ("stock / bare", ratio("stock"), None),
        ]
    )
