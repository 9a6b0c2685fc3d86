"""Profilers of torch that the program or vLLM's ``/start_profile`` starts: they go before ours.

Kineto makes one recording at a time: a second start throws the first away, whose owner crashes when it saves it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import wrapt

_MODULE = "torch.autograd.profiler"
#: By these, every profiler of torch starts; source: ``torch/autograd/profiler.py`` of torch 2.13.
_STARTS = ("_prepare_profiler", "_enable_profiler")


def _module() -> Any:
    return import_module(_MODULE)


class WarmUp:
    """Knows whether a profiler is prepared and not ended: while it warms up, torch does not call it enabled yet."""

    def __init__(self) -> None:
        self.is_on = False
        self._is_watched = False

    def watch(self) -> None:
        """Know it from the import of torch on, or from now where it is imported; once is enough."""
        if not self._is_watched:
            self._is_watched = True
            wrapt.register_post_import_hook(self._imported, _MODULE)

    def _imported(self, module: ModuleType) -> None:
        for name, around in (("_prepare_profiler", self._prepare), ("_disable_profiler", self._disable)):
            original = getattr(module, name, None)
            if original is not None:
                setattr(module, name, around(original))

    def _prepare(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def prepare(*args: Any, **kwargs: Any) -> Any:
            before, self.is_on = self.is_on, True
            try:
                return original(*args, **kwargs)
            except BaseException:
                self.is_on = before
                raise

        return prepare

    def _disable(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def disable(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self.is_on = False
            return result

        return disable


#: Of this process.
warm_up = WarmUp()


def is_running() -> bool:
    """Whether a profiler of torch records in this process, or warms up if that is watched."""
    return warm_up.is_on or bool(getattr(_module(), "_is_profiler_enabled", False))


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
