"""A function that different versions of a package have under different names."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder

import wrapt

from ascend_opentelemetry.hooks._install import Installer, MakeHook, Target
from ascend_opentelemetry.hooks._near import near_module

_logger = logging.getLogger(__name__)

#: Lost functions that a process of this service has reported already; children inherit it.
_REPORTED = "_ASCEND_OTEL_MISSING"


class Spellings:
    """Hooks a function under each of its names; one warning a service when it is there under none of them.

    Args:
        installer: takes the hooks.
        makers: the names, the newest first, each with what ``Installer.add`` takes.
        is_expected: whether the installed version should have the function; asked when none of the names is there.
    """

    def __init__(
        self, installer: Installer, makers: Mapping[Target, MakeHook], is_expected: Callable[[], bool]
    ) -> None:
        self._installer = installer
        self._makers = makers
        self._targets = list(makers)
        self._is_expected = is_expected
        self._open = {str(target) for target in makers}
        self._nearest = ""

    def add(self) -> None:
        """Hook what is there now or comes later."""
        for target, make_hook in self._makers.items():
            self._installer.add(target, make_hook, missing=self._is_missing)
        wrapt.register_post_import_hook(lambda _: self._look_for_modules(), self._targets[0].module.partition(".")[0])

    def _look_for_modules(self) -> None:
        try:
            for target in self._targets if self._installer.is_active else ():
                if not has_module(target.module):
                    self._is_missing(target, "")
        except Exception:  # the import goes on
            _logger.debug("%s is not looked for", self._targets[0], exc_info=True)

    def _is_missing(self, target: Target, nearest: str) -> None:
        if target == self._targets[0]:
            self._nearest = nearest
        self._open.discard(str(target))
        if self._open or not self._is_expected():
            return
        newest = self._targets[0]
        self._installer.left_out.append(str(newest))
        reported = os.environ.get(_REPORTED, "").split()
        if str(newest) in reported:
            return
        os.environ[_REPORTED] = " ".join([*reported, str(newest)])
        nearest = self._nearest or near_module(newest.module, newest.qualname)
        _logger.warning(
            "%s: this version has no %s%s: what it records is left out%s; look for a newer release of this package",
            newest.where, newest, ", nor an older name of it" if len(self._targets) > 1 else "",
            f" (the nearest name is {nearest})" if nearest else "",
        )  # fmt: skip


def has_module(name: str) -> bool:
    """Whether a module could be imported; nothing is."""
    top, *parts = name.split(".")
    spec = importlib.util.find_spec(top)
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec is not None
