"""From symbols to hooks: the built-in ones, which know vLLM, and those of the symbols file."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from ascend_opentelemetry import symbols, vllm
from ascend_opentelemetry.hooks import Custom, Installer, Target, Timer, is_generator_kind, wrap
from ascend_opentelemetry.recorder import Record, RecordType, recorder

_logger = logging.getLogger(__name__)


def install(installer: Installer, path: str | os.PathLike[str] | None = None) -> None:
    """Hook everything that is to be recorded.

    Args:
        installer: takes the hooks.
        path: of the symbols file; None: ``PROFILING_SYMBOLS_PATH`` or the file of this package.
    """
    for record_type in vllm.TYPES:
        recorder.register(record_type)
    for name, value in vllm.META.items():
        recorder.set_meta(name, value)
    for hooked in vllm.HOOKED:
        target = Target(hooked.module, hooked.qualname, "built-in symbol")
        installer.add(target, _builtin_hook(target, hooked.handler), missing_ok=True)
    found, problems = symbols.load(path if path is not None else symbols.find(os.environ))
    for problem in problems:
        _logger.warning("%s", problem)
    for symbol in found:
        applies = symbols.applies(symbol, symbols.installed_version)
        if isinstance(applies, symbols.Problem):
            _logger.warning("%s", applies)
        elif applies:
            _add(installer, symbol)


def uninstall(installer: Installer) -> None:
    """Take all hooks out again."""
    installer.remove_all()
    recorder.timers = 0
    recorder.unregister_all()
    for types in vllm.NATIVE_TYPES.values():
        for record_type in types:
            record_type.native = False


def _add(installer: Installer, symbol: symbols.Symbol) -> None:
    target = Target(symbol.module, symbol.qualname, f"{symbol.file}:{symbol.line}")
    handler = symbols.resolve_handler(symbol)
    if symbol.wildcard:
        _logger.warning("%s: %s names no single module; it is left out", target.where, target)
    elif isinstance(handler, symbols.Builtin):
        for record_type in vllm.NATIVE_TYPES[handler.name]:
            record_type.native = True
            recorder.refresh(record_type)
    elif isinstance(handler, symbols.Custom):
        installer.add(target, _custom_hook(target, symbol, handler))
    else:
        installer.add(target, _timer_hook(target, symbol, handler.domain, handler.name))


def _builtin_hook(target: Target, handler: Any) -> Callable[[Any], Any]:
    return lambda function: wrap(function, handler, str(target), target.where)


def _custom_hook(target: Target, symbol: symbols.Symbol, handler: symbols.Custom) -> Callable[[Any], Any]:
    def make(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            custom: Any = importlib.import_module(handler.module)
            for part in handler.function.split("."):
                custom = getattr(custom, part)
            if not callable(custom):
                raise TypeError("it is not callable")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may be a script
            _logger.warning(
                "%s: handler %s:%s cannot be used (%s: %s); %s is timed instead",
                target.where, handler.module, handler.function, type(error).__name__, error, target,
            )  # fmt: skip
            return _timer_hook(target, symbol, symbol.domain, symbol.name)(function)
        return wrap(function, Custom(custom, str(target), target.where), str(target), target.where)

    return make


def _timer_hook(target: Target, symbol: symbols.Symbol, domain: str, name: str) -> Callable[[Any], Any]:
    def failed(attribute: symbols.Attribute, error: Exception) -> None:
        _logger.warning(
            "%s: attribute %s of %s has no value: %s: %s",
            target.where, attribute.name, target, type(error).__name__, error,
        )  # fmt: skip

    def make(function: Callable[..., Any]) -> Callable[..., Any]:
        record_type = RecordType(domain, name, [attribute.name for attribute in symbol.attributes])
        otel_names = [attribute.otel_name for attribute in symbol.attributes]
        if otel_names != list(record_type.keys):

            def attributes(record: Record) -> Iterable[tuple[str, Any]]:
                return zip(otel_names, record[5], strict=True)

            record_type.attributes = attributes
        recorder.register(record_type)
        recorder.timers += 1
        values = symbols.bind(symbol.attributes, function, failed) if symbol.attributes else None
        timer = Timer(record_type, values, attach=not is_generator_kind(function))
        return wrap(function, timer, str(target), target.where)

    return make
