"""What the environment variables, and a version that they depend on, switch off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ascend_opentelemetry.cli._finding import Finding
from ascend_opentelemetry.native import choose

#: Name of our entry points: the instrumentor, and the plugin of vLLM.
_INSTRUMENTOR = "vllm"
_PLUGIN = "ascend_opentelemetry"
#: The first release of opentelemetry-instrumentation whose ``sitecustomize`` reaches children started by spawn.
_REACHES_SPAWN = Version("0.63b0")
_CONFIG_FILE = "OTEL_CONFIG_FILE"


def check(env: Mapping[str, str], instrumentation: str | None) -> Iterator[Finding]:
    """Find what keeps spans or whole processes out.

    Args:
        env: environment of the service.
        instrumentation: installed version of opentelemetry-instrumentation.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding(
            "error", "OTEL_SDK_DISABLED=true switches the SDK off: there are no spans", "Remove OTEL_SDK_DISABLED."
        )
    if env.get(_CONFIG_FILE):
        yield from _check_config_file(env[_CONFIG_FILE])
    else:
        yield from _check_sampler(env)
    yield from _check_instrumentor(env)
    yield from _check_plugin(env, instrumentation)
    writer = choose(env).left_to
    if writer is not None:
        yield Finding(
            "note",
            f"native files are left to the plugin of {writer}",
            "Nothing, or set OTEL_PYTHON_VLLM_NATIVE=on to write ours too.",
        )


def wants_otlp(env: Mapping[str, str]) -> bool:
    """Whether the variables have spans exported by OTLP; where ``OTEL_CONFIG_FILE`` is set they do not decide."""
    if env.get(_CONFIG_FILE):
        return False
    exporter = env.get("OTEL_TRACES_EXPORTER")
    if exporter is not None:
        return "otlp" in exporter
    native = bool(env.get("SERVICE_PROF_CONFIG_PATH"))
    return not native or any(env.get(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT") for signal in ("", "TRACES_"))


def _check_config_file(path: str) -> Iterator[Finding]:
    if find_spec("opentelemetry.configuration") is None:
        yield Finding(
            "error",
            f"{_CONFIG_FILE}={path} cannot be read: the package opentelemetry-configuration is not installed",
            "Run pip install opentelemetry-configuration, or set OTEL_* variables in place of the file.",
        )
    elif Path(path).is_absolute() and not Path(path).is_file():  # others are relative to the folder of the service
        yield Finding(
            "error", f"{_CONFIG_FILE}={path} is no file: nothing is exported", f"Name the right file in {_CONFIG_FILE}."
        )


def _check_sampler(env: Mapping[str, str]) -> Iterator[Finding]:
    sampler = env.get("OTEL_TRACES_SAMPLER", "").strip()
    argument = env.get("OTEL_TRACES_SAMPLER_ARG", "")
    if sampler.removeprefix("parentbased_") == "always_off":
        cause = f"OTEL_TRACES_SAMPLER={sampler} samples no request"
    elif sampler.removeprefix("parentbased_") == "traceidratio" and _is_zero(argument):
        cause = f"OTEL_TRACES_SAMPLER={sampler} with OTEL_TRACES_SAMPLER_ARG={argument} samples no request"
    else:
        return
    yield Finding(
        "error",
        f"the sampler is off: {cause}",
        "Remove OTEL_TRACES_SAMPLER, or set parentbased_traceidratio and a ratio above 0 in OTEL_TRACES_SAMPLER_ARG.",
    )


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


def _check_instrumentor(env: Mapping[str, str]) -> Iterator[Finding]:
    variable = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    names = {name.strip() for name in env.get(variable, "").split(",")}
    if names & {_INSTRUMENTOR, "*"}:
        yield Finding(
            "error",
            f"{variable}={env[variable]} leaves vLLM out",
            f"Take {_INSTRUMENTOR!r} (or '*') out of {variable}.",
        )


def _check_plugin(env: Mapping[str, str], instrumentation: str | None) -> Iterator[Finding]:
    plugins = env.get("VLLM_PLUGINS")
    left_out = plugins is not None and _PLUGIN not in plugins.split(",")
    old = instrumentation is not None and not _reaches_spawn(instrumentation)
    if left_out:
        yield Finding(
            "error" if old else "warning",
            f"VLLM_PLUGINS={plugins} leaves {_PLUGIN} out: vLLM processes that opentelemetry-instrument does not reach "
            "record nothing",
            f"Add {_PLUGIN} to VLLM_PLUGINS, or remove the variable.",
        )
    if old:
        cause = (
            f"opentelemetry-instrumentation {instrumentation} is too old to instrument processes that are started by "
            "spawn"
        )
        if left_out:
            yield Finding(
                "error", f"{cause}, and the vLLM plugin is left out", f"Install {_REACHES_SPAWN} or newer of it."
            )
        else:
            yield Finding("note", cause, "Nothing: the vLLM plugin covers them.")


def _reaches_spawn(version: str) -> bool:
    try:
        return Version(version) >= _REACHES_SPAWN
    except InvalidVersion:
        return True
