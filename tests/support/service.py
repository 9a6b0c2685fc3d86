"""One run of the real server: what it was asked, what it exported, what independent observers saw."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools.client import Answer, Client
from devtools.otlp_json import Span
from devtools.otlp_receiver import OtlpReceiver
from devtools.server import VllmServer

WITNESS = Path(__file__).with_name("witness")

#: Ours, also where the stock distro is installed beside it.
OURS = {"OTEL_PYTHON_DISTRO": "ascend", "OTEL_PYTHON_CONFIGURATOR": "ascend"}


@dataclass
class Service:
    """A running server with its receiver, witness and profile folder."""

    folder: Path
    server: VllmServer
    client: Client
    receiver: OtlpReceiver
    answers: dict[str, Answer] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The native configuration file."""
        return self.folder / "config.json"

    @property
    def profile(self) -> Path:
        """``prof_dir``."""
        return self.folder / "prof"

    def spans(self) -> list[Span]:
        """Every span received."""
        return self.receiver.spans()

    def witness(self, kind: str) -> list[dict[str, Any]]:
        """What the independent wrapper logged, in order per process."""
        lines = [line for path in sorted(self.folder.glob("witness/*.jsonl")) for line in path.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


@contextmanager
def serve(
    folder: Path,
    python: Path,
    model: Path,
    *,
    config: str | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    instrument: bool = True,
) -> Iterator[Service]:
    """Start ``opentelemetry-instrument vllm serve`` with OTLP to a receiver and native files in ``folder``.

    Args:
        folder: takes everything.
        python: of the vLLM environment.
        model: folder of the model.
        config: text of the native configuration; None: profiling on.
        args: further arguments of ``vllm serve``.
        env: further environment variables.
        instrument: start it by ``opentelemetry-instrument``; else only the vLLM plugin gets in.
    """
    (folder / "witness").mkdir(parents=True)
    path = folder / "config.json"
    path.write_text(json.dumps({"enable": 1, "prof_dir": str(folder / "prof")}) if config is None else config)
    with OtlpReceiver(folder / "traces.jsonl") as receiver:
        variables = {
            **OURS,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint or "",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "SERVICE_PROF_CONFIG_PATH": str(path),
            "PYTHONPATH": str(WITNESS),
            "WITNESS_DIR": str(folder / "witness"),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            **(env or {}),
        }
        server = VllmServer(
            python, model, env=variables, args=args, instrument=instrument, log_path=folder / "server.log"
        )
        with server:
            yield Service(folder, server, Client(server.url), receiver)
