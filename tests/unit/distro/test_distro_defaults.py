"""What the distro sets, and what it leaves as the user set it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ascend_opentelemetry.distro import AscendDistro
from ascend_opentelemetry.distro._quiet import EXCLUDED_URLS
from ascend_opentelemetry.distro._vllm_arguments import traces_endpoint

EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
OTLP = dict.fromkeys(EXPORTERS, "otlp")
NONE = dict.fromkeys(EXPORTERS, "none")
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
NAME = {"OTEL_SERVICE_NAME": "vllm"}
CONFIG = {"SERVICE_PROF_CONFIG_PATH": "config.json"}
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, OTLP | GRPC | NAME),
        (CONFIG, NONE | GRPC | NAME),
        (CONFIG | ENDPOINT, OTLP | GRPC | NAME),
        *(
            (CONFIG | {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": "x"}, OTLP | GRPC | NAME)
            for signal in ("TRACES", "METRICS", "LOGS")
        ),
        ({"SERVICE_PROF_CONFIG_PATH": ""}, OTLP | GRPC | NAME),
        (CONFIG | {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, NONE | GRPC | NAME),
        (
            CONFIG | {"OTEL_TRACES_EXPORTER": "console"},
            NONE | GRPC | NAME | {"OTEL_TRACES_EXPORTER": "console"},
        ),
        ({"OTEL_METRICS_EXPORTER": "none"}, OTLP | GRPC | NAME | {"OTEL_METRICS_EXPORTER": "none"}),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            OTLP | NAME | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        ),
        ({"OTEL_SERVICE_NAME": "mine"}, OTLP | GRPC | {"OTEL_SERVICE_NAME": "mine"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=mine"}, OTLP | GRPC),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=x"}, OTLP | GRPC | NAME),
    ],
)
def test_defaults(given, expected) -> None:
    os.environ.update(given)
    AscendDistro().configure()
    found = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    assert found == {name: value for name, value in given.items() if name.startswith("OTEL_")} | expected


OPTION = "http://collector:4317"
#: What the option alone gives: spans as vLLM sends them, and nothing else.
FOLLOWED = {
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": OPTION,
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, FOLLOWED),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ""}, FOLLOWED),
        (CONFIG, FOLLOWED),  # native files as well
        (ENDPOINT, OTLP),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other:4317"}, OTLP),
        ({"OTEL_TRACES_EXPORTER": "console"}, OTLP | {"OTEL_TRACES_EXPORTER": "console"}),
        ({"OTEL_TRACES_EXPORTER": "none"}, OTLP | {"OTEL_TRACES_EXPORTER": "none"}),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, FOLLOWED | {"OTEL_TRACES_EXPORTER": "console,otlp"}),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            {name: value for name, value in FOLLOWED.items() if not name.endswith("INSECURE")}
            | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, FOLLOWED),  # vLLM does not read it
        ({"OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}, FOLLOWED | {"OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}),
        ({"OTEL_METRICS_EXPORTER": "console"}, FOLLOWED | {"OTEL_METRICS_EXPORTER": "console"}),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs"}, FOLLOWED | {"OTEL_LOGS_EXPORTER": "otlp"}),
    ],
)
def test_spans_go_where_only_vllm_is_told_to_send_them(given, expected, monkeypatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python3", "/usr/bin/vllm", "serve", "m", "--otlp-traces-endpoint", OPTION])
    os.environ.update(given)
    AscendDistro().configure()
    found = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    assert found == GRPC | NAME | {name: given[name] for name in given if name.startswith("OTEL_")} | expected


SERVE = ["python3", "/opt/venv/bin/vllm", "serve", "model"]


@pytest.mark.parametrize(
    ("argv", "endpoint"),
    [
        (SERVE, None),
        ([*SERVE, "--otlp-traces-endpoint", "a:1", "--port", "1"], "a:1"),
        ([*SERVE, "--otlp-traces-endpoint=http://a:1/x=y"], "http://a:1/x=y"),
        ([*SERVE, "--otlp_traces_endpoint", "a:1"], "a:1"),
        ([*SERVE, "--otlp_traces-endpoint=a:1"], "a:1"),
        ([*SERVE, "--otlp-traces-endpoint=a:1", "--otlp-traces-endpoint", "b:2"], "b:2"),
        ([*SERVE, "--otlp-traces-endpoint=a:1", "--otlp-traces-endpoint", "None"], None),
        ([*SERVE, "--otlp-traces-endpoint="], None),
        ([*SERVE, "--otlp-traces-endpoint"], None),
        ([*SERVE, "--otlp-traces-endpoints=a:1"], None),
        (["python3", "-X", "dev", "vllm", "serve", "--otlp-traces-endpoint=a:1"], "a:1"),
        (["python3", "-m", "vllm.entrypoints.cli.main", "serve", "--otlp-traces-endpoint=a:1"], "a:1"),
        (["python3", "-m", "vllm.entrypoints.openai.api_server", "--otlp-traces-endpoint=a:1"], "a:1"),
        (["python3", "-m", "vllm_other.entrypoints", "--otlp-traces-endpoint=a:1"], None),
        (["python3", "/opt/venv/bin/other", "--otlp-traces-endpoint=a:1"], None),
        (["python3", "-c", "vllm", "--otlp-traces-endpoint=a:1"], None),
        (["python3"], None),
        ([], None),
    ],
)
def test_the_option_is_read_from_the_command_line_of_vllm(argv: list[str], endpoint: str | None) -> None:
    assert traces_endpoint(argv) == endpoint


def test_a_helper_gets_no_defaults(monkeypatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python3", "-m", "pip"])
    AscendDistro().configure()
    assert [name for name in os.environ if name.startswith("OTEL_")] == []


class EntryPoint:
    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded: list[dict[str, Any]] = []

    def load(self) -> Any:
        entry_point = self

        class Instrumentor:
            def instrument(self, **kwargs: Any) -> None:
                entry_point.loaded.append(kwargs)

        return Instrumentor


def test_instrumentors_are_loaded() -> None:
    requests, fastapi = EntryPoint("requests"), EntryPoint("fastapi")
    AscendDistro().load_instrumentor(requests, skip_dep_check=True)
    AscendDistro().load_instrumentor(fastapi, skip_dep_check=True)
    assert requests.loaded == [{"skip_dep_check": True}]
    quiet = {"exclude_spans": ["receive", "send"], "excluded_urls": EXCLUDED_URLS}
    assert fastapi.loaded == [{"skip_dep_check": True, **quiet}]


def test_a_helper_loads_no_instrumentor(monkeypatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python3", "-m", "pip"])
    entry_point = EntryPoint("requests")
    AscendDistro().load_instrumentor(entry_point)
    assert entry_point.loaded == []


def test_a_helper_has_a_configurator_that_does_nothing(monkeypatch) -> None:
    from ascend_opentelemetry import distro

    monkeypatch.setattr("sys.orig_argv", ["python3", "-m", "pip"])
    configurator = distro.AscendConfigurator()
    assert type(configurator).__name__ == "NoConfigurator"
    assert configurator.configure(auto_instrumentation_version="1") is None
    monkeypatch.undo()
    assert distro.AscendConfigurator.__name__ == "AscendConfigurator"
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        distro.missing  # noqa: B018
