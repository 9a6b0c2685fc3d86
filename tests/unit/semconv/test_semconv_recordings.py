"""What ``ascend-otel npu import`` sends of real recordings, against the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_opentelemetry.npu.recordings import _semconv
from ascend_opentelemetry.semconv.metrics import Metric
from devtools.otlp_receiver import OtlpReceiver
from devtools.semconv import ROOT, load
from tests.support.live_check import LiveCheck

RECORDINGS = ROOT.parents[1] / "shared" / "data" / "npu"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not here")
def test_what_recordings_become_is_as_the_registry_declares_it(tmp_path: Path) -> None:
    with OtlpReceiver(tmp_path / "received.jsonl") as receiver:
        env = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        command = [sys.executable, "-m", "ascend_opentelemetry.cli", "npu", "import", str(RECORDINGS)]
        subprocess.run(command, env=env, check=True, timeout=120, stdout=subprocess.DEVNULL)
    check = LiveCheck(load())
    for signal in ("metrics", "logs"):
        check.add_file(receiver.file(signal))
    assert check.findings == {}
    metrics = [value.name for value in vars(_semconv).values() if isinstance(value, Metric)]
    assert {f"metric {name}" for name in metrics} | {"event npu.operator.window", "event npu.profiling.session"} == set(
        check.seen
    )
