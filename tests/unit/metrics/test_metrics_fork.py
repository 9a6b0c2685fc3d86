"""A forked child counts from zero, and exports over a connection of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.otlp_receiver import OtlpReceiver

# In a process of its own: the threads of the receiver must not be forked.
PROGRAM = """
import os, sys, threading
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from ascend_opentelemetry.metrics import MetricsSink
from ascend_opentelemetry.version import __version__ as version
from tests.unit.metrics.conftest import LOST, TAKEN, measured

kind, endpoint, owned = sys.argv[1:]
if kind == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
else:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint, timeout=5))
provider = MeterProvider([reader], resource=Resource({"who": "parent"}), shutdown_on_exit=False)
sink = MetricsSink(lambda: (provider, owned == "owned"), lambda on: None)
sink.look()
other = provider.get_meter("other").create_counter("other.taken")

def count(name, number):
    sink.write([measured((TAKEN, number))])
    sink.commit()
    other.add(number)
    for _ in range(20):
        if sink.flush(5):
            return
    sys.exit(f"{name}: nothing was exported")

count("parent", 5)
sink.write([measured((TAKEN, 100))])  # not handed over yet
storage = next(iter(provider._measurement_consumer._reader_storages.values()))
meter_lock = provider.get_meter("ascend_opentelemetry", version)._instrument_registration_lock
held, go = threading.Event(), threading.Event()

def hold():
    with storage._lock, provider._measurement_consumer._lock, reader._export_lock, provider._meter_lock, meter_lock:
        held.set()
        go.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if not pid:
    try:
        provider._sdk_config.resource = Resource({"who": "child"})
        sink.after_fork()
        sink.write([measured((LOST, 1))])  # an instrument that the parent had not made
        count("child", 1)
        os._exit(0)
    finally:
        os._exit(1)
go.set()
thread.join()
assert os.waitpid(pid, 0)[1] == 0
count("parent", 2)
provider.shutdown()
"""


def run(receiver: OtlpReceiver, kind: str, owned: str) -> dict[str, list[dict[str, int]]]:
    """Exported sums by name, for parent and child, in order."""
    endpoint = receiver.grpc_endpoint if kind == "grpc" else f"{receiver.http_endpoint}/v1/metrics"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(endpoint), owned],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, list[dict[str, int]]] = {"parent": [], "child": []}
    for line in receiver.path.with_suffix(".metrics.jsonl").read_text().splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            who = resource["resource"]["attributes"][0]["value"]["stringValue"]
            scopes = [scope for scope in resource["scopeMetrics"] if not scope["scope"]["name"].startswith("opentel")]
            metrics = [metric for scope in scopes for metric in scope["metrics"]]
            found[who].append({one["name"]: int(one["sum"]["dataPoints"][0]["asInt"]) for one in metrics})
    return found


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_all_counts_of_our_own_provider_start_from_zero(kind: str, tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "x.jsonl") as receiver:
        found = run(receiver, kind, "owned")
    assert found["child"] == [{"test.lost": 1, "test.taken": 1, "other.taken": 1}]
    assert found["parent"][0] == {"test.taken": 5, "other.taken": 5}
    assert found["parent"][-1] == {"test.taken": 107, "other.taken": 7}


def test_in_the_provider_of_others_our_counts_do(tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "x.jsonl") as receiver:
        found = run(receiver, "grpc", "foreign")
    assert found["child"] == [{"other.taken": 6, "test.lost": 1, "test.taken": 1}]
    assert found["parent"][-1] == {"test.taken": 107, "other.taken": 7}
