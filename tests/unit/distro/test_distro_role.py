from __future__ import annotations

import multiprocessing.process

import pytest

from ascend_opentelemetry.distro import is_helper

#: Code of torch 2.13 and of older ones, with the path of a library filled in.
PROBE = """
import sys
if sys.platform != "linux":
    import torch  # noqa: F401
from ctypes import cdll
cdll.LoadLibrary("/tmp/torchinductor_root/c/lib.so")
"""
OLD_PROBE = '\nimport torch\nfrom ctypes import cdll\ncdll.LoadLibrary("/tmp/lib.so")\n'
SPAWNED = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"


@pytest.mark.parametrize(
    "argv",
    [
        ["-c", "from multiprocessing.resource_tracker import main;main(6)"],
        ["-c", "from multiprocessing.forkserver import main; main(5, 7, ['__main__'], **{})"],
        ["-X", "dev", "-c", "from multiprocessing.resource_tracker import main;main(6)"],
        ["-B", "-Wignore", "-X", "faulthandler", "-c", "from multiprocessing.resource_tracker import main;main(6)"],
        ["-Bc", "from multiprocessing.resource_tracker import main;main(6)"],
        ["-c", PROBE],
        ["-c", OLD_PROBE],
        ["-m", "vllm.model_executor.models.registry"],
        ["-mvllm.model_executor.models.registry"],
        ["-m", "torch._inductor.compile_worker"],
        ["-m", "torch._inductor.compile_worker.__main__"],
        ["-Im", "pip", "list"],
        ["-mpip", "list", "--format=freeze"],
        ["--check-hash-based-pycs", "always", "-m", "pip"],
        ["/usr/lib/python3/site-packages/torch/_inductor/compile_worker/__main__.py", "--workers=4"],
        ["-E", "/venv/torch/_inductor/__autotune_main__.py", "--parent=1"],
    ],
)
def test_helpers(argv) -> None:
    assert is_helper(["python3", *argv]) is True


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-"],
        ["-c", SPAWNED, "--multiprocessing-fork"],
        ["-X", "dev", "-c", SPAWNED, "--multiprocessing-fork"],
        ["-c", "from vllm import LLM; LLM('m').generate('x')"],
        ["-c", "import torch._inductor.config as config; from vllm import LLM"],
        ["-c", "print('from multiprocessing.resource_tracker import main')"],
        ["-c", "import triton.language"],
        ["-c", OLD_PROBE + "from vllm import LLM"],
        ["-c", "print('from ctypes import cdll')"],
        ["-m", "vllm.entrypoints.openai.api_server", "--model", "m"],
        ["-m", "pipeline"],
        ["-m", "torch._inductor.compile_worker_of_mine"],
        ["/venv/bin/vllm", "serve", "-m", "pip"],
        ["script.py", "-c", "from multiprocessing.resource_tracker import main;main(6)"],
        ["-W", "ignore", "script.py", "/torch/_inductor/"],
        ["-i"],
    ],
)
def test_programs(argv) -> None:
    assert is_helper(["python3", *argv]) is False


def test_this_process_is_a_program() -> None:
    assert is_helper() is False


def test_this_process_as_its_arguments_say(monkeypatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python3", "-m", "pip"])
    assert is_helper() is True


def test_a_child_of_the_fork_server_is_a_program(monkeypatch) -> None:
    monkeypatch.setattr(
        "sys.orig_argv", ["python3", "-c", "from multiprocessing.forkserver import main; main(5, 7, [], **{})"]
    )
    assert is_helper() is True
    monkeypatch.setattr(multiprocessing.process, "_parent_process", object())
    assert is_helper() is False
