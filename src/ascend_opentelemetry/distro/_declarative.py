"""Declarative configuration: what the file of ``OTEL_CONFIG_FILE`` says about this distribution.

The file is read by ``opentelemetry-configuration`` (SDK 1.44 and later), once a process.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ascend_opentelemetry.environment_variables import (
    OTEL_PYTHON_VLLM_BAGGAGE_KEYS,
    OTEL_PYTHON_VLLM_DCMI_LIBRARY,
    OTEL_PYTHON_VLLM_NATIVE,
    OTEL_PYTHON_VLLM_NPU_METRICS,
    OTEL_PYTHON_VLLM_NPU_OPERATORS,
    OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO,
    OTEL_PYTHON_VLLM_SYNCHRONIZE,
    PROFILING_SYMBOLS_PATH,
    SERVICE_PROF_CONFIG_PATH,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_logger = logging.getLogger(__name__)

OTEL_CONFIG_FILE = "OTEL_CONFIG_FILE"

_DISTRIBUTION = "distribution.ascend"
_INSTRUMENTATION = "instrumentation/development.python.vllm"


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is no path")
    return value


def _ratio(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("is no number from 0 to 1")
    return repr(value)


def _flag(value: Any) -> str:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")
    return str(value).lower()


def _one_of(*words: str) -> Callable[[Any], str]:
    def text(value: Any) -> str:
        if isinstance(value, bool):  # what YAML makes of on and off
            value = "on" if value else "off"
        if value not in words:
            raise ValueError(f"is none of {', '.join(words)}")
        return str(value)

    return text


def _names(value: Any) -> str:
    names: Any = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and "," not in name for name in names):
        raise ValueError("is no list of names")
    return ",".join(str(name).strip() for name in names)


class _Key(NamedTuple):
    """A key of the file: the environment variable that means the same, and how a value becomes its text."""

    variable: str
    text: Callable[[Any], str]


_KEYS: Mapping[str, _Key] = {
    "native_config": _Key(SERVICE_PROF_CONFIG_PATH, _path),
    "native": _Key(OTEL_PYTHON_VLLM_NATIVE, _one_of("auto", "on", "off")),
    "symbols": _Key(PROFILING_SYMBOLS_PATH, _path),
    "step_sample_ratio": _Key(OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, _ratio),
    "baggage_keys": _Key(OTEL_PYTHON_VLLM_BAGGAGE_KEYS, _names),
    "synchronize": _Key(OTEL_PYTHON_VLLM_SYNCHRONIZE, _flag),
    "npu_metrics": _Key(OTEL_PYTHON_VLLM_NPU_METRICS, _one_of("auto", "on", "off")),
    "npu_operators": _Key(OTEL_PYTHON_VLLM_NPU_OPERATORS, _one_of("off", "mspti", "torch")),
    "dcmi_library": _Key(OTEL_PYTHON_VLLM_DCMI_LIBRARY, _path),
}


@dataclass(frozen=True)
class Settings:
    """What a file sets.

    Attributes:
        variables: of the environment, with the values that the file gives them.
        instrumentations: that the file lists for Python: True, or False for ``enabled: false``.
    """

    variables: Mapping[str, str]
    instrumentations: Mapping[str, bool]


def is_used() -> bool:
    """Whether the user configures by a file."""
    return bool(os.environ.get(OTEL_CONFIG_FILE))


def read(where: str, distribution: Mapping[str, Any], python: Mapping[str, Any]) -> Settings:
    """The settings of a parsed file.

    What cannot be used is said in one warning a key, and counts as not set.

    Args:
        where: name of the file, for messages.
        distribution: the section ``distribution``.
        python: the section ``instrumentation/development.python``, whose ``vllm`` wins over ``distribution.ascend``.
    """
    variables = dict(_variables(f"{where}: {_DISTRIBUTION}", distribution.get("ascend") or {}))
    options = {key: value for key, value in (python.get("vllm") or {}).items() if key != "enabled"}
    variables.update(_variables(f"{where}: {_INSTRUMENTATION}", options))
    listed = {name: (options or {}).get("enabled", True) is not False for name, options in python.items()}
    return Settings(variables, listed)


def _variables(where: str, section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        key = _KEYS.get(name)
        if key is None:
            _logger.warning("%s.%s is unknown and ignored; known are %s", where, name, ", ".join(_KEYS))
        elif value is not None:  # null, as ${VARIABLE} gives where it is not set
            try:
                yield key.variable, key.text(value)
            except ValueError as error:
                _logger.warning("%s.%s: %r %s; the default is used", where, name, value, error)


@functools.cache
def _load(path: str) -> Any:
    """The parsed file; None, and one message, when it cannot be used."""
    try:
        from opentelemetry.configuration import load_config_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        _logger.error(
            "%s=%s needs the package opentelemetry-configuration, which is not installed; nothing is exported",
            OTEL_CONFIG_FILE,
            path,
        )
        return None
    try:
        return load_config_file(path)
    except Exception as error:  # noqa: BLE001 - an experimental package; serving must start without it
        _logger.error("%s=%s cannot be used: %s; nothing is exported", OTEL_CONFIG_FILE, path, error)
        return None


@functools.cache
def _settings(path: str) -> Settings:
    config = _load(path)
    if config is None:
        return Settings({}, {})
    instrumentation = config.instrumentation_development
    python = cast("Mapping[str, Any]", getattr(instrumentation, "python", None) or {})
    return read(path, config.distribution or {}, python)


def settings() -> Settings:
    """What the file of ``OTEL_CONFIG_FILE`` sets; nothing when there is none, or it cannot be read."""
    return _settings(os.environ[OTEL_CONFIG_FILE]) if is_used() else Settings({}, {})


def apply() -> None:
    """Let the file decide alone, as the specification says: the environment counts as far as the file refers to it.

    Each setting becomes its environment variable, which the other stages and the children of this process read;
    variables that the file does not set are removed, with a warning for each. A file that cannot be read changes nothing.
    """
    path = os.environ[OTEL_CONFIG_FILE]
    if _load(path) is None:
        return
    variables = settings().variables
    for name, key in _KEYS.items():
        given, value = os.environ.get(key.variable), variables.get(key.variable)
        if given and given != value:
            _logger.warning(
                "%s=%s is not read, since %s=%s is set: write it to %s.%s of that file",
                key.variable, given, OTEL_CONFIG_FILE, path, _DISTRIBUTION, name,
            )  # fmt: skip
        if value is None:
            os.environ.pop(key.variable, None)
        else:
            os.environ[key.variable] = value


def configure(id_generator: type[RandomIdGenerator]) -> None:
    """Configure the SDK by the file; after a mistake in it, which is logged, the process goes on without.

    Args:
        id_generator: used in place of the SDK's random one.
    """
    path = os.environ[OTEL_CONFIG_FILE]
    config = _load(path)
    if config is None:
        return
    from opentelemetry import trace
    from opentelemetry.configuration import configure_sdk  # pyright: ignore[reportMissingImports]
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    from ascend_opentelemetry._runtime import runtime
    from ascend_opentelemetry.distro import _resource
    from ascend_opentelemetry.distro._prometheus import choose_ports

    choose_ports(config)
    try:
        configure_sdk(config)
    except Exception as error:  # noqa: BLE001 - exporters and plug-ins of anybody
        _logger.error("%s=%s cannot be used: %s; nothing is exported", OTEL_CONFIG_FILE, path, error)
        return
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider) and type(provider.id_generator) is RandomIdGenerator:
        provider.id_generator = id_generator()
    _resource.update({**_resource.distro(), **_resource.service()})
    _resource.tell_child(_resource.update)
    runtime.measuring.own()
