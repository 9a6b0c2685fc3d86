"""Which distro and configurator ``opentelemetry-instrument`` takes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from ascend_opentelemetry.cli._finding import Finding

NAME = "ascend"
_DISTRIBUTION = "ascend-opentelemetry"


class Choice(NamedTuple):
    """An entry point that wins; without a name where none does."""

    name: str | None
    package: str | None
    why: str

    @property
    def is_ours(self) -> bool:
        return self.package == _DISTRIBUTION


def choose_distro(env: Mapping[str, str]) -> Choice:
    """As ``opentelemetry-instrument`` does: the first one, or the first of the name that a variable gives."""
    return _choose("opentelemetry_distro", "OTEL_PYTHON_DISTRO", env)


def choose_configurator(env: Mapping[str, str]) -> Choice:
    """As `choose_distro`; without one the SDK is not set up."""
    return _choose("opentelemetry_configurator", "OTEL_PYTHON_CONFIGURATOR", env)


def _choose(group: str, variable: str, env: Mapping[str, str]) -> Choice:
    found = list(entry_points(group=group))
    name = env.get(variable)  # one that is empty is a name too, of nothing
    matching = [entry for entry in found if name is None or entry.name == name]
    if not matching:
        names = ", ".join(entry.name for entry in found)
        return Choice(None, None, f"{variable}={name} names none of {names}" if found else "none is installed")
    first = matching[0]
    if name is not None:
        why = f"{variable} names it"
    elif len(found) == 1:
        why = "it is the only one"
    else:
        why = f"{variable} is not set and it is the first of {', '.join(entry.name for entry in found)}"
    return Choice(first.name, _package(first), why)


def _package(entry: EntryPoint) -> str | None:
    return entry.dist.name if entry.dist is not None else None


def check(distro: Choice, configurator: Choice) -> Iterator[Finding]:
    """Find out whether others win."""
    action = f"Set OTEL_PYTHON_DISTRO={NAME} and OTEL_PYTHON_CONFIGURATOR={NAME}."
    if configurator.name is None:
        yield Finding("error", f"no configurator is loaded, so the SDK is not set up: {configurator.why}", action)
    if distro.name is None:
        yield Finding("warning", f"no distro is loaded, so its defaults are missing: {distro.why}", action)
    elif not distro.is_ours:
        yield Finding("warning", _foreign("distro", distro), action)
    if configurator.name is not None and not configurator.is_ours and configurator.package != distro.package:
        yield Finding("warning", _foreign("configurator", configurator), action)


def _foreign(kind: str, choice: Choice) -> str:
    return f"the {kind} {choice.name!r} of {choice.package} wins over {NAME!r} under opentelemetry-instrument: {choice.why}"
