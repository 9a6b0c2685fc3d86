"""Whoever does not want vLLM instrumented is heard by the plugin too, and the user's options of FastAPI win."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from ascend_opentelemetry.distro import AscendDistro
from ascend_opentelemetry.distro._quiet import EXCLUDED_URLS

PROGRAM = """
import json, sys
from ascend_opentelemetry.distro import vllm_plugin
vllm_plugin()
print(json.dumps("ascend_opentelemetry._runtime" in sys.modules))
"""


@pytest.mark.parametrize(
    ("value", "instrumented"),
    [("vllm", False), ("fastapi , vllm", False), ("*", False), ("fastapi", True), ("vllm_x", True), ("", True)],
)
def test_the_plugin_respects_what_is_disabled(value: str, instrumented: bool) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment |= {
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": value,
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert json.loads(done.stdout) is instrumented


class EntryPoint:
    name = "fastapi"

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def load(self) -> Any:
        def instrument(instrumentor: Any, **options: Any) -> None:
            self.options = options

        return type("Instrumentor", (), {"instrument": instrument})


QUIET = {"exclude_spans": ["receive", "send"], "excluded_urls": EXCLUDED_URLS}


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({}, {}, QUIET),
        ({}, {"excluded_urls": "mine"}, QUIET | {"excluded_urls": "mine"}),
        ({"OTEL_PYTHON_EXCLUDED_URLS": ""}, {}, {"exclude_spans": ["receive", "send"]}),
        ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "a,b"}, {}, {"exclude_spans": ["receive", "send"]}),
    ],
)
def test_options_of_fastapi(environment, given, expected) -> None:
    os.environ.update(environment)
    point = EntryPoint()
    AscendDistro().load_instrumentor(point, **given)
    assert point.options == expected


@pytest.mark.parametrize("path", ["/health", "/load", "/metrics", "/metrics/", "/ping", "/version"])
def test_probes(path: str) -> None:
    assert re.search(EXCLUDED_URLS, f"http://10.0.0.1:8000{path}")
    assert re.search(EXCLUDED_URLS, f"https://[::1]:8000{path}")


@pytest.mark.parametrize("path", ["/", "/v1/health", "/healthy", "/v1/models/ping", "/health/deep", "/v1/load"])
def test_other_requests(path: str) -> None:
    assert not re.search(EXCLUDED_URLS, f"http://ping:80{path}")
