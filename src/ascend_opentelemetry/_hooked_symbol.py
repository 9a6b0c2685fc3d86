"""One symbol of the symbols file: what its hooks record, which changes with the file."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ascend_opentelemetry import profiler, symbols
from ascend_opentelemetry.hooks import (
    HandlerImport,
    ManagerTimer,
    StandIn,
    Target,
    Timer,
    TimerSlot,
    is_generator_kind,
    makes_manager,
    wrap,
)
from ascend_opentelemetry.recorder import Record, RecordType, recorder

_logger = logging.getLogger(__name__)

_API = {"Profiler": profiler.Profiler, "Level": profiler.Level}
#: Users' handlers are written for it.
_UPSTREAM = StandIn("ms_service_profiler", {"": _API, "profiler": _API})

#: Held while a timer changes and is counted: the file may change while another thread imports the module. A fork waits.
_changing = threading.Lock()
os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_changing.release)


class HookedSymbol:
    """What one symbol of the file records, in each function that it stands for.

    Args:
        symbol: None while the file does not name it.
        custom: the user's handler, in place of a timer.
    """

    def __init__(self, symbol: symbols.Symbol | None, custom: symbols.Custom | None) -> None:
        self.symbol = symbol
        self._handler = custom and HandlerImport(custom.module, custom.function, _UPSTREAM, self.is_on)
        #: What is hooked, as ``module:qualname``.
        self.targets: list[str] = []
        self._timed: list[tuple[Target, Callable[..., Any], TimerSlot]] = []

    def is_on(self) -> bool:
        """Whether the file names it."""
        return self.symbol is not None

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.symbol.file}:{self.symbol.line}" if self.symbol is not None else ""

    def domain(self) -> str | None:
        """That of the rows; None while the file does not name it."""
        return None if self.symbol is None else _domain_and_name(self.symbol)[0]

    def change(self, symbol: symbols.Symbol | None) -> bool:
        """Record as ``symbol`` says, or nothing; whether that is something else than before."""
        before, self.symbol = self.symbol, symbol
        if _recorded(before) == _recorded(symbol):
            return False
        for target, function, slot in self._timed:
            self._set(target, function, slot)
        return True

    def retry(self) -> bool:
        """Whether its handler, which could not be imported before, can be now."""
        return self._handler is not None and self.symbol is not None and self._handler.retry(self.where)

    def changed_file(self) -> Path | None:
        """As of ``HandlerImport``."""
        return None if self._handler is None else self._handler.changed_file()

    def maker(self, target: Target) -> Callable[[Any], Any]:
        """What makes the hook of ``target``."""

        def make(function: Callable[..., Any]) -> Callable[..., Any]:
            self.targets.append(str(target))
            hook = None if self._handler is None else self._handler.hook(function, target)
            if hook is not None:
                return hook
            slot = TimerSlot(attach=not is_generator_kind(function))
            self._timed.append((target, function, slot))
            self._set(target, function, slot)
            handler = ManagerTimer(slot, str(target), target.where) if makes_manager(function) else slot
            return wrap(function, handler, str(target), target.where)

        return make

    def _set(self, target: Target, function: Callable[..., Any], slot: TimerSlot) -> None:
        with _changing:
            recorder.timers -= not slot.is_off
            slot.set(None if self.symbol is None else _timer(self.symbol, target, function))
            recorder.timers += not slot.is_off


def _recorded(symbol: symbols.Symbol | None) -> tuple[object, ...] | None:
    if symbol is None:
        return None
    return symbols.resolve_handler(symbol), symbol.domain, symbol.name, symbol.attributes


def _domain_and_name(symbol: symbols.Symbol) -> tuple[str, str]:
    handler = symbols.resolve_handler(symbol)
    return handler if isinstance(handler, symbols.Timer) else (symbol.domain, symbol.name)


def _timer(symbol: symbols.Symbol, target: Target, function: Callable[..., Any]) -> Timer:
    def failed(attribute: symbols.Attribute, error: Exception) -> None:
        _logger.warning(
            "%s: attribute %s of %s has no value: %s: %s",
            target.where, attribute.name, target, type(error).__name__, error,
        )  # fmt: skip

    def slow(seconds: float) -> None:
        _logger.warning(
            "%s: the attributes of %s took %.1f ms of a call: they are off now; ask for less",
            target.where, target, seconds * 1e3,
        )  # fmt: skip

    domain, name = _domain_and_name(symbol)
    record_type = RecordType(domain, name, [attribute.name for attribute in symbol.attributes])
    otel_names = [attribute.otel_name for attribute in symbol.attributes]
    if otel_names != list(record_type.keys):

        def attributes(record: Record) -> Iterable[tuple[str, Any]]:
            return zip(otel_names, record[5], strict=True)

        record_type.attributes = attributes
    recorder.register(record_type)
    values = symbols.bind(symbol.attributes, function, failed, slow) if symbol.attributes else None
    return Timer(record_type, values, attach=not is_generator_kind(function))
