"""Where metrics go: the provider of each process, and what reads it."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.cli._meters import render

SDK = "opentelemetry.sdk.metrics._internal.MeterProvider"


def status(role: str, origin: str, read: bool = True, readers: list[str] | None = None) -> dict[str, Any]:
    return {"role": role, "metrics": {"provider": SDK, "origin": origin, "read": read, "readers": readers or []}}


def test_processes_that_say_the_same_share_a_line() -> None:
    otlp = ["PeriodicExportingMetricReader(OTLPMetricExporter)"]
    statuses = [status("APIServer", "given"), *(status(role, "own", readers=otlp) for role in ("Worker", "Worker"))]
    given, own = f"{SDK}, given to VLLMInstrumentor", f"{SDK}, of this distribution"
    assert list(render(statuses)) == [
        "",
        f"{'metrics':{len(given)}}  processes  readers",
        f"{given}  APIServer  not known",
        f"{own:{len(given)}}  2 Worker   {otlp[0]}",
    ]


def test_a_provider_that_nobody_reads_is_none() -> None:
    assert list(render([status("main", "global", read=False)]))[2:] == [
        "none     main       nobody reads metrics: nothing is measured"
    ]


def test_processes_of_an_older_release_say_nothing() -> None:
    assert list(render([{"role": "main"}])) == []
