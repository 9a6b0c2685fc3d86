"""``python -m fake_vllm.serve PIDS [SECONDS] [METHOD...]``.

Runs an engine here, and in a child of multiprocessing for each start method named. The file PIDS gets a line
``name pid`` for each process; what is printed is the same in each run. Then it idles for SECONDS.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

from fake_vllm.engine import Engine


def run(name: str, pids: str) -> None:
    """One process: plugins first, as vLLM loads them, then the engine."""
    for plugin in entry_points(group="vllm.general_plugins", name="ascend_opentelemetry"):
        plugin.load()()
    with Path(pids).open("a") as file:
        file.write(f"{name} {os.getpid()}\n")
    engine = Engine.load(name)
    print(name, asyncio.run(engine.start()), engine.step([1, 2]), flush=True)
    try:
        engine.fail()
    except ValueError as error:
        print(name, error, flush=True)


def main() -> None:
    pids, seconds, *methods = sys.argv[1:]
    run("parent", pids)
    for method in methods:
        process = multiprocessing.get_context(method).Process(target=run, args=(method, pids))
        process.start()
        process.join()
        print(method, "ended with", process.exitcode, flush=True)
    time.sleep(float(seconds))


if __name__ == "__main__":
    main()
