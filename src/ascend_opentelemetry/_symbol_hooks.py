"""From symbols to hooks: the built-in ones, which know vLLM, and those of the symbols file."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from ascend_opentelemetry import _builtin_hooks, native, profiler, symbols, vllm
from ascend_opentelemetry.hooks import (
    HandlerImport,
    Installer,
    StandIn,
    Target,
    Timer,
    TimerSlot,
    Wildcard,
    is_generator_kind,
    wrap,
)
from ascend_opentelemetry.recorder import Record, RecordType, recorder

_logger = logging.getLogger(__name__)

#: Functions that objects of vLLM keep from their construction on, and the name under which they do.
_KEPT = {
    "vllm.v1.engine.core:EngineCore.step": "EngineCore.step_fn",
    "vllm.v1.engine.core:EngineCore.step_with_batch_queue": "EngineCore.step_fn",
}

#: Problems of a file that are told one by one.
_MANY = 20

_API = {"Profiler": profiler.Profiler, "Level": profiler.Level}
#: Users' handlers are written for it.
_UPSTREAM = StandIn("ms_service_profiler", {"": _API, "profiler": _API})

#: Held while a timer changes and is counted: the file may change while another thread imports the module. A fork waits.
_changing = threading.Lock()
os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_changing.release)

#: ``module:qualname`` and the user's handler; None for a timer.
_Key: TypeAlias = tuple[str, symbols.Custom | None]


class SymbolHooks:
    """The hooks that the symbols file asks for, as it is now.

    Args:
        installer: takes the hooks.
        path: of the symbols file; None: as ``symbols.find`` says.
    """

    def __init__(self, installer: Installer, path: str | os.PathLike[str] | None = None) -> None:
        self._installer = installer
        self._path = Path(path) if path is not None else symbols.find(os.environ)
        self._text: bytes | None = None
        # who writes the native files in our place calls the handlers of this file too: they must not be called twice
        self._handles = native.choose(os.environ).left_to is None
        self._hooks: dict[_Key, _Hook] = {}

    def load(self) -> None:
        """Hook what the file names."""
        self._text = _read(self._path)
        self._apply()

    def update(self) -> None:
        """Do as the file says now, if it has changed; called when the native window opens, in the drain's thread.

        Hooks that are in place stay: what they record changes, or they only pass calls through. So it reaches those
        who have kept the function. Nothing is raised.
        """
        try:
            text = _read(self._path)
            if text == self._text or not self._installer.is_active:
                return
            if text is None:
                _logger.warning("%s cannot be read any more: the hooks stay as they are", self._path)
                return
            self._text = text
            added, changed, off = self._apply(running=True)
            _logger.info(
                "%s has changed: %d symbols added, %d changed, %d off; the code of handlers is not loaded again",
                self._path, added, changed, off,
            )  # fmt: skip
        except Exception:  # the drain goes on
            _logger.exception("%s has changed, but not all of it applies", self._path)

    def passing(self) -> list[str]:
        """Targets, as ``module:qualname``, that the file names no more: their hooks, if there are, only pass calls."""
        off = [(name, hook) for (name, _), hook in list(self._hooks.items()) if not hook.is_on()]
        return [target for name, hook in off for target in (hook.targets or [name])]

    def domains(self) -> set[str]:
        """Domains that have rows, those of functions whose modules are not imported here included."""
        symbols_here = [hook.symbol for hook in list(self._hooks.values()) if hook.symbol is not None]
        return recorder.domains | {_domain_and_name(symbol)[0] for symbol in symbols_here}

    def _apply(self, *, running: bool = False) -> tuple[int, int, int]:
        """Returns how many hooks are new, are changed and have been switched off."""
        found, problems = symbols.load(self._path)
        for problem in problems[:_MANY]:
            _logger.warning("%s", problem)
        if problems[_MANY:]:
            _logger.warning(
                "%s: %d more problems: ascend-otel symbols check %s", self._path, len(problems) - _MANY, self._path
            )
        wanted: dict[_Key, symbols.Symbol] = {}
        builtins: set[str] = set()
        for symbol in found:
            applies = symbols.applies(symbol, symbols.installed_version)
            if isinstance(applies, symbols.Problem):
                _logger.warning("%s", applies)
            elif applies:
                handler = symbols.resolve_handler(symbol)
                if isinstance(handler, symbols.Builtin):
                    builtins.add(handler.name)
                elif self._handles or isinstance(handler, symbols.Timer):
                    wanted[symbol.target, handler if isinstance(handler, symbols.Custom) else None] = symbol
        _ask_for_rows(builtins)
        off = [hook for key, hook in self._hooks.items() if key not in wanted and hook.symbol is not None]
        for hook in off:
            hook.change(None)
        new, changed = 0, 0
        for key, symbol in wanted.items():
            hook = self._hooks.get(key)
            if hook is None:
                new += 1
                hook = self._hooks[key] = _Hook(symbol, key[1])
                self._add(hook, symbol, running)
            else:
                changed += hook.change(symbol)
        return new, changed, len(off)

    def _add(self, hook: _Hook, symbol: symbols.Symbol, running: bool) -> None:
        where = f"{symbol.file}:{symbol.line}"
        if symbol.wildcard:
            class_name, _, method = symbol.qualname.rpartition(".")
            self._installer.add_all(Wildcard(symbol.module[: -len(".*")], class_name, method, where), hook.maker)
            return
        target = Target(symbol.module, symbol.qualname, where)
        self._installer.add(target, hook.maker(target))
        kept = _KEPT.get(symbol.target)
        if running and kept is not None and symbol.module in sys.modules:
            _logger.warning(
                "%s: objects made before now go on with the %s that they have; they are recorded after a restart",
                target.where, kept,
            )  # fmt: skip


class _Hook:
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

    def change(self, symbol: symbols.Symbol | None) -> bool:
        """Record as ``symbol`` says, or nothing; whether that is something else than before."""
        before, self.symbol = self.symbol, symbol
        if _recorded(before) == _recorded(symbol):
            return False
        for target, function, slot in self._timed:
            self._set(target, function, slot)
        return True

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
            return wrap(function, slot, str(target), target.where)

        return make

    def _set(self, target: Target, function: Callable[..., Any], slot: TimerSlot) -> None:
        with _changing:
            recorder.timers -= not slot.is_off
            slot.set(None if self.symbol is None else _timer(self.symbol, target, function))
            recorder.timers += not slot.is_off


def install(installer: Installer, path: str | os.PathLike[str] | None = None) -> SymbolHooks:
    """Hook everything that is to be recorded.

    Args:
        installer: takes the hooks.
        path: of the symbols file; None: as ``symbols.find`` says.

    Returns:
        The hooks of the symbols file.
    """
    for record_type in vllm.TYPES:
        recorder.register(record_type)
    for name, value in vllm.META.items():
        recorder.set_meta(name, value)
    hooks = SymbolHooks(installer, path)
    hooks.load()
    _builtin_hooks.install(installer)  # around those of the file, whose spans are children of theirs
    return hooks


def uninstall(installer: Installer) -> None:
    """Take all hooks out again."""
    installer.remove_all()
    recorder.timers = 0
    recorder.unregister_all()
    for types in vllm.NATIVE_TYPES.values():
        for record_type in types:
            record_type.native = False


def _read(path: Path) -> bytes | None:
    try:
        return symbols.read(path).data
    except OSError:
        return None


def _ask_for_rows(builtins: Iterable[str]) -> None:
    """Have the built-in handlers of these names make native rows, and no others."""
    types = {record_type for name in builtins for record_type in vllm.NATIVE_TYPES[name]}
    for record_type in {one for some in vllm.NATIVE_TYPES.values() for one in some}:
        if record_type.native != (record_type in types):
            record_type.native = record_type in types
            recorder.refresh(record_type)


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
