"""What the distro sets, and what it leaves as the user set it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ascend_opentelemetry.distro import AscendDistro

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
    assert fastapi.loaded == [{"skip_dep_check": True, "exclude_spans": ["receive", "send"]}]


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
