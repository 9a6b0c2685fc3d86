from __future__ import annotations

import pytest

from ascend_opentelemetry.cli import _variables
from ascend_opentelemetry.cli._finding import Finding
from ascend_opentelemetry.cli._variables import check, wants_otlp
from ascend_opentelemetry.native import NativeChoice

NEW = "0.63b0"
OLD = "0.62b0"


def check_all(instrumentation: str | None = NEW, **env: str) -> list[Finding]:
    return list(check(env, instrumentation))


def causes(instrumentation: str | None = NEW, **env: str) -> list[tuple[str, str]]:
    return [(severity, cause) for severity, cause, _ in check_all(instrumentation, **env)]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_SDK_DISABLED": "false"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "none"},  # the SDK takes 1.0
        {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi, vllm_like"},
        {"VLLM_PLUGINS": "ascend,ascend_opentelemetry"},
    ],
)
def test_nothing_is_switched_off(env) -> None:
    assert check_all(**env) == []


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_the_sdk_is_disabled(value) -> None:
    assert check_all(OTEL_SDK_DISABLED=value) == [
        ("error", "OTEL_SDK_DISABLED=true switches the SDK off: there are no spans", "Remove OTEL_SDK_DISABLED.")
    ]


@pytest.mark.parametrize("sampler", ["always_off", "parentbased_always_off"])
def test_the_sampler_is_off(sampler) -> None:
    assert causes(OTEL_TRACES_SAMPLER=sampler) == [
        ("error", f"the sampler is off: OTEL_TRACES_SAMPLER={sampler} samples no request")
    ]


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_ratio_of_zero(sampler) -> None:
    ((severity, cause, action),) = check_all(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0.0")
    assert (severity, cause) == (
        "error",
        f"the sampler is off: OTEL_TRACES_SAMPLER={sampler} with OTEL_TRACES_SAMPLER_ARG=0.0 samples no request",
    )
    assert action.startswith("Remove OTEL_TRACES_SAMPLER, or set parentbased_traceidratio")


@pytest.mark.parametrize("names", ["vllm", "fastapi , vllm", "*"])
def test_the_instrumentor_is_disabled(names) -> None:
    assert causes(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=names) == [
        ("error", f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={names} leaves vLLM out")
    ]


@pytest.mark.parametrize("plugins", ["ascend", "", "ascend, ascend_opentelemetry"])  # vLLM does not strip
def test_vllm_plugins_leaves_us_out(plugins) -> None:
    ((severity, cause, action),) = check_all(VLLM_PLUGINS=plugins)
    assert severity == "warning"
    assert cause.startswith(f"VLLM_PLUGINS={plugins} leaves ascend_opentelemetry out")
    assert action == "Add ascend_opentelemetry to VLLM_PLUGINS, or remove the variable."


def test_an_instrumentation_too_old_for_spawn_is_a_note() -> None:
    assert check_all(OLD) == [
        (
            "note",
            "opentelemetry-instrumentation 0.62b0 is too old to instrument processes that are started by spawn",
            "Nothing: the vLLM plugin covers them.",
        )
    ]


def test_it_is_a_cause_where_the_plugin_is_left_out() -> None:
    plugin, old = check_all(OLD, VLLM_PLUGINS="ascend")
    assert (plugin.severity, old.severity) == ("error", "error")
    assert plugin.cause.startswith("VLLM_PLUGINS=ascend leaves ascend_opentelemetry out")
    assert old.cause == (
        "opentelemetry-instrumentation 0.62b0 is too old to instrument processes that are started by spawn, and the "
        "vLLM plugin is left out"
    )
    assert old.action == "Install 0.63b0 or newer of it."


@pytest.mark.parametrize("version", [None, "0.63b0", "0.66b2", "1.0", "unknown"])
def test_an_instrumentation_that_is_new_or_unknown(version) -> None:
    assert check_all(version) == []


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, True),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, False),
        ({"SERVICE_PROF_CONFIG_PATH": "/x"}, False),
        ({"SERVICE_PROF_CONFIG_PATH": "/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, True),
        ({"SERVICE_PROF_CONFIG_PATH": "/x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, True),
        ({"SERVICE_PROF_CONFIG_PATH": "/x", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_CONFIG_FILE": "/x", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({"OTEL_CONFIG_FILE": ""}, True),
    ],
)
def test_whether_spans_are_exported(env, wanted) -> None:
    assert wants_otlp(env) is wanted


def test_with_a_config_file_the_sampler_of_the_variables_does_not_count(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_variables, "find_spec", lambda name: name)
    file = tmp_path / "otel.yaml"
    file.touch()
    assert check_all(OTEL_CONFIG_FILE=str(file), OTEL_TRACES_SAMPLER="always_off") == []
    assert check_all(OTEL_CONFIG_FILE="otel.yaml") == []  # relative to a folder that is not known here


def test_a_config_file_that_is_not_there(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_variables, "find_spec", lambda name: name)
    assert check_all(OTEL_CONFIG_FILE=f"{tmp_path}/otel.yaml") == [
        (
            "error",
            f"OTEL_CONFIG_FILE={tmp_path}/otel.yaml is no file: nothing is exported",
            "Name the right file in OTEL_CONFIG_FILE.",
        )
    ]


def test_a_config_file_without_the_package_that_reads_it(monkeypatch) -> None:
    monkeypatch.setattr(_variables, "find_spec", {"opentelemetry.configuration": None}.__getitem__)
    assert causes(OTEL_CONFIG_FILE="/x.yaml") == [
        (
            "error",
            "OTEL_CONFIG_FILE=/x.yaml cannot be read: the package opentelemetry-configuration is not installed",
        )
    ]


def test_who_writes_native_files_in_our_place(monkeypatch) -> None:
    monkeypatch.setattr(_variables, "choose", lambda env: NativeChoice(None, f"ms_service_profiler {env['V']}"))
    assert check_all(V="26.0.0") == [
        (
            "note",
            "native files are left to the plugin of ms_service_profiler 26.0.0",
            "Nothing, or set OTEL_PYTHON_VLLM_NATIVE=on to write ours too.",
        )
    ]
