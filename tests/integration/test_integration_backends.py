"""The real Jaeger and the real Collector, spans sent by the SDK's own exporters, the files of collector-config."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from devtools import otlp_json
from devtools._env import REPO
from devtools.backend import CONFIG, Backend, BackendError, free_ports, validate
from devtools.backends import Backends
from devtools.collector import COLLECTOR_CONFIG, FILE_CONFIG, Collector
from devtools.jaeger import JAEGER_CONFIG, Jaeger
from devtools.otlp_json import Span
from devtools.process import NotReadyError

START = time.time_ns() // 1_000_000 * 1_000_000
RESOURCE = {"service.name": "vllm-test", "service.version": "1.2.3"}
REMOTE = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
#: How the command is named that a file of collector-config is for, and the files that go before it.
CONFIGS = {
    "jaeger.yaml": ("jaeger", [JAEGER_CONFIG]),
    "collector.yaml": ("collector", [COLLECTOR_CONFIG]),
    "collector-file.yaml": ("collector", [COLLECTOR_CONFIG, FILE_CONFIG]),
}


def exporter(backend: Jaeger | Collector, protocol: str) -> GrpcSpanExporter | HttpSpanExporter:
    if protocol == "grpc":
        return GrpcSpanExporter(endpoint=backend.grpc_endpoint, insecure=True)
    return HttpSpanExporter(endpoint=f"{backend.http_endpoint}/v1/traces")


@contextmanager
def provider(backend: Jaeger | Collector, protocol: str, **resource: str) -> Generator[TracerProvider]:
    """A tracer provider that has sent everything when the block ends."""
    made = TracerProvider(resource=Resource.create(RESOURCE | resource), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter(backend, protocol)))
    try:
        yield made
        assert made.force_flush(10_000)
    finally:
        made.shutdown()


def send_request(backend: Jaeger | Collector, protocol: str) -> str:
    """Sends a request of two spans, one of them with everything a span can have; returns its trace id."""
    with provider(backend, protocol) as made:
        tracer = made.get_tracer("scope.name", "9.9")
        root = tracer.start_span("POST /v1/completions", kind=SpanKind.SERVER, start_time=START)
        child = tracer.start_span(
            "llm_request",
            context=trace.set_span_in_context(root),
            kind=SpanKind.INTERNAL,
            attributes={
                "gen_ai.request.model": "tiny",
                "gen_ai.usage.input_tokens": 12,
                "gen_ai.latency.e2e": 0.25,
                "streamed": True,
                "gen_ai.response.finish_reasons": ["stop", "length"],
            },
            links=[Link(REMOTE, {"position": 3})],
            start_time=START + 1_000_000,
        )
        child.add_event("first_token", {"index": 0}, timestamp=START + 2_000_000)
        child.set_status(Status(StatusCode.ERROR, "no memory"))
        child.end(START + 21_000_000)
        root.end(START + 30_000_000)
    return f"{root.get_span_context().trace_id:032x}"


def named(spans: list[Any], name: str) -> Any:
    (span,) = [span for span in spans if span.name == name]
    return span


def check_request(spans: list[Span]) -> None:
    """Every field of the spans that ``send_request`` sent."""
    assert sorted(span.name for span in spans) == ["POST /v1/completions", "llm_request"]
    root, child = named(spans, "POST /v1/completions"), named(spans, "llm_request")
    assert (root.parent_id, root.kind, root.status_code) == ("", otlp_json.SERVER, otlp_json.UNSET)
    assert (root.start, root.end) == (START, START + 30_000_000)
    assert (child.parent_id, child.kind, child.scope) == (root.span_id, otlp_json.INTERNAL, "scope.name")
    assert (child.start, child.end) == (START + 1_000_000, START + 21_000_000)
    assert (child.status_code, child.status_message) == (otlp_json.ERROR, "no memory")
    assert child.attributes == {
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.latency.e2e": 0.25,
        "streamed": True,
        "gen_ai.response.finish_reasons": ["stop", "length"],
    }
    assert child.events == [otlp_json.Event("first_token", START + 2_000_000, {"index": 0})]
    assert child.links == [otlp_json.Link(f"{0xABC:032x}", f"{0xDEF:016x}", {"position": 3})]
    assert child.resource.items() >= RESOURCE.items()


def wait_until(condition: Callable[[], bool], timeout: float = 15) -> bool:
    until = time.monotonic() + timeout
    while not (done := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return done


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_jaeger_gives_back_every_field_of_a_span(jaeger: Jaeger, protocol: str) -> None:
    trace_id = send_request(jaeger, protocol)
    check_request(jaeger.wait_spans(trace_id, 2))
    assert jaeger.services() == ["vllm-test"]


def test_jaeger_shows_the_tree_of_a_request(jaeger: Jaeger) -> None:
    trace_id = send_request(jaeger, "grpc")
    jaeger.wait_spans(trace_id, 2)
    spans = jaeger.trace(trace_id)
    assert [span.name for span in spans] == ["POST /v1/completions", "llm_request"]
    root, child = spans
    assert (root.trace_id, root.parent_id, child.parent_id) == (trace_id, "", root.span_id)
    assert child.follows == ((f"{0xABC:032x}", f"{0xDEF:016x}"),)
    assert (child.start_us, child.duration_us) == (START // 1000 + 1000, 20_000)
    assert child.service == "vllm-test"
    assert child.process["service.version"] == "1.2.3"
    assert child.tags == {
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.latency.e2e": 0.25,
        "streamed": True,
        "gen_ai.response.finish_reasons": '["stop","length"]',
        "span.kind": "internal",
        "otel.scope.name": "scope.name",
        "otel.scope.version": "9.9",
        "otel.status_code": "ERROR",
        "otel.status_description": "no memory",
        "error": True,
    }
    assert child.logs == [{"event": "first_token", "index": 0}]
    assert (root.warnings, child.warnings) == ((), ())


def test_jaeger_finds_traces_by_name_and_attribute(jaeger: Jaeger) -> None:
    first, second = send_request(jaeger, "grpc"), send_request(jaeger, "http")
    for trace_id in (first, second):
        assert len(jaeger.wait_spans(trace_id, 2)) == 2

    assert jaeger.find("vllm-test") == {first, second}
    assert jaeger.find("vllm-test", "llm_request", {"gen_ai.usage.input_tokens": "12"}) == {first, second}
    assert len(jaeger.find("vllm-test", limit=1)) == 1
    assert jaeger.find("vllm-test", "llm_request", {"gen_ai.usage.input_tokens": "13"}) == set()
    assert jaeger.find("vllm-test", "prefill") == set()
    assert jaeger.find("another") == set()
    with pytest.raises(BackendError, match=r"(?s)jaeger answers 500 to /api/traces\?.*search depth"):
        jaeger.find("vllm-test", limit=0)


def test_jaeger_gives_back_all_traces_of_a_service(jaeger: Jaeger) -> None:
    first, second = send_request(jaeger, "grpc"), send_request(jaeger, "http")
    for trace_id in (first, second):
        jaeger.wait_spans(trace_id, 2)
    spans = jaeger.service_spans("vllm-test")
    for trace_id in (first, second):
        check_request([span for span in spans if span.trace_id == trace_id])
    assert len(spans) == 4
    assert jaeger.service_spans("another") == []


def test_jaeger_does_not_know_a_trace_that_was_never_sent(jaeger: Jaeger) -> None:
    assert jaeger.spans("1" * 32) == []
    assert jaeger.trace("1" * 32) == []
    assert jaeger.services() == []
    with pytest.raises(BackendError, match="jaeger answers 400 to /api/traces/nonsense"):
        jaeger.trace("nonsense")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_collector_hands_spans_on_to_jaeger_and_to_the_file(
    collector: Collector, jaeger: Jaeger, protocol: str
) -> None:
    trace_id = send_request(collector, protocol)
    check_request(jaeger.wait_spans(trace_id, 2))
    assert wait_until(lambda: len(collector.spans()) == 2)
    check_request(collector.spans())
    transport = {"transport": protocol, "receiver": "otlp"}
    assert collector.own_metric("otelcol_receiver_accepted_spans", **transport) == 2


def test_collector_counts_and_times_spans(collector: Collector) -> None:
    for _ in range(3):
        send_request(collector, "grpc")
    labels = {"service_name": "vllm-test", "gen_ai_request_model": "tiny", "status_code": "STATUS_CODE_ERROR"}
    calls = "traces_span_metrics_calls_total"
    assert collector.wait_metric(calls, 3, span_name="llm_request", span_kind="SPAN_KIND_INTERNAL", **labels) == 3
    assert collector.metric(calls, status_code="STATUS_CODE_UNSET", span_name="POST /v1/completions") == 3
    seconds = "traces_span_metrics_duration_seconds"
    assert collector.metric(f"{seconds}_count", **labels) == 3
    assert collector.metric(f"{seconds}_sum", **labels) == pytest.approx(0.06)
    assert collector.metric(f"{seconds}_bucket", le="0.025", **labels) == 3
    assert collector.metric(f"{seconds}_bucket", le="0.01", **labels) == 0


def send_metric(collector: Collector) -> None:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=collector.grpc_endpoint, insecure=True))
    meters = MeterProvider([reader], resource=Resource.create(RESOURCE), shutdown_on_exit=False)
    meters.get_meter("scope").create_counter("demo.requests").add(5, {"kind": "chat"})
    meters.shutdown()


def send_json(collector: Collector, path: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{collector.http_endpoint}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_collector_offers_metrics_to_prometheus(collector: Collector) -> None:
    send_metric(collector)
    assert collector.wait_metric("demo_requests_total", 5, kind="chat") == 5


def test_file_of_the_collector_has_what_arrived_and_no_metrics_of_spans(collector: Collector) -> None:
    """Those are written anew in each interval: the file would grow without traffic."""
    send_request(collector, "grpc")
    assert collector.wait_metric("traces_span_metrics_calls_total", 2) == 2
    send_metric(collector)
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "engine started"}}]}]}]}
    send_json(collector, "/v1/logs", logs)
    assert wait_until(lambda: bool(collector.requests("resourceMetrics") and collector.requests("resourceLogs")))
    (request,) = collector.requests("resourceMetrics")
    (metric,) = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert metric["name"] == "demo.requests"
    (request,) = collector.requests("resourceLogs")
    (record,) = request["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["body"] == {"stringValue": "engine started"}
    assert len(collector.requests("resourceSpans")) == 1


def test_collector_keeps_spans_while_jaeger_is_away(backends: Backends, tmp_path: Path) -> None:
    """It retries; nothing is lost, and whoever sends does not notice."""
    jaeger = Jaeger(backends.jaeger, log_path=tmp_path / "jaeger.log")
    collector = Collector(
        backends.collector,
        traces_endpoint=jaeger.grpc_endpoint,
        file=tmp_path / "otel.jsonl",
        log_path=tmp_path / "otelcol.log",
    )
    with collector:
        trace_id = send_request(collector, "grpc")
        assert wait_until(lambda: "Will retry" in collector.log())
        with jaeger:
            check_request(jaeger.wait_spans(trace_id, 2, timeout=60))


def test_backends_listen_on_the_loopback_only(collector: Collector, jaeger: Jaeger) -> None:
    for backend in (collector, jaeger):
        addresses = listening(backend.pid)
        assert len(addresses) == 5
        assert {address for address, _ in addresses} == {"127.0.0.1"}


def listening(pid: int) -> list[tuple[str, int]]:
    """Address and port of each TCP socket that a process listens on; "::" for one of IPv6."""
    links = (file.readlink().name for file in Path(f"/proc/{pid}/fd").iterdir())
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    found: list[tuple[str, int]] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in inodes:
                packed = bytes.fromhex(address)[::-1]
                found.append((socket.inet_ntoa(packed) if len(packed) == 4 else "::", int(port, 16)))
    return found


@pytest.mark.parametrize("kind", ["jaeger", "collector"])
def test_backend_stops_in_order(backends: Backends, tmp_path: Path, kind: str) -> None:
    with started(backends, kind, tmp_path) as backend:
        assert backend.exit_status is None
        assert backend.ready_seconds > 0
    assert backend.exit_status == 0
    assert backend.stop_seconds > 0
    assert not Path(f"/proc/{backend.pid}").exists()


def started(backends: Backends, kind: str, folder: Path) -> Backend:
    log_path = folder / f"{kind}.log"
    if kind == "jaeger":
        return Jaeger(backends.jaeger, log_path=log_path)
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    return Collector(backends.collector, traces_endpoint=endpoint, file=folder / "otel.jsonl", log_path=log_path)


def test_backend_ends_when_its_parent_is_killed(backends: Backends, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from devtools.jaeger import Jaeger\n"
        "with Jaeger(Path(sys.argv[1]), log_path=Path(sys.argv[2])) as jaeger:\n"
        "    print(jaeger.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(backends.jaeger), str(tmp_path / "jaeger.log")]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}/exe").resolve() == backends.jaeger
        os.kill(parent.pid, signal.SIGKILL)
    assert wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())


def test_port_in_use_is_told_with_the_log(backends: Backends, tmp_path: Path) -> None:
    with started(backends, "jaeger", tmp_path) as running:
        second = started(backends, "jaeger", tmp_path / "second")
        second._environment = running._environment
        with pytest.raises(NotReadyError, match=r"(?s)jaeger ended with status 1.*address already in use"), second:
            pass
        assert second.exit_status == 1


def test_every_file_of_collector_config_is_checked() -> None:
    assert {file.name for file in CONFIG.glob("*.yaml")} == CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_valid_with_its_defaults(backends: Backends, name: str) -> None:
    kind, files = CONFIGS[name]
    validate(getattr(backends, kind), *files)


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("jaeger.yaml", {"JAEGER_HOST": "0.0.0.0", "JAEGER_MAX_TRACES": "10"}),
        ("collector.yaml", {"COLLECTOR_TRACES_ENDPOINT": "tempo:4317", "COLLECTOR_TRACES_INSECURE": "false"}),
        ("collector-file.yaml", {"COLLECTOR_HOST": "0.0.0.0", "COLLECTOR_FILE": "/tmp/otel.jsonl"}),
    ],
)
def test_config_is_valid_with_the_variables_it_names(backends: Backends, name: str, variables: dict[str, str]) -> None:
    kind, files = CONFIGS[name]
    validate(getattr(backends, kind), *files, variables=variables)


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("jaeger.yaml", ("trace_storage: memory", "trace_store: memory"), "trace_store"),
        ("collector.yaml", ("check_interval: 1s", "check_interval: 0s"), "check_interval"),
        ("collector-file.yaml", ("exporters: [file]", "exporters: [filed]"), "filed"),
    ],
)
def test_mistake_in_a_config_is_found(
    backends: Backends, tmp_path: Path, name: str, wrong: tuple[str, str], reason: str
) -> None:
    kind, files = CONFIGS[name]
    broken = tmp_path / name
    broken.write_text(files[-1].read_text().replace(*wrong))
    with pytest.raises(BackendError, match=rf"refuses .*{name}: (?s:.)*{reason}"):
        validate(getattr(backends, kind), *files[:-1], broken)
