"""What has asked for operators, as messages name it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_NPU_OPERATORS, SERVICE_PROF_CONFIG_PATH


def config(acl_task_time: int, env: Mapping[str, str] = os.environ) -> str:
    """The field of the native config, with its file."""
    return f'{env.get(SERVICE_PROF_CONFIG_PATH, "")}: "acl_task_time": {acl_task_time}'


def variable(word: str) -> str:
    """The environment variable."""
    return f"{OTEL_PYTHON_VLLM_NPU_OPERATORS}={word}"
