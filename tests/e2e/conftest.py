"""Servers that several tests look at: started once, finished before the first look."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devtools.client import Answer, mix, new_traceparent
from tests.support.service import Service, serve


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The live check looks at what all other tests have received."""
    items.sort(key=lambda item: item.path.name == "test_e2e_live_check.py")


@pytest.fixture(scope="session")
def mixed(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """24 requests of every kind against default settings, a cache so small that requests are preempted; all over."""
    folder = tmp_path_factory.mktemp("mixed")
    args = ["--num-gpu-blocks-override", "24", "--block-size", "32"]
    # slow enough that a client which leaves is noticed before its last token
    with serve(folder, vllm_python, tiny_model, args=args, env={"WITNESS_STEP_MS": "5"}) as service:
        service.client.completion(max_tokens=2)  # the first request compiles
        service.metrics.append(service.server.metrics())
        for turn in ("a", "b"):
            service.answers |= {f"{kind}-{turn}": answer for kind, answer in mix(service.client).items()}
        # eight long requests at once do not fit into 24 blocks
        with ThreadPoolExecutor(8) as pool:
            running = [
                pool.submit(
                    service.client.completion, f"hello world {index}", max_tokens=180, ignore_eos=True,
                    traceparent=new_traceparent() if index == 0 else None,
                )
                for index in range(8)
            ]  # fmt: skip
            service.answers |= {f"long-{index}": future.result() for index, future in enumerate(running)}
        service.metrics.append(service.server.metrics())
    return service


@pytest.fixture(scope="session")
def queued(vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Four streamed requests, one slot: each waits for those before it; all over."""
    folder = tmp_path_factory.mktemp("queued")
    args, env = ["--max-num-seqs", "1"], {"WITNESS_STEP_MS": "40"}
    with serve(folder, vllm_python, tiny_model, args=args, env=env) as service:
        service.client.completion(max_tokens=2)

        def send(index: int) -> Answer:
            time.sleep(index * 0.06)  # not all at once: the client's clock is compared too
            return service.client.completion(f"hello {index}", stream=True, max_tokens=15, ignore_eos=True)

        with ThreadPoolExecutor(4) as pool:
            service.answers = {f"request-{index}": answer for index, answer in enumerate(pool.map(send, range(4)))}
    return service
