"""Profilers of torch that the program or vLLM's ``/start_profile`` starts: they go before ours.

Kineto makes one recording at a time: a second start throws the first away, whose owner crashes when it saves it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

#: By these, every profiler of torch starts; source: ``torch/autograd/profiler.py`` of torch 2.13.
_STARTS = ("_prepare_profiler", "_enable_profiler")


def _module() -> Any:
    return import_module("torch.autograd.profiler")


def is_running() -> bool:
    """Whether a profiler of torch records in this process."""
    return bool(getattr(_module(), "_is_profiler_enabled", False))


class Precedence:
    """Between ``begin`` and ``end``, tells of the start of a profiler, which waits for the answer.

    Args:
        give_way: called in the thread that starts it; what it raises is the start's to raise.
    """

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._give_way = give_way
        self._replaced: dict[str, Any] = {}

    def begin(self) -> None:
        """Watch from now on."""
        module = _module()
        for name in _STARTS:
            original = getattr(module, name, None)
            if original is not None:
                self._replaced[name] = original
                setattr(module, name, self._before(original))

    def end(self) -> None:
        """Watch no more."""
        module = _module()
        while self._replaced:
            setattr(module, *self._replaced.popitem())

    def _before(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def start(*args: Any, **kwargs: Any) -> Any:
            if self._replaced:
                self._give_way()
            return original(*args, **kwargs)

        return start
