"""The import of a user's handler: once, and not before a function that it is for is there."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascend_opentelemetry.hooks._custom import Custom
from ascend_opentelemetry.hooks._install import Target
from ascend_opentelemetry.hooks._news import is_news
from ascend_opentelemetry.hooks._stand_in import StandIn
from ascend_opentelemetry.hooks._wrap import wrap

_logger = logging.getLogger(__name__)

#: An import that keeps the program waiting for longer (seconds) is said.
_SLOW = 1.0


class HandlerImport:
    """``package.module:function`` of a symbols file.

    Args:
        module: to import.
        function: in it, possibly inside a class.
        stand_in: importable for the module where the real package is absent.
        is_wanted: asked in each call of a hooked function; False: the handler is left out.
    """

    def __init__(self, module: str, function: str, stand_in: StandIn, is_wanted: Callable[[], bool]) -> None:
        self._module = module
        self._function = function
        self._stand_in = stand_in
        self._is_wanted = is_wanted
        self._handler: Callable[..., Any] | None = None
        self._error: BaseException | None = None
        self._said: set[str] = set()
        self._stamp: tuple[Path, int] | None = None

    def retry(self, where: str) -> bool:
        """Import again what could not be imported, for a symbol at ``where``; whether it is there now."""
        if self._error is None:
            return False
        self._error = None
        importlib.invalidate_caches()
        try:
            self._imported(where)
        except (Exception, SystemExit):  # noqa: BLE001 - said when it was imported first
            return False
        return True

    def changed_file(self) -> Path | None:
        """The file of the module, once each time that it has changed since the import."""
        before, self._stamp = self._stamp, self._look()
        if before is None or self._stamp is None:
            self._stamp = before
            return None
        return self._stamp[0] if self._stamp != before else None

    def _look(self) -> tuple[Path, int] | None:
        try:
            path = Path(getattr(sys.modules[self._module], "__file__", None) or "")
            return path, path.stat().st_mtime_ns
        except (KeyError, OSError):  # not imported; gone, or never a file of its own
            return None

    def hook(self, function: Callable[..., Any], target: Target) -> Callable[..., Any] | None:
        """The hook of one function; None, and one warning a reason, if the handler cannot be used for it."""
        try:
            handler = self._imported(target.where)
            return wrap(
                function, Custom(handler, str(target), target.where, self._is_wanted), str(target), target.where
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may be a script
            reason = f"{type(error).__name__}: {error}"
            if reason not in self._said:  # a wildcard may stand for hundreds of functions
                self._said.add(reason)
                handler = f"{self._module}:{self._function}"
                message = f"{target.where}: handler {handler} cannot be used ({reason}); {target} is timed instead"
                if is_news(message):
                    _logger.warning("%s", message)
            return None

    def _imported(self, where: str) -> Callable[..., Any]:
        if self._error is not None:
            raise self._error
        if self._handler is None:
            started = time.monotonic()
            try:
                self._handler = self._import()
            except (Exception, SystemExit) as error:
                self._error = error
                raise
            seconds = time.monotonic() - started
            if seconds > _SLOW:
                _logger.warning(
                    "%s: the import of %s kept the program waiting for %.1f s", where, self._module, seconds
                )
        return self._handler

    def _import(self) -> Callable[..., Any]:
        with self._stand_in.importable():
            handler: Any = importlib.import_module(self._module)
        self._stamp = self._look()
        for part in self._function.split("."):
            handler = getattr(handler, part)
        if not callable(handler):
            raise TypeError("it is not callable")
        return handler
