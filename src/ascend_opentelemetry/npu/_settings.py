"""The switches of the NPU's metrics and operators."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, TypeVar

from ascend_opentelemetry.environment_variables import OTEL_PYTHON_VLLM_NPU_METRICS, OTEL_PYTHON_VLLM_NPU_OPERATORS

_logger = logging.getLogger(__name__)

Mode = Literal["auto", "on", "off"]
Operators = Literal["off", "mspti", "torch"]

_MODES: tuple[Mode, Mode, Mode] = ("auto", "on", "off")
_OPERATORS: tuple[Operators, Operators, Operators] = ("off", "mspti", "torch")
_Word = TypeVar("_Word", bound=str)


def mode(env: Mapping[str, str], *, warn: bool) -> Mode:
    """What ``OTEL_PYTHON_VLLM_NPU_METRICS`` says; ``auto`` where it says nothing, or nonsense.

    Args:
        env: the variables.
        warn: whether to say so of nonsense.
    """
    return _word(env, OTEL_PYTHON_VLLM_NPU_METRICS, _MODES, warn)


def operators(env: Mapping[str, str], *, warn: bool) -> Operators:
    """What ``OTEL_PYTHON_VLLM_NPU_OPERATORS`` says; ``off`` where it says nothing, or nonsense.

    Args:
        env: the variables.
        warn: whether to say so of nonsense.
    """
    return _word(env, OTEL_PYTHON_VLLM_NPU_OPERATORS, _OPERATORS, warn)


def _word(env: Mapping[str, str], variable: str, words: tuple[_Word, _Word, _Word], warn: bool) -> _Word:
    """One of the words, the first of which is the default."""
    given = env.get(variable, "").strip().lower() or words[0]
    for word in words:
        if word == given:
            return word
    if warn:
        first, second, third = words
        _logger.warning("%s is %r: %s is used; set %s, %s or %s", variable, given, first, first, second, third)
    return words[0]
