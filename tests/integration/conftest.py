"""Real processes of the fake program, under ``opentelemetry-instrument`` or plainly, with what they leave behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.otlp_receiver import OtlpReceiver

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SYMBOLS = """\
- symbol: fake_vllm.engine:Engine.load
  domain: Engine
- symbol: fake_vllm.engine:Engine.scale
  domain: Engine
- symbol: fake_vllm.engine:Engine.step
  domain: Execute
  name: engineStep
  attributes:
  - name: size
    expr: batch | len
  - name: total
    expr: return
    otel_name: engine.total
- symbol: fake_vllm.engine:Engine.generate
  domain: Engine
  attributes:
  - name: count
    expr: count
- symbol: fake_vllm.engine:Engine.start
  domain: Engine
- symbol: fake_vllm.engine:Engine.fail
  domain: Engine
"""


@dataclass
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str
    #: What was logged at level WARNING or above, without the prefix of our messages on the terminal.
    warnings: list[str]
    #: Process ids by the name that the program gave each process.
    pids: dict[str, int]


def warnings(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line and " [INFO] " not in line]
    # said by opentelemetry-instrument where another distro is installed
    lines = [
        line for line in lines if not line.startswith("Configuration of configurator not loaded because ascend is")
    ]
    return [re.sub(r"^WARNING \S+ \S+ \[[\w.]+\] ", "", line) for line in lines]


class Program:
    """Runs the fake program.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.symbols = folder / "symbols.yaml"
        self.symbols.write_text(SYMBOLS)
        # opentelemetry-instrument loads the instrumentor of what is installed
        metadata = folder / "site" / "vllm-0.32.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join((str(SUPPORT), str(folder / "site"), os.environ.get("PYTHONPATH", ""))),
            "PROFILING_SYMBOLS_PATH": str(self.symbols),
            "OTEL_PYTHON_DISTRO": "ascend",
            "OTEL_PYTHON_CONFIGURATOR": "ascend",
            "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1",
        }

    def native(self, **fields: Any) -> None:
        """Ask for native files."""
        self.config.write_text(json.dumps({"enable": 1, "prof_dir": str(self.folder / "prof"), **fields}, indent=4))
        self.environment["SERVICE_PROF_CONFIG_PATH"] = str(self.config)

    def export_to(self, endpoint: str) -> None:
        """Ask for spans, and for spans only."""
        self.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }

    def run(self, *command: str, plain: bool = False, **environment: str) -> Done:
        """Run Python with these arguments, under ``opentelemetry-instrument`` unless ``plain``."""
        pids = self.folder / "pids"
        pids.unlink(missing_ok=True)
        wrapper = [] if plain else [str(Path(sys.executable).with_name("opentelemetry-instrument"))]
        done = subprocess.run(
            [*wrapper, "python", *command],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = pids.read_text().split() if pids.exists() else []
        return Done(
            done.returncode,
            done.stdout,
            done.stderr,
            warnings(done.stderr),
            dict(zip(lines[::2], map(int, lines[1::2]), strict=True)),
        )

    def serve(self, *methods: str, seconds: float = 0, plain: bool = False, **environment: str) -> Done:
        """Run the program with a child for each start method."""
        arguments = ("-m", "fake_vllm.serve", str(self.folder / "pids"), str(seconds), *methods)
        return self.run(*arguments, plain=plain, **environment)

    @property
    def databases(self) -> list[Path]:
        return sorted(self.folder.rglob("ms_service_*.db"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(tmp_path / "traces.jsonl") as receiver:
        yield receiver
