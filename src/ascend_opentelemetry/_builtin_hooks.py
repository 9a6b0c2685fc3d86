"""The hooks that know vLLM: what is hooked whatever the symbols file says, in any version of vLLM."""

from __future__ import annotations

import functools
import logging
import sys

from packaging.version import InvalidVersion, Version

from ascend_opentelemetry import symbols, vllm
from ascend_opentelemetry.hooks import Handler, Installer, MakeHook, Spellings, Target, wrap

_logger = logging.getLogger(__name__)

_WHERE = "built-in symbol"


def install(installer: Installer) -> None:
    """Hook each function of ``vllm.HOOKED`` under those of its names that exist."""
    for names in spellings():
        makers = {Target(name.module, name.qualname, _WHERE): _maker(name) for name in names}
        Spellings(installer, makers, functools.partial(_is_expected, names)).add()
    vllm.ENGINE_INIT.hook = functools.partial(_hook_override, installer, set())


def _hook_override(installer: Installer, hooked: set[str], owner: type, name: str, handler: Handler) -> None:
    """Hook a method that is known only now, unless an engine before has had it hooked."""
    target = Target(owner.__module__, f"{owner.__qualname__}.{name}", _WHERE)
    if str(target) in hooked:
        return
    hooked.add(str(target))
    if _has_its_name(owner):
        installer.add(target, lambda function: wrap(function, handler, str(target), _WHERE))
        return
    installer.left_out.append(str(target))
    _logger.warning(
        "%s is not hooked, and what it does is not recorded: its class was made inside of a function; define it at the"
        " top of its module", target,
    )  # fmt: skip


def _has_its_name(kind: type) -> bool:
    """Whether the qualified name of a class leads to it from its module."""
    found: object = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def _maker(hooked: vllm.Hooked) -> MakeHook:
    return lambda function: wrap(function, hooked.handler, f"{hooked.module}:{hooked.qualname}", _WHERE)


def spellings() -> list[list[vllm.Hooked]]:
    """The names of each function, the newest first: those of a group in one package."""
    found: dict[tuple[str | int, str], list[vllm.Hooked]] = {}
    for hooked in vllm.HOOKED:
        key = hooked.group or id(hooked.handler), hooked.module.partition(".")[0]
        found.setdefault(key, []).append(hooked)
    return list(found.values())


def since(names: list[vllm.Hooked]) -> Version:
    """First version of vLLM that has a function under one of its names."""
    return max(Version(hooked.since) for hooked in names)


def _is_expected(names: list[vllm.Hooked]) -> bool:
    if not names[0].module.startswith("vllm."):
        return False  # others come and go with the versions of vLLM-Ascend
    try:
        installed = Version(symbols.installed_version("vllm") or "")
    except InvalidVersion:
        return True
    return installed.is_devrelease or installed >= since(names)
