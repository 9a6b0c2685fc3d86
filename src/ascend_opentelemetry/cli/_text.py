"""The report as text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.cli import _meters, _sources, _table

if TYPE_CHECKING:
    from ascend_opentelemetry.cli._doctor import Report
    from ascend_opentelemetry.cli._finding import Finding

_COLUMNS = ("pid", "role", "mode", "hooks", "records", "lost", "spans", "lost", "last export", "native rows")


def render(report: Report) -> str:
    """First the causes, then what they were found in."""
    processes = report.processes
    facts = [*_facts(report), *_processes(processes), *_meters.render(processes), *_sources.render(processes)]
    return "\n".join([*_findings(report.findings), "", *facts]) + "\n"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "ok: nothing wrong was found"
    for severity, cause, action in findings:
        yield f"{severity}: {cause}"
        yield f"{'':{len(severity) + 2}}{action}"


def _facts(report: Report) -> Iterator[str]:
    versions = [f"{name} {version}" for name, version in report.versions.items()]
    for number in range(0, len(versions), 3):
        yield _fact("" if number else "versions", ", ".join(versions[number : number + 3]))
    yield _fact("variables", report.variables)
    for kind, choice in report.distro.items():
        yield _fact(kind, f"{choice['name'] or 'none'}: {choice['why']}")
    endpoint = report.endpoint
    if endpoint is None:
        yield _fact("endpoint", "no test span was sent")
    else:
        answer = endpoint["error"] or ("rejected the test span" if endpoint["rejected"] else "took the test span")
        yield _fact("endpoint", f"{endpoint['url']} ({endpoint['protocol']}): {answer}, {endpoint['seconds']:.2f} s")


def _fact(label: str, text: str) -> str:
    return f"{label:14}{text}"


def _processes(statuses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    if not statuses:
        yield "no process of this user is instrumented now"
        return
    yield from _table.lines([_COLUMNS, *(_row(status) for status in statuses)])


def _row(status: Mapping[str, Any]) -> tuple[str, ...]:
    records, exporters, native, hooks = (status[name] for name in ("records", "exporters", "native", "hooks"))
    last = max((exporter["last_success"] or 0.0 for exporter in exporters), default=0.0)
    return (
        str(status["pid"]),
        status["role"],
        status["mode"],
        str(len(hooks["installed"])) if hooks else "-",
        str(records["taken"]),
        str(records["dropped"] + sum(records["lost"].values())),
        str(sum(exporter["exported"] for exporter in exporters)) if exporters else "-",
        str(sum(sum(exporter["dropped"].values()) for exporter in exporters)) if exporters else "-",
        f"{max(0, time.time() - last):.0f} s ago" if last else "-",
        "-" if native is None else str(native["written"]) if native["enabled"] else f"{native['written']} (off)",
    )
