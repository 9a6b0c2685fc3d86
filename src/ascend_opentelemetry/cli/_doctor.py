"""``ascend-otel doctor``: what keeps telemetry from arriving."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ascend_opentelemetry import status
from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.cli import _distros, _endpoint, _explain, _processes, _text, _variables
from ascend_opentelemetry.cli._finding import Finding, by_severity, exit_code


class Report(NamedTuple):
    """Everything that was found; its fields are the keys of ``--json``."""

    findings: list[Finding]
    versions: dict[str, str]
    #: Whose environment variables were looked at.
    variables: str
    distro: dict[str, dict[str, str | None]]
    #: The test span; None when none was sent.
    endpoint: dict[str, Any] | None
    processes: list[dict[str, Any]]


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="find what keeps spans and records from arriving",
        description="Names what keeps spans and records from arriving, then shows the facts. Looks at the environment "
        "of the one running service of this user, or of the one that --pid names, else at its own. Exit code: 0 ok, "
        "1 warnings, 2 errors.",
    )
    parser.add_argument("--endpoint", metavar="URL", help="in place of OTEL_EXPORTER_OTLP_ENDPOINT and its like")
    parser.add_argument("--protocol", choices=_endpoint.PROTOCOLS, help="in place of OTEL_EXPORTER_OTLP_PROTOCOL")
    parser.add_argument("--pid", type=int, help="a process of the service whose variables count, where several run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-send", action="store_true", help="send no test span")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine, print, and return the exit code."""
    report = _examine(options.endpoint, options.protocol, options.pid, not options.no_send)
    if options.json:
        fields = {**report._asdict(), "findings": [finding._asdict() for finding in report.findings]}
        text = json.dumps(fields, indent=2) + "\n"
    else:
        text = _text.render(report)
    sys.stdout.write(text)
    return exit_code(report.findings)


def _examine(endpoint: str | None, protocol: str | None, pid: int | None, send: bool) -> Report:
    processes = status.read_all()
    environments = {process["pid"]: _processes.read_environment(process["pid"]) for process in processes}
    findings = list(_check_pid(pid, environments))
    variables = _adopt(processes, environments, pid)
    env = os.environ
    versions = status.installed_versions()
    findings += list(_variables.check(env, versions.get("opentelemetry-instrumentation")))
    distro, configurator = _distros.choose_distro(env), _distros.choose_configurator(env)
    findings += _distros.check(distro, configurator)
    findings += _processes.check(processes, environments)
    answer = None
    if send and (endpoint is not None or _variables.wants_otlp(env)):
        answer, more = _try(endpoint, protocol or _endpoint.protocol_of(env))
        findings += more
    elif send:
        findings.append(_not_sent(env))
    choices = {"distro": distro._asdict(), "configurator": configurator._asdict()}
    return Report(by_severity(findings), versions, variables, choices, _as_json(answer), processes)


def _check_pid(pid: int | None, environments: Mapping[int, Mapping[str, str]]) -> Iterable[Finding]:
    if pid is not None and pid not in environments:
        yield Finding(
            "error",
            f"--pid {pid} is no instrumented process of this user",
            "Name one of the table below, or leave it out.",
        )


def _not_sent(env: Mapping[str, str]) -> Finding:
    if env.get("OTEL_CONFIG_FILE"):
        return Finding(
            "note",
            "OTEL_CONFIG_FILE names the exporters, so no test span was sent",
            "Name their endpoint by --endpoint.",
        )
    return Finding("note", "spans are not exported by OTLP, so no test span was sent", "See OTEL_TRACES_EXPORTER.")


def _adopt(processes: list[dict[str, Any]], environments: Mapping[int, Mapping[str, str]], pid: int | None) -> str:
    """Take over the variables of the service with this process, or of the only one: exporters read them here.

    Returns:
        Whose variables count from here on.
    """
    services = {process["service"] for process in processes if pid in (None, process["pid"])}
    first = _processes.first_processes([process for process in processes if process["service"] in services])
    if len(first) > 1:
        pids = ", ".join(map(str, first))
        return f"of this command, since {len(first)} services run (pids {pids}): --pid chooses one"
    env = environments[first[0]] if first else {}
    if not env:
        return "of this command"
    for name in _processes.relevant(os.environ):
        del os.environ[name]
    os.environ.update(_processes.relevant(env))
    return f"of the running service (pid {first[0]})"


def _try(endpoint: str | None, name: str) -> tuple[_endpoint.Answer | None, Iterable[Finding]]:
    protocol = _endpoint.as_protocol(name)
    if protocol is None:
        return None, [Finding("error", f"no exporter speaks the protocol {name}", "Use grpc or http/protobuf for it.")]
    try:
        answer = _endpoint.send_test_span(protocol, endpoint)
    except Exception as error:  # noqa: BLE001 - a variable that the exporter does not understand
        return None, [
            Finding(
                "error",
                f"the exporter cannot be made: {type(error).__name__}: {error}",
                "Check the OTEL_EXPORTER_OTLP_* variables.",
            )
        ]
    finding = _explain.explain(answer)
    return answer, [finding] if finding is not None else []


def _as_json(answer: _endpoint.Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "url": without_secrets(answer.endpoint),
        "protocol": answer.protocol,
        "tls": answer.tls,
        "error": answer.cause or None,
        "rejected": answer.rejected,
        "seconds": round(answer.seconds, 3),
    }
