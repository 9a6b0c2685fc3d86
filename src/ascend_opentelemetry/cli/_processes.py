"""The processes of running services: what they say about themselves, and with which variables they were started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.cli._finding import Finding

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
#: Variables that decide what a service records and where it goes.
_PREFIXES = ("OTEL_", "VLLM_PLUGINS", "SERVICE_PROF_", "PROFILING_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def read_environment(pid: int) -> dict[str, str]:
    """The variables with which a process was started; empty when they cannot be read."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def relevant(env: Mapping[str, str]) -> dict[str, str]:
    """Those variables that decide what is recorded and where it goes."""
    return {name: value for name, value in env.items() if name.startswith(_PREFIXES)}


def first_processes(statuses: Sequence[Mapping[str, Any]]) -> list[int]:
    """The pid of the first process of each service; ``statuses`` are in the order of their start."""
    first: dict[object, int] = {}
    for status in statuses:
        first.setdefault(status.get("service"), status["pid"])
    return list(first.values())


def check(statuses: Sequence[Mapping[str, Any]], environments: Mapping[int, Mapping[str, str]]) -> Iterator[Finding]:
    """Find losses, and children that were given another endpoint than their parent.

    Args:
        statuses: contents of status files.
        environments: variables of the processes by pid.
    """
    for status in statuses:
        yield from _check_endpoint(status, statuses, environments)
        yield from _check_mode(status)
        yield from _check_losses(status)
        yield from _check_hooks(status)


def name(status: Mapping[str, Any]) -> str:
    return f"{status['role']} ({status['pid']})"


def _check_endpoint(
    child: Mapping[str, Any], statuses: Sequence[Mapping[str, Any]], environments: Mapping[int, Mapping[str, str]]
) -> Iterator[Finding]:
    parent = next((status for status in statuses if status["pid"] == child["ppid"]), None)
    if parent is None:
        return
    before, after = environments.get(parent["pid"], {}), environments.get(child["pid"], {})
    wanted = before.get(_TRACES_ENDPOINT) or before.get(_ENDPOINT) or ""
    given = after.get(_TRACES_ENDPOINT) or ""
    if wanted and given and _address(wanted) != _address(given):
        yield Finding(
            "error",
            f"the endpoint was rewritten by vLLM: {name(child)} was started with {without_secrets(given)}, its parent "
            f"{name(parent)} with {without_secrets(wanted)}",
            "Leave out vLLM's --otlp-traces-endpoint, or give it the endpoint of the OTEL_EXPORTER_OTLP_* variables.",
        )


def _address(endpoint: str) -> str:
    """Host and port: what two spellings of one endpoint have in common."""
    return without_secrets(endpoint).rpartition("://")[2].partition("/")[0].lower()


def _check_mode(status: Mapping[str, Any]) -> Iterator[Finding]:
    if status["mode"] == "bridge":
        yield Finding(
            "note",
            f"{name(status)} hands its spans to an SDK that OTEL_CONFIG_FILE, another distribution or the program set up",
            "Nothing. OTEL_* variables with OTEL_PYTHON_DISTRO=ascend OTEL_PYTHON_CONFIGURATOR=ascend cost less.",
        )
    elif status["mode"] == "none":
        yield Finding(
            "warning",
            f"{name(status)} records nothing: no exporter takes spans, and no native files are asked for",
            "Set OTEL_EXPORTER_OTLP_ENDPOINT, or SERVICE_PROF_CONFIG_PATH.",
        )


def _check_losses(status: Mapping[str, Any]) -> Iterator[Finding]:
    records, native = status["records"], status["native"]
    if records["dropped"]:
        yield Finding(
            "warning",
            f"{name(status)} has dropped {records['dropped']} records: they came faster than they could be worked on",
            "Lower OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, or leave symbols out.",
        )
    for sink, count in records["lost"].items():
        yield Finding(
            "warning", f"{name(status)}: {sink} has failed and lost {count} records", "See the log of the service."
        )
    for exporter in status["exporters"]:
        if exporter["last_error"]:
            yield Finding(
                "warning",
                f"{name(status)}: the last export to {exporter['endpoint']} failed: {exporter['last_error']}",
                "See what the test span says, and the log of the service.",
            )
        if lost := _counts(exporter["dropped"]):
            yield Finding(
                "warning",
                f"{name(status)} has lost spans for {exporter['endpoint']}: {lost}",
                "See the log of the service, and of the collector.",
            )
    if native is not None and (lost := _counts(native["dropped"])):
        yield Finding("warning", f"{name(status)} has lost native rows: {lost}", "See the log of the service.")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items() if count)


def _check_hooks(status: Mapping[str, Any]) -> Iterator[Finding]:
    hooks = status["hooks"] or {}
    if off := hooks.get("switched_off"):
        yield Finding(
            "warning",
            f"{name(status)}: handlers were switched off after failures: {', '.join(off)}",
            "See the log of the service, and report the first exception.",
        )
    if left_out := hooks.get("left_out"):
        yield Finding(
            "note",
            f"{name(status)}: symbols that do not exist in this version, or lie in compiled code, are left out: {', '.join(left_out)}",
            "See `ascend-otel symbols check`, and adapt the symbols file.",
        )
