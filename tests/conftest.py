"""Fixtures of tests that serve with the real vLLM."""

from __future__ import annotations

# before any provider is made: the SDK, which detects a new child's resource on a thread, would wait for itself
import concurrent.futures.thread  # noqa: F401
import os
from pathlib import Path

import pytest

from devtools import vllm_env

pytest_plugins = ["tests.support.backends"]


@pytest.fixture(scope="session")
def _vllm() -> vllm_env.VllmEnv:
    if os.environ.get("ASCEND_OTEL_TEST_VLLM") != "1" and not vllm_env.is_built():
        pytest.skip("no vLLM environment: build it with `python3 -m devtools.vllm_env`, or run `make test`")
    return vllm_env.ensure()


@pytest.fixture(scope="session")
def vllm_python(_vllm: vllm_env.VllmEnv) -> Path:
    """The Python of the environment with the real vLLM."""
    return _vllm.python


@pytest.fixture(scope="session")
def tiny_model(_vllm: vllm_env.VllmEnv) -> Path:
    """Folder of the tiny model."""
    return _vllm.model
