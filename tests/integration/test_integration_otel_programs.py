"""What a program does in code, in real processes: flush, shutdown, instrument and uninstrument."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from devtools.server import DEFAULT_ENV
from tests.support.contract import read_rows

NAMES = {"engineStep": 1, "program": 1, "scale": 1}
#: Sends nothing by itself: what arrives was flushed.
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
BEGIN = """
import os
from fake_vllm.engine import Engine
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
provider = trace.get_tracer_provider()
"""
#: The program's own SDK, which exports to the same endpoint.
OWN = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from ascend_opentelemetry import VLLMInstrumentor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
VLLMInstrumentor().instrument()
"""


@pytest.mark.parametrize("own", [False, True], ids=["distro", "the program's SDK"])
@pytest.mark.parametrize("end", ["force_flush", "shutdown"])
def test_a_program_that_flushes_and_dies_has_sent_its_records(program, receiver, end, own) -> None:
    program.export_to(receiver.grpc_endpoint)
    script = f"{OWN if own else ''}{BEGIN}\nEngine('x').step([4])\nprovider.{end}()\nos._exit(3)"
    done = program.run("-c", script, plain=own, **NEVER)
    assert (done.code, done.warnings) == (3, [])
    assert Counter(span.name for span in receiver.spans()) == NAMES


def test_a_program_that_suppresses_instrumentation_gives_rows_only(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    program.native()
    script = (
        f"{BEGIN}\nwith suppress_instrumentation(): Engine('x').step([4])\n"
        "with trace.get_tracer('x').start_as_current_span('span'), suppress_instrumentation(): Engine.scale(1)"
    )
    done = program.run("-c", script)
    assert (done.code, done.warnings) == (0, [])
    # "program" and "span" are of the SDK, which suppresses nothing by itself
    assert Counter(span.name for span in receiver.spans()) == {"program": 1, "span": 1}
    assert Counter(row.name for row in read_rows(program.folder)) == {"engineStep": 1, "scale": 2}


def test_switched_off_by_its_name_nothing_of_ours_is_recorded_in_any_process(program, receiver) -> None:
    program.export_to(receiver.grpc_endpoint)
    program.native()
    done = program.serve("spawn", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="other,vllm")
    assert (done.code, done.warnings) == (0, [])
    assert Counter(span.name for span in receiver.spans()) == {"program": 6}
    assert program.databases == []


#: An ``llm_request`` of a client with this header: its trace and parent.
REQUEST = f"""
from ascend_opentelemetry.vllm._scope import request_ids
traceparent, b3 = "00-{0xABC123:032x}-{0xDEF:016x}-01", "{0xB3:032x}-{0xB4:016x}-1"
ids = request_ids({{"traceparent": traceparent, "b3": b3, "baggage": "a=b", "x-mine": "1"}}, {{}})
print(ids[0] if ids[2] else "root", ids[2])
"""
PROPAGATOR = """
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

class Propagator(TextMapPropagator):
    fields = {"x-mine"}
    def extract(self, carrier, context=None, getter=None):
        parent = SpanContext(int(carrier["x-mine"]), 2, True, TraceFlags(1))
        return set_span_in_context(NonRecordingSpan(parent), context)
    def inject(self, carrier, context=None, setter=None): ...
"""


@pytest.mark.parametrize(
    ("propagators", "expected"),
    [
        (None, f"{0xABC123} {0xDEF}\n"),
        ("tracecontext", f"{0xABC123} {0xDEF}\n"),
        ("mine", "1 2\n"),
        ("b3", f"{0xB3} {0xB4}\n"),
        ("baggage", "root 0\n"),
        ("none", "root 0\n"),
    ],
)
def test_a_request_takes_its_parent_from_the_headers_of_the_propagators(
    program, receiver, propagators, expected
) -> None:
    if propagators == "b3":
        pytest.importorskip("opentelemetry.propagators.b3")
    site = program.folder / "site"
    (site / "mine.py").write_text(PROPAGATOR)
    (site / "mine-1.dist-info").mkdir()
    (site / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (site / "mine-1.dist-info" / "entry_points.txt").write_text("[opentelemetry_propagator]\nmine = mine:Propagator\n")
    program.export_to(receiver.grpc_endpoint)
    variables = {} if propagators is None else {"OTEL_PROPAGATORS": propagators}
    done = program.run("-c", REQUEST, **variables)
    assert (done.code, done.out, done.warnings) == (0, expected, [])


AGAIN = """
from ascend_opentelemetry import VLLMInstrumentor
before = vars(Engine)["step"]
for _ in range(2):
    VLLMInstrumentor().uninstrument()
    plain = vars(Engine)["step"]
    assert plain is not before
    Engine('x').step([4])
    VLLMInstrumentor().instrument(symbols=os.environ["PROFILING_SYMBOLS_PATH"])
    assert vars(Engine)["step"] is not plain
    Engine('x').step([4])
    assert provider.force_flush() is True
VLLMInstrumentor().uninstrument()
assert vars(Engine)["step"] is plain
"""


@pytest.mark.parametrize("own", [False, True], ids=["distro", "the program's SDK"])
def test_instrumented_again_hooks_export_as_before(program, receiver, own) -> None:
    program.export_to(receiver.grpc_endpoint)
    done = program.run("-c", f"{OWN if own else ''}{BEGIN}{AGAIN}", plain=own, **NEVER)
    assert (done.code, done.warnings) == (0, []), done.err
    assert Counter(span.name for span in receiver.spans()) == {"engineStep": 2, "program": 4, "scale": 2}


RESTORED = """
import importlib
from ascend_opentelemetry import VLLMInstrumentor, vllm

def functions():
    found = {}
    for hooked in vllm.HOOKED:
        try:
            owner = importlib.import_module(hooked.module)
        except ImportError:
            continue
        *path, name = hooked.qualname.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        if hasattr(owner, name):
            found[hooked.module, hooked.qualname] = vars(owner).get(name)
    return found

before = functions()
for _ in range(2):
    VLLMInstrumentor().instrument()
    VLLMInstrumentor().instrument()
    during = functions()
    same = [key for key in before if during[key] is before[key]]
    assert same == [], same
    VLLMInstrumentor().uninstrument()
    VLLMInstrumentor().uninstrument()
    assert functions() == before
print(len(before))
"""


@pytest.mark.vllm
def test_every_function_of_vllm_is_put_back(vllm_python: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | DEFAULT_ENV
    done = subprocess.run(
        [str(vllm_python), "-c", RESTORED],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 25
