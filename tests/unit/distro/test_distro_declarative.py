"""What the file of ``OTEL_CONFIG_FILE`` sets, and what is said about mistakes in it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.distro import AscendDistro, _declarative
from ascend_opentelemetry.distro._declarative import Settings, read

FILE = "/etc/otel.yaml"
ASCEND = {
    "native_config": "/c.json",
    "symbols": "s.yaml",
    "step_sample_ratio": 0.5,
    "baggage_keys": ["user", "tier"],
    "synchronize": True,
}
VARIABLES = {
    "SERVICE_PROF_CONFIG_PATH": "/c.json",
    "PROFILING_SYMBOLS_PATH": "s.yaml",
    "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "0.5",
    "OTEL_PYTHON_VLLM_BAGGAGE_KEYS": "user,tier",
    "OTEL_PYTHON_VLLM_SYNCHRONIZE": "true",
}


@pytest.fixture(autouse=True)
def _no_file_is_known() -> None:
    _declarative._load.cache_clear()
    _declarative._settings.cache_clear()


def test_each_section_sets_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert read(FILE, {"ascend": ASCEND}, {}) == Settings(VARIABLES, {})
    assert read(FILE, {}, {"vllm": ASCEND}) == Settings(VARIABLES, {"vllm": True})
    assert read(FILE, {"other": {"x": 1}}, {}) == Settings({}, {})
    assert caplog.messages == []


def test_the_section_of_the_instrumentation_wins() -> None:
    found = read(FILE, {"ascend": ASCEND}, {"vllm": {"step_sample_ratio": 1}})
    assert found.variables == VARIABLES | {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "1"}


def test_instrumentations_that_are_listed(caplog: pytest.LogCaptureFixture) -> None:
    python = {"vllm": {"enabled": False}, "fastapi": {"enabled": True}, "requests": None}
    assert read(FILE, {}, python) == Settings({}, {"vllm": False, "fastapi": True, "requests": True})
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("step_sample_ratio", 0, "0"),
        ("step_sample_ratio", 1, "1"),
        ("step_sample_ratio", 0.25, "0.25"),
        ("baggage_keys", "user, tier", "user,tier"),
        ("baggage_keys", [], ""),
        ("synchronize", False, "false"),
        ("native", "auto", "auto"),
        ("native", True, "on"),
        ("native", False, "off"),
        ("npu_metrics", True, "on"),
        ("npu_operators", False, "off"),
        ("npu_operators", "mspti", "mspti"),
        ("dcmi_library", "/opt/libdcmi.so", "/opt/libdcmi.so"),
    ],
)
def test_values(key: str, value: Any, text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert list(read(FILE, {"ascend": {key: value}}, {}).variables.values()) == [text]
    assert caplog.messages == []


@pytest.mark.parametrize("key", ASCEND)
def test_null_counts_as_not_set(key: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(FILE, {"ascend": {key: None}}, {"vllm": {key: None}}).variables == {}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("native_config", "", "'' is no path"),
        ("native_config", 5, "5 is no path"),
        ("symbols", ["a.yaml"], "['a.yaml'] is no path"),
        ("step_sample_ratio", "half", "'half' is no number from 0 to 1"),
        ("step_sample_ratio", 1.5, "1.5 is no number from 0 to 1"),
        ("step_sample_ratio", True, "True is no number from 0 to 1"),
        ("step_sample_ratio", float("nan"), "nan is no number from 0 to 1"),
        ("native", "maybe", "'maybe' is none of auto, on, off"),
        ("npu_operators", True, "True is none of off, mspti, torch"),
        ("baggage_keys", 5, "5 is no list of names"),
        ("baggage_keys", ["a", 5], "['a', 5] is no list of names"),
        ("baggage_keys", ["a,b"], "['a,b'] is no list of names"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(
    key: str, value: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(FILE, {"ascend": {key: value}}, {}).variables == {}
    assert caplog.messages == [f"/etc/otel.yaml: distribution.ascend.{key}: {reason}; the default is used"]


def test_an_unknown_key_is_named_with_file_and_key(caplog: pytest.LogCaptureFixture) -> None:
    assert read(FILE, {}, {"vllm": {"ratio": 1}}).variables == {}
    (said,) = caplog.messages
    assert said == (
        "/etc/otel.yaml: instrumentation/development.python.vllm.ratio is unknown and ignored; "
        "known are native_config, native, symbols, step_sample_ratio, baggage_keys, synchronize, npu_metrics, npu_operators, dcmi_library"
    )


def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> Path:
    pytest.importorskip("opentelemetry.configuration", reason="opentelemetry-configuration is not installed")
    path = tmp_path / "otel.yaml"
    path.write_text(f'file_format: "1.0"\n{text}')
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(path))
    return path


def ours() -> dict[str, str]:
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def test_the_file_decides_alone(monkeypatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/user.json")
    monkeypatch.setenv("OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO", "0.5")
    monkeypatch.setenv("TIERS", "user,tier")
    path = use(
        monkeypatch,
        tmp_path,
        "distribution:\n  ascend:\n    step_sample_ratio: 0.5\n    symbols: ${SYMBOLS}\n    baggage_keys: ${TIERS}\n",
    )
    for _ in range(2):
        AscendDistro().configure()
        assert ours() == {"OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "0.5", "OTEL_PYTHON_VLLM_BAGGAGE_KEYS": "user,tier"}
    (said,) = caplog.messages
    assert said == (
        f"SERVICE_PROF_CONFIG_PATH=/user.json is not read, since OTEL_CONFIG_FILE={path} is set: "
        "write it to distribution.ascend.native_config of that file"
    )
    assert [name for name in os.environ if name.startswith(("OTEL_TRACES", "OTEL_SERVICE", "OTEL_EXPORTER"))] == []


def test_the_environment_counts_where_the_file_refers_to_it(monkeypatch, tmp_path: Path, caplog) -> None:
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/user.json")
    use(monkeypatch, tmp_path, "distribution:\n  ascend:\n    native_config: ${SERVICE_PROF_CONFIG_PATH}\n")
    AscendDistro().configure()
    assert ours() == {"SERVICE_PROF_CONFIG_PATH": "/user.json"}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("resource: 5\n", "Configuration does not match schema: 5 is not of type 'object' (at resource)"),
        ("distribution:\n  ascend: 5\n", "Configuration does not match schema: 5 is not of type 'object'"),
        ("x: [\n", "Failed to parse YAML"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(monkeypatch, tmp_path: Path, caplog, text, cause) -> None:
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/user.json")
    path = use(monkeypatch, tmp_path, text)
    for _ in range(2):
        _declarative.apply()
        _declarative.configure(type("", (), {}))  # type: ignore[arg-type]
    assert ours() == {"SERVICE_PROF_CONFIG_PATH": "/user.json"}
    (said,) = [record for record in caplog.records if record.name == "ascend_opentelemetry.distro._declarative"]
    assert said.getMessage().startswith(f"OTEL_CONFIG_FILE={path} cannot be used: {cause}")
    assert said.getMessage().endswith("; nothing is exported")
    assert said.levelno == logging.ERROR


def test_without_the_package_it_is_said_what_is_missing(monkeypatch, caplog) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.configuration", None)
    monkeypatch.setenv("OTEL_CONFIG_FILE", "/etc/otel.yaml")
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/user.json")
    _declarative.apply()
    assert ours() == {"SERVICE_PROF_CONFIG_PATH": "/user.json"}
    assert _declarative.settings() == Settings({}, {})
    (said,) = caplog.messages
    assert said == (
        "OTEL_CONFIG_FILE=/etc/otel.yaml needs the package opentelemetry-configuration, which is not installed; "
        "nothing is exported"
    )


def test_without_a_file_nothing_is_set() -> None:
    assert not _declarative.is_used()
    assert _declarative.settings() == Settings({}, {})


class EntryPoint:
    def __init__(self, name: str) -> None:
        self.name = name
        self.loaded = False

    def load(self) -> Any:
        self.loaded = True
        return type("Instrumentor", (), {"instrument": lambda self, **kwargs: None})


def test_what_the_file_lists_is_left_to_the_file(monkeypatch, tmp_path: Path) -> None:
    use(
        monkeypatch,
        tmp_path,
        "instrumentation/development:\n  python:\n    vllm: {}\n    requests:\n      enabled: false\n",
    )
    points = [EntryPoint(name) for name in ("vllm", "requests", "fastapi")]
    for point in points:
        AscendDistro().load_instrumentor(point, skip_dep_check=True)
    assert [point.loaded for point in points] == [False, False, True]


def test_the_example_of_the_page_says_what_it_means(monkeypatch, tmp_path: Path, caplog) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "configuration.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    use(monkeypatch, tmp_path, "").write_text(example)
    monkeypatch.setenv("SERVICE_PROF_CONFIG_PATH", "/c.json")
    AscendDistro().configure()
    assert ours() == {
        "SERVICE_PROF_CONFIG_PATH": "/c.json",
        "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO": "0.05",
        "OTEL_PYTHON_VLLM_BAGGAGE_KEYS": "tenant",
    }
    assert caplog.messages == []
    table = page.partition("| variable | key in a file |")[2].partition("\n\n")[0]
    rows = [line.split(" | ")[:2] for line in table.splitlines() if line.startswith("| `")]
    assert {key.strip("`"): variable.strip("| `") for variable, key in rows} == {
        key: known.variable for key, known in _declarative._KEYS.items()
    }
