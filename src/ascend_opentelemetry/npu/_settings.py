"""The switches of the NPU's metrics and operators."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_NPU_METRICS, OTEL_PYTHON_VLLM_NPU_OPERATORS

_logger = logging.getLogger(__name__)

Mode = Literal["auto", "on", "off"]
Operators = Literal["off", "mspti", "torch"]


def mode(env: Mapping[str, str], *, warn: bool) -> Mode:
    """What ``OTEL_PYTHON_VLLM_NPU_METRICS`` says; ``auto`` where it says nothing, or nonsense.

    Args:
        env: the variables.
        warn: whether to say so of nonsense.
    """
    word = env.get(OTEL_PYTHON_VLLM_NPU_METRICS, "").strip().lower() or "auto"
    if word in ("auto", "on", "off"):
        return word
    if warn:
        _logger.warning("%s is %r: auto is used; set auto, on or off", OTEL_PYTHON_VLLM_NPU_METRICS, word)
    return "auto"


def operators(env: Mapping[str, str], *, warn: bool) -> Operators:
    """What ``OTEL_PYTHON_VLLM_NPU_OPERATORS`` says; ``off`` where it says nothing, or nonsense.

    Args:
        env: the variables.
        warn: whether to say so of nonsense.
    """
    word = env.get(OTEL_PYTHON_VLLM_NPU_OPERATORS, "").strip().lower() or "off"
    if word in ("off", "mspti", "torch"):
        return word
    if warn:
        _logger.warning("%s is %r: off is used; set off, mspti or torch", OTEL_PYTHON_VLLM_NPU_OPERATORS, word)
    return "off"
