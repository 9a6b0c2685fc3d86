"""``OTEL_CONFIG_FILE``: exporters, sampler and our own settings from one file, in every process of a service."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.contract import check, read_rows

pytest.importorskip("opentelemetry.configuration", reason="opentelemetry-configuration is not installed")

OUTPUT = "parent [0, 10] 30\nparent parent failed\n"
ROWS = {"load": 1, "scale": 3, "engineStep": 3, "generate": 1, "start": 1, "fail": 1}
SPANS = ROWS | {"program": 3}
STOCK = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}

EXPORTED = """\
file_format: "1.0"
resource:
  attributes:
  - {{name: service.name, value: shop}}
tracer_provider:
  processors:
  - batch: {{exporter: {{{exporter}}}}}
"""
SETTINGS = """\
    symbols: {symbols}
    step_sample_ratio: 1
    native_config: {config}
"""


@pytest.fixture
def configured(program, receiver) -> Any:
    """Writes the file, and takes our variables out of the environment."""
    program.native()
    for name in ("PROFILING_SYMBOLS_PATH", "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO", "SERVICE_PROF_CONFIG_PATH"):
        program.environment.pop(name)
    path = program.folder / "otel.yaml"
    program.environment["OTEL_CONFIG_FILE"] = str(path)
    settings = SETTINGS.format(symbols=program.symbols, config=program.config)

    def write(rest: str, exporter: str | None = None) -> Path:
        exporter = exporter or f"otlp_http: {{endpoint: '{receiver.http_endpoint}/v1/traces'}}"
        path.write_text(EXPORTED.format(exporter=exporter) + rest.replace("SETTINGS\n", settings))
        return path

    return write


def counts(path: Path) -> Counter[str]:
    return Counter(row.name for row in read_rows(path))


@pytest.mark.parametrize("protocol", ["otlp_http", "otlp_grpc"])
@pytest.mark.parametrize(
    "section", ["distribution:\n  ascend:\n", "instrumentation/development:\n  python:\n    vllm:\n"]
)
def test_every_process_does_as_the_file_says(program, receiver, configured, protocol, section) -> None:
    endpoint = {"otlp_http": f"{receiver.http_endpoint}/v1/traces", "otlp_grpc": receiver.grpc_endpoint}[protocol]
    indent = "  " if "python" in section else ""
    settings = SETTINGS.format(symbols=program.symbols, config=program.config).replace("    ", "    " + indent)
    configured(section + settings, f"{protocol}: {{endpoint: '{endpoint}'}}")
    done = program.serve("spawn", "fork")
    assert (done.code, done.warnings) == (0, []), done.err
    spans = receiver.spans()
    assert Counter(span.name for span in spans) == {name: count * 3 for name, count in SPANS.items()}
    assert {span.resource["service.name"] for span in spans} == {"shop"}
    assert {span.resource["telemetry.distro.name"] for span in spans} == {"ascend-opentelemetry"}
    assert len({span.span_id for span in spans}) == len(spans)
    files = {int(path.stem.rpartition("-")[2]): path for path in program.databases}
    assert sorted(files) == sorted(done.pids.values())
    assert [counts(path) for path in files.values()] == [ROWS] * 3
    assert check(program.folder / "prof") == []


def test_the_native_exporter_in_the_file(program, configured) -> None:
    configured("distribution:\n  ascend:\nSETTINGS\n", "ms_service_profiler: {}")
    done = program.serve()
    assert (done.code, done.warnings) == (0, []), done.err
    [path] = program.databases
    assert counts(path) == SPANS


def test_the_native_exporter_in_the_file_of_the_stock_distro(program, configured) -> None:
    configured("", "ms_service_profiler: {}")
    done = program.serve(
        SERVICE_PROF_CONFIG_PATH=str(program.config),
        PROFILING_SYMBOLS_PATH=str(program.symbols),
        OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO="1",
        **STOCK,
    )
    assert done.code == 0, done.err
    [path] = program.databases
    assert counts(path) == SPANS


def test_the_sampler_of_the_file_decides_about_spans_only(program, receiver, configured) -> None:
    configured("  sampler: {always_off: {}}\ndistribution:\n  ascend:\nSETTINGS\n")
    done = program.serve()
    assert (done.code, done.out, done.warnings) == (0, OUTPUT, [])
    assert receiver.spans() == []
    assert counts(program.folder) == ROWS


@pytest.mark.parametrize("listed", ["", "instrumentation/development:\n  python:\n    vllm: {}\n"])
def test_started_plainly_the_plugin_does_as_the_file_says(program, receiver, configured, listed) -> None:
    configured(f"distribution:\n  ascend:\nSETTINGS\n{listed}")
    done = program.serve("spawn", plain=True)
    assert (done.code, done.warnings) == (0, []), done.err
    assert Counter(span.name for span in receiver.spans()) == {name: count * 2 for name, count in SPANS.items()}
    assert len(program.databases) == 2


@pytest.mark.parametrize("plain", [False, True])
def test_an_instrumentation_that_the_file_disables(program, receiver, configured, plain) -> None:
    configured("instrumentation/development:\n  python:\n    vllm:\n      enabled: false\n")
    done = program.serve(plain=plain)
    assert (done.code, done.out, done.warnings) == (0, OUTPUT, [])
    assert Counter(span.name for span in receiver.spans()) == ({} if plain else {"program": 3})


def test_a_file_that_is_disabled_leaves_the_native_files(program, receiver, configured) -> None:
    configured("disabled: true\ndistribution:\n  ascend:\nSETTINGS\n")
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    assert done.warnings == ["Declarative configuration has disabled=true; skipping SDK setup."]
    assert receiver.spans() == []
    assert counts(program.folder) == ROWS


def test_a_key_that_is_wrong_is_said_once(program, receiver, configured) -> None:
    path = configured("distribution:\n  ascend:\nSETTINGS\n    ratio: 1\n")
    done = program.serve()
    assert (done.code, done.out) == (0, OUTPUT)
    (said,) = done.warnings
    assert said == (
        f"{path}: distribution.ascend.ratio is unknown and ignored; "
        "known are native_config, native, symbols, step_sample_ratio, baggage_keys, synchronize, npu_metrics, npu_operators, dcmi_library"
    )
    assert Counter(span.name for span in receiver.spans()) == SPANS


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("resource: 5\n", "Configuration does not match schema: 5 is not of type 'object' (at resource)"),
        ("tracer_provider:\n  processors:\n  - simple: {exporter: {no_such: {}}}\n", "Plugin 'no_such' not found"),
    ],
    ids=["schema", "plug-in"],
)
def test_a_file_that_cannot_be_used_costs_only_the_export(program, receiver, configured, text, cause) -> None:
    path = configured("")
    path.write_text(f'file_format: "1.0"\n{text}')
    done = program.serve(SERVICE_PROF_CONFIG_PATH=str(program.config), PROFILING_SYMBOLS_PATH=str(program.symbols))
    assert (done.code, done.out) == (0, OUTPUT)
    assert done.warnings[-1].startswith(f"OTEL_CONFIG_FILE={path} cannot be used: {cause}")
    assert receiver.spans() == []
