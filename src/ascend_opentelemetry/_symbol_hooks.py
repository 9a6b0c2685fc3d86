"""From symbols to hooks: the built-in ones, which know vLLM, and those of the symbols file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from ascend_opentelemetry import _builtin_hooks, native, symbols, vllm
from ascend_opentelemetry._hooked_symbol import HookedSymbol
from ascend_opentelemetry.hooks import Installer, MakeHook, Target, Wildcard
from ascend_opentelemetry.host._source import DOMAIN as HOST_DOMAIN
from ascend_opentelemetry.npu.dcmi._source import DOMAIN as NPU_DOMAIN
from ascend_opentelemetry.recorder import recorder

_logger = logging.getLogger(__name__)

#: Functions that objects of vLLM keep from their construction on, and the name under which they do.
_KEPT = {
    "vllm.v1.engine.core:EngineCore.step": "EngineCore.step_fn",
    "vllm.v1.engine.core:EngineCore.step_with_batch_queue": "EngineCore.step_fn",
}

#: Has subclasses of vLLM's classes, beside vLLM itself.
_HEIRS = "vllm_ascend"

#: Problems of a file that are told one by one.
_MANY = 20

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
        self._hooks: dict[_Key, HookedSymbol] = {}
        #: Targets that the file names, as ``module:qualname``.
        self._named: set[str] = set()

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
            if not self._installer.is_active:
                return
            self._look_at_handlers()
            self._installer.look_again()
            text = _read(self._path)
            if text == self._text:
                return
            if text is None:
                _logger.warning("%s cannot be read any more: the hooks stay as they are", self._path)
                return
            self._text = text
            added, changed, off = self._apply(running=True)
            _logger.info("%s has changed: %d symbols added, %d changed, %d off", self._path, added, changed, off)
        except Exception:  # the drain goes on
            _logger.exception("%s has changed, but not all of it applies", self._path)

    def passing(self) -> list[str]:
        """Targets, as ``module:qualname``, that the file names no more: their hooks, if there are, only pass calls."""
        off = [(name, hook) for (name, _), hook in list(self._hooks.items()) if not hook.is_on()]
        return [target for name, hook in off for target in (hook.targets or [name])]

    def domains(self) -> set[str]:
        """Domains that have rows, those of functions whose modules are not imported here included."""
        named = {domain for hook in list(self._hooks.values()) if (domain := hook.domain()) is not None}
        return recorder.domains | named | _sampled_domains()

    def _look_at_handlers(self) -> None:
        """Hook by handlers that can be imported now, and say which ones have changed."""
        for key, hook in list(self._hooks.items()):
            if hook.symbol is not None and hook.retry():
                symbol = hook.symbol
                hook.change(None)
                self._hooks[key] = HookedSymbol(symbol, key[1])
                self._add(self._hooks[key], symbol, running=True)
        for path in sorted({path for hook in self._hooks.values() if (path := hook.changed_file()) is not None}):
            _logger.warning("%s has changed: handlers go on with the code that was imported, until a restart", path)

    def _apply(self, *, running: bool = False) -> tuple[int, int, int]:
        """Returns how many hooks are new, are changed and have been switched off."""
        found, problems = symbols.load(self._path)
        wanted: dict[_Key, symbols.Symbol] = {}
        builtins: set[str] = set()
        for symbol in found:
            applies = symbols.applies(symbol, symbols.installed_version)
            if isinstance(applies, symbols.Problem):
                problems.append(applies)
            elif applies:
                handler = symbols.resolve_handler(symbol)
                if isinstance(handler, symbols.Builtin):
                    builtins.add(handler.name)
                elif self._handles or isinstance(handler, symbols.Timer):
                    wanted[symbol.target, handler if isinstance(handler, symbols.Custom) else None] = symbol
        if native.ProfileSession.join().is_owner:  # the processes of a service all find the same
            self._say(problems)
        _ask_for_rows(builtins)
        self._named = {target for target, _ in wanted}
        off = [hook for key, hook in self._hooks.items() if key not in wanted and hook.symbol is not None]
        for hook in off:
            hook.change(None)
        new, changed = 0, 0
        for key, symbol in wanted.items():
            hook = self._hooks.get(key)
            if hook is None:
                new += 1
                hook = self._hooks[key] = HookedSymbol(symbol, key[1])
                self._add(hook, symbol, running)
            else:
                changed += hook.change(symbol)
        return new, changed, len(off)

    def _say(self, problems: Sequence[symbols.Problem]) -> None:
        for problem in problems[:_MANY]:
            _logger.warning("%s", problem)
        if more := len(problems[_MANY:]):
            _logger.warning("%s: %d more problems: ascend-otel symbols check %s", self._path, more, self._path)

    def _add(self, hook: HookedSymbol, symbol: symbols.Symbol, running: bool) -> None:
        if symbol.wildcard:
            class_name, _, method = symbol.qualname.rpartition(".")
            self._installer.add_all(Wildcard(symbol.module[: -len(".*")], class_name, method, hook.where), hook.maker)
            return
        target = Target(symbol.module, symbol.qualname, hook.where)

        def overriding(other: Target) -> MakeHook | None:
            return None if str(other) in self._named else hook.maker(other)

        is_method = "." in symbol.qualname
        if is_method:
            self._installer.look_below(_HEIRS)
        self._installer.add(target, hook.maker(target), inside=running, overriding=overriding if is_method else None)
        kept = _KEPT.get(symbol.target)
        if running and kept is not None and symbol.module in sys.modules:
            _logger.warning(
                "%s: objects made before now go on with the %s that they have; they are recorded after a restart",
                target.where, kept,
            )  # fmt: skip


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


def _sampled_domains() -> set[str]:
    """Those of the samples that the window asks for; sources have no types that the recorder knows."""
    window = recorder.native
    if not isinstance(window, native.ProfileConfig):
        return set()
    rates = {HOST_DOMAIN: window.host_system_usage_freq, NPU_DOMAIN: window.npu_memory_usage_freq}
    return {domain for domain, hertz in rates.items() if hertz > 0}
