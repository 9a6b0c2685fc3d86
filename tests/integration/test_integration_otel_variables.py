"""What the standard variables mean for records: a row a variable, by what arrives at the receiver.

Whatever they say, native files are complete.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from devtools.otlp_json import Span
from devtools.otlp_receiver import OtlpReceiver
from tests.integration.conftest import Done, Program
from tests.support.contract import read_rows

#: What variables name by entry points.
MINE = '''
import itertools
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace import _TracerConfig
from opentelemetry.sdk.trace.id_generator import IdGenerator

class Ids(IdGenerator):
    """Trace ids of which each hundredth of all numbers has one, a little above its start; span ids count."""
    def __init__(self):
        self.traces, self.spans = itertools.count(), itertools.count(1)
    def generate_trace_id(self):
        return 7 << 64 | next(self.traces) * 2**64 // 100 + 2**40
    def generate_span_id(self):
        return next(self.spans)

class Detector(ResourceDetector):
    def detect(self):
        return Resource({"mine.detected": "yes"})

def configurator(scope):
    return _TracerConfig(is_enabled=scope.name != "ascend_opentelemetry.Execute")
'''
ENTRY_POINTS = """
[opentelemetry_id_generator]
mine = mine:Ids
[opentelemetry_resource_detector]
mine = mine:Detector
[_opentelemetry_tracer_configurator]
mine = mine:configurator
"""
SCRIPT = "from fake_vllm.engine import Engine; Engine('x').step([4])"
NAMES = {"engineStep": 1, "program": 1, "scale": 1}
ROWS = {"engineStep": 1, "scale": 1}


class Seen(NamedTuple):
    """What one run left behind."""

    done: Done
    receiver: OtlpReceiver
    spans: Sequence[Span]

    def named(self, name: str) -> Mapping[str, Any]:
        """The one span with this name, as OTLP/JSON."""
        (span,) = [span for request in self.requests for span in request if span["name"] == name]
        return span

    @property
    def requests(self) -> list[list[Any]]:
        """The spans of each request."""
        return [
            [
                span
                for resource in request["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
            for request in self.receiver.requests("traces")
        ]


class Row(NamedTuple):
    """A variable, its value and what it means; ``{grpc}`` and ``{http}`` are endpoints of the receiver."""

    variables: Mapping[str, str]
    sees: Callable[[Seen], Any]
    expected: Any
    script: str = SCRIPT
    warnings: Sequence[str] = ()
    rows: Mapping[str, int] = ROWS


def names(seen: Seen) -> dict[str, int]:
    return dict(Counter(span.name for span in seen.spans))


def console(seen: Seen) -> tuple[dict[str, int], dict[str, int]]:
    """Names at the receiver, and on the terminal."""
    return names(seen), dict(Counter(re.findall(r'^    "name": "(\w+)"', seen.done.out, re.MULTILINE)))


def encodings(seen: Seen) -> tuple[dict[str, int], dict[str, int]]:
    """Names, and HTTP requests by their encoding."""
    return names(seen), dict(seen.receiver.encodings)


def sizes(seen: Seen) -> list[int]:
    return [len(request) for request in seen.requests]


def resource(*keys: str) -> Callable[[Seen], Any]:
    return lambda seen: {tuple([span.resource.get(key) for key in keys]) for span in seen.spans}


ROOTS = "import mine\nfrom fake_vllm.engine import Engine\nfor _ in range(100): Engine.scale(1)"
REMOTE = """
from opentelemetry import context
from opentelemetry.propagate import extract
context.attach(extract({{"traceparent": "00-{:032x}-{:016x}-{}"}}))
from fake_vllm.engine import Engine
Engine('x').step([4])
"""
UNSAMPLED, SAMPLED = REMOTE.format(0xABC, 0xDEF, "00"), REMOTE.format(0xABC, 0xDEF, "01")
WAIT = f"import time\n{SCRIPT}; time.sleep(0.8); Engine('x').step([4])"
TWICE = {"engineStep": 2, "scale": 2}
HUNDRED = {"scale": 100}
MISSING = "Requested component 'mine' not found in entry point"
ERROR = "the OpenTelemetry SDK cannot do as its variables say: "


def root(*parts: str) -> Callable[[Seen], Any]:
    """For each span with one of these names: its trace, parent and flags."""
    return lambda seen: [
        (span.name, int(span.trace_id, 16), span.parent_id) for span in seen.spans if span.name in parts
    ]


TABLE = {
    # exporters
    "exporter otlp": Row({"OTEL_TRACES_EXPORTER": "otlp"}, console, (NAMES, {})),
    "exporter none": Row({"OTEL_TRACES_EXPORTER": "none"}, console, ({}, {})),
    "exporter console": Row({"OTEL_TRACES_EXPORTER": "console"}, console, ({}, NAMES)),
    "exporters": Row({"OTEL_TRACES_EXPORTER": "otlp,console"}, console, (NAMES, NAMES)),
    "exporter unknown": Row(
        {"OTEL_TRACES_EXPORTER": "mine"}, console, ({}, {}),
        warnings=[f"{ERROR}{MISSING} 'opentelemetry_traces_exporter'"],
    ),
    "disabled": Row({"OTEL_SDK_DISABLED": "true"}, console, ({}, {})),
    # endpoint, protocol, compression
    "protocol": Row({}, encodings, (NAMES, {})),
    "protocol http": Row(
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "{http}"},
        encodings, (NAMES, {"identity": 1}),
    ),
    "protocol of traces": Row(
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{http}",
        },
        encodings, (NAMES, {"identity": 1}),
    ),
    "protocol unknown": Row(
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, encodings, ({}, {}),
        warnings=[f"{ERROR}Unsupported OTLP protocol 'http/json' is configured"],
    ),
    "endpoint of traces": Row(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{grpc}"},
        names, NAMES,
    ),
    "endpoint of traces is a whole URL": Row(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{http}/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        },
        names, NAMES,
    ),
    "compression": Row(
        {
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{http}",
        },
        encodings, (NAMES, {"gzip": 1}),
    ),
    "compression of traces": Row(
        {
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{http}",
        },
        encodings, (NAMES, {"deflate": 1}),
    ),
    "compression by gRPC": Row({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, names, NAMES),
    # sampling and ids
    "always_on": Row({"OTEL_TRACES_SAMPLER": "always_on"}, names, NAMES),
    "always_off": Row({"OTEL_TRACES_SAMPLER": "always_off"}, names, {}),
    "parentbased_always_on": Row({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, names, NAMES),
    "parentbased_always_off": Row({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, names, {}),
    "traceidratio": Row(
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1", "OTEL_PYTHON_ID_GENERATOR": "mine"},
        names, {"scale": 10}, ROOTS, rows=HUNDRED,
    ),
    "parentbased_traceidratio": Row(
        {
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "OTEL_PYTHON_ID_GENERATOR": "mine",
        },
        names, {"scale": 25}, ROOTS, rows=HUNDRED,
    ),
    "sampler unknown": Row(
        {"OTEL_TRACES_SAMPLER": "mine"}, names, NAMES,
        warnings=[
            f"Using default sampler. Failed to initialize sampler, mine: {MISSING} 'opentelemetry_traces_sampler'",
            "Couldn't recognize sampler mine.",
        ],
    ),
    "remote parent": Row(
        {}, root("engineStep"), [("engineStep", 0xABC, f"{0xDEF:016x}")], SAMPLED
    ),
    "remote parent that is not sampled": Row({}, names, {}, UNSAMPLED),
    "remote parent is the last word": Row({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, names, NAMES, SAMPLED),
    "id generator": Row({"OTEL_PYTHON_ID_GENERATOR": "mine"}, root("engineStep"), [("engineStep", (7 << 64) + 2**40, "")]),
    "id generator unknown": Row(
        {"OTEL_PYTHON_ID_GENERATOR": "no"}, names, {},
        warnings=[f"{ERROR}Requested component 'no' not found in entry point 'opentelemetry_id_generator'"],
    ),
    "tracer configurator": Row(
        {"OTEL_PYTHON_TRACER_CONFIGURATOR": "mine"},
        lambda seen: (names(seen), seen.named("program").get("parentSpanId", "")), ({"program": 1, "scale": 1}, ""),
    ),
    "disabled instrumentations": Row(
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "other,vllm"}, names, {"program": 1}, rows={}
    ),
    # batches
    "batch size": Row({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}, sizes, [2, 1]),
    "queue size": Row(
        {"OTEL_BSP_MAX_QUEUE_SIZE": "2"}, sizes, [2, 1],
        warnings=[
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=512 is more than OTEL_BSP_MAX_QUEUE_SIZE=2; batches of 2 spans are sent."
        ],
    ),
    "delay": Row({"OTEL_BSP_SCHEDULE_DELAY": "100"}, sizes, [3, 3], WAIT, rows=TWICE),
    "long delay": Row({"OTEL_BSP_SCHEDULE_DELAY": "60000"}, sizes, [6], WAIT, rows=TWICE),
    "delay that is none": Row(
        {"OTEL_BSP_SCHEDULE_DELAY": "-1"}, sizes, [3],
        warnings=["OTEL_BSP_SCHEDULE_DELAY='-1' is not a whole number above 0; 1000 is used."],
    ),
    # resource: of records and of SDK spans
    "resource": Row({}, resource("service.name", "telemetry.distro.name"), {("vllm", "ascend-opentelemetry")}),
    "resource attributes": Row(
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine,team=a%20b"}, resource("service.name", "team"),
        {("mine", "a b")},
    ),
    "service name": Row(
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine", "OTEL_SERVICE_NAME": "ours"}, resource("service.name"),
        {("ours",)},
    ),
    "resource detectors": Row(
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "mine"}, resource("mine.detected", "service.name"), {("yes", "vllm")}
    ),
}  # fmt: skip


@pytest.fixture
def program(program: Program) -> Program:
    site = program.folder / "site"
    (site / "mine.py").write_text(MINE)
    (site / "mine-1.dist-info").mkdir()
    (site / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (site / "mine-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    program.native()
    return program


def run(program: Program, receiver: OtlpReceiver, script: str, **variables: str) -> Seen:
    program.export_to(receiver.grpc_endpoint or "")
    places = {"{grpc}": receiver.grpc_endpoint or "", "{http}": receiver.http_endpoint}
    for name, value in variables.items():
        for place, endpoint in places.items():
            value = value.replace(place, endpoint)
        program.environment[name] = value
    done = program.run("-c", script)
    assert done.code == 0, done.err
    return Seen(done, receiver, receiver.spans())


@pytest.mark.parametrize("row", TABLE)
def test_a_variable_means_what_it_means(row, program, receiver) -> None:
    variables, sees, expected, script, warnings, rows = TABLE[row]
    seen = run(program, receiver, script, **variables)
    assert sees(seen) == expected
    assert [re.sub(r"^ERROR \S+ \S+ \[[\w.]+\] ", "", line) for line in seen.done.warnings] == list(warnings)
    assert dict(Counter(row.name for file in program.databases for row in read_rows(file))) == rows
