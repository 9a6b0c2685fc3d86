"""``ms_service_profiler`` as an OTel exporter beside the rows of the hooks: each event once, one file a process."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.contract import check, read_rows

OURS = {"load": 1, "scale": 3, "engineStep": 3, "generate": 1, "start": 1, "fail": 1}
SPANS = OURS | {"program": 3}
STOCK = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}
BOTH = {"OTEL_TRACES_EXPORTER": "otlp,ms_service_profiler"}

IN_CODE = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from ascend_opentelemetry import VLLMInstrumentor
from ascend_opentelemetry.native import MsServiceProfilerSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(MsServiceProfilerSpanExporter()))
trace.set_tracer_provider(provider)
VLLMInstrumentor().instrument()

from fake_vllm.engine import Engine

Engine.load("code").step([1, 2])
with trace.get_tracer("shop").start_as_current_span("sale") as span:
    span.set_attributes({"name": "pen", "status": "sold", "price=": 1.5, "parts": ["cap", "ink"]})
"""


def counts(path) -> Counter[tuple[str, str]]:
    return Counter((row.cat, row.name) for row in read_rows(path))


ROWS = Counter(
    {
        ("Engine", "load"): 1,
        ("Engine", "scale"): 3,
        ("Execute", "engineStep"): 3,
        ("Engine", "generate"): 1,
        ("Engine", "start"): 1,
        ("Engine", "fail"): 1,
        ("fake_vllm", "program"): 3,
    }
)


@pytest.mark.parametrize("distro", [{}, STOCK], ids=["ours", "stock"])
def test_each_process_writes_each_event_once(program, receiver, distro) -> None:
    program.native()
    program.export_to(receiver.grpc_endpoint)
    done = program.serve("spawn", "fork", **BOTH, **distro)
    assert done.code == 0, done.err
    assert [line for line in done.warnings if not line.startswith("Configuration of ")] == []
    assert Counter(span.name for span in receiver.spans()) == {name: count * 3 for name, count in SPANS.items()}
    # the stock distro instruments the resource tracker too, whose file stays without rows
    files = {int(path.stem.rpartition("-")[2]): path for path in program.databases if read_rows(path)}
    assert sorted(files) == sorted(done.pids.values())
    for path in files.values():
        assert counts(path) == ROWS
    assert check(program.folder / "prof") == []


def test_spans_of_the_program_come_without_any_other_exporter(program) -> None:
    program.native()
    done = program.serve(OTEL_TRACES_EXPORTER="ms_service_profiler", OTEL_METRICS_EXPORTER="none")
    assert (done.code, done.warnings) == (0, [])
    [path] = program.databases
    assert counts(path) == ROWS
    rows = read_rows(path)
    parents = [row for row in rows if row.name == "engineStep"]
    for row in (row for row in rows if row.name == "program"):
        assert any(parent.start <= row.start and row.end <= parent.end for parent in parents)


def test_in_code(program) -> None:
    program.native()
    done = program.run("-c", IN_CODE, plain=True)
    assert (done.code, done.warnings) == (
        0,
        [
            f'attribute "{name}" is called "{name}_" in native files: msserviceprofiler keeps that name for itself'
            for name in ("name", "status", "price=")
        ],
    )
    [path] = program.databases
    assert counts(path) == Counter(
        {
            ("Engine", "load"): 1,
            ("Engine", "scale"): 1,
            ("Execute", "engineStep"): 1,
            ("fake_vllm", "program"): 1,
            ("shop", "sale"): 1,
        }
    )
    [sale] = [row for row in read_rows(path) if row.name == "sale"]
    assert sale.args == {"type": 2, "name_": "pen", "status_": "sold", "price=_": 1.5, "parts": ["cap", "ink"]}
    assert check(program.folder / "prof") == []


def test_without_a_config_path_only_the_other_exporter_gets_spans(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    done = program.serve(**BOTH)
    assert (done.code, done.warnings) == (0, [])
    assert Counter(span.name for span in receiver.spans()) == SPANS
    assert program.databases == []
