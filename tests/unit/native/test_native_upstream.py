"""Who writes the native files where ms_service_profiler is installed too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ascend_opentelemetry.native import NativeChoice, choose
from ascend_opentelemetry.native import _upstream as upstream

#: Entry points of ms_service_profiler 26.0.0 and of the wheel msserviceprofiler 1.2.3.
NEW = "[vllm.general_plugins]\nmsserviceprofiler = ms_service_profiler.patcher.vllm:register_service_profiler\n"
OLD = "[vllm.general_plugins]\nmsserviceprofiler=msserviceprofiler.vllm_profiler:register_service_profiler\n"
ANALYZER = "[ms_service_profiler_plugins]\nanalyze = ms_service_profiler.analyze:arg_parse\n"

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(upstream, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr(upstream, "_LOADER_CACHE", tmp_path / "ld.so.cache")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ms_service_profiler", raising=False)
    yield tmp_path
    upstream._installed_plugin.cache_clear()
    upstream._has_library.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def install(site: Path) -> Install:
    def install(points: str = NEW, *packages: str, name: str = "ms_service_profiler", version: str = "26.0.0") -> None:
        metadata = site / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(points)
        for package in packages or ("ms_service_profiler",):
            (site / package).mkdir()
            (site / package / "__init__.py").write_text("raise RuntimeError('it is never imported')\n")
        importlib.invalidate_caches()
        upstream._installed_plugin.cache_clear()

    return install


@pytest.fixture
def environ(site: Path) -> dict[str, str]:
    """Of a service whose loader finds the library."""
    (site / "lib").mkdir()
    (site / "lib" / "libms_service_profiler.so").write_text("")
    return {"SERVICE_PROF_CONFIG_PATH": "config.json", "LD_LIBRARY_PATH": f"/nowhere:{site}/lib"}


LEFT = NativeChoice(
    None,
    "ms_service_profiler 26.0.0",
    (
        (
            "native files, and handlers of your own in the symbols file, are left to the plugin of ms_service_profiler "
            "26.0.0; OTEL_PYTHON_VLLM_NATIVE=on writes ours too"
        ),
    ),
)
OURS = NativeChoice("config.json")


def test_native_files_are_left_to_a_plugin_that_writes_them(install, environ) -> None:
    install()
    assert choose(environ) == LEFT


def test_without_that_package_they_are_ours(environ) -> None:
    assert choose(environ) == OURS


def test_a_config_path_that_is_not_set_asks_nobody_for_them(install, environ) -> None:
    install()
    del environ["SERVICE_PROF_CONFIG_PATH"]
    assert choose(environ) == NativeChoice(None)


def test_the_old_wheel_writes_through_the_package(install, environ) -> None:
    install(OLD, "msserviceprofiler", name="msserviceprofiler", version="1.2.3")
    assert choose(environ) == OURS
    install(ANALYZER)
    assert choose(environ).left_to == "msserviceprofiler 1.2.3"


def test_the_analyzer_alone_writes_nothing(install, environ) -> None:
    install(ANALYZER)
    assert choose(environ) == OURS


def test_without_its_library_the_plugin_writes_nothing(install, environ) -> None:
    install()
    environ["LD_LIBRARY_PATH"] = ""
    assert choose(environ) == OURS


def test_metadata_that_a_removed_package_left_writes_nothing(install, environ, site) -> None:
    install()
    (site / "ms_service_profiler" / "__init__.py").unlink()
    (site / "ms_service_profiler").rmdir()
    importlib.invalidate_caches()
    assert choose(environ) == OURS


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ("ascend,msserviceprofiler", LEFT),
        ("ascend,ascend_opentelemetry", OURS),
        ("", OURS),
        ("msserviceprofiler2", OURS),
    ],
)
def test_a_plugin_that_vllm_leaves_out_writes_nothing(install, environ, plugins, expected) -> None:
    install()
    assert choose({**environ, "VLLM_PLUGINS": plugins}) == expected


def test_the_library_is_found_in_the_toolkit_and_in_the_cache_of_the_loader(install, environ, site) -> None:
    install()
    environ["LD_LIBRARY_PATH"] = ""
    folder = site / "toolkit" / "aarch64-linux" / "lib64"
    folder.mkdir(parents=True)
    (folder / "libms_service_profiler.so").write_text("")
    assert choose({**environ, "ASCEND_HOME_PATH": str(site / "toolkit")}) == LEFT
    upstream._has_library.cache_clear()
    (site / "ld.so.cache").write_bytes(b"\0libm.so.6\0libms_service_profiler.so\0/opt/libms_service_profiler.so\0")
    assert choose(environ) == LEFT


def test_on_writes_ours_too(install, environ) -> None:
    install()
    assert choose({**environ, "OTEL_PYTHON_VLLM_NATIVE": "on"}) == NativeChoice(
        "config.json",
        None,
        (
            (
                "native files are written twice, by us and by the plugin of ms_service_profiler 26.0.0: analyze only one "
                "ms_service_*.db of a process, or leave msserviceprofiler out of VLLM_PLUGINS"
            ),
        ),
    )


@pytest.mark.parametrize("value", ["on", " ON ", "auto", ""])
def test_where_nobody_else_writes_they_are_ours_without_a_word(environ, value) -> None:
    assert choose({**environ, "OTEL_PYTHON_VLLM_NATIVE": value}) == OURS


@pytest.mark.parametrize("value", ["off", "Off"])
def test_off_writes_none_and_leaves_nothing_to_others(install, environ, value) -> None:
    install()
    assert choose({**environ, "OTEL_PYTHON_VLLM_NATIVE": value}) == NativeChoice(None)


@pytest.mark.parametrize("value", ["yes", "0", "onn"])
def test_a_bad_value_is_auto_with_a_warning(install, environ, value) -> None:
    bad = f"OTEL_PYTHON_VLLM_NATIVE={value!r} is none of auto, on, off: auto is used"
    assert choose({**environ, "OTEL_PYTHON_VLLM_NATIVE": value}) == NativeChoice("config.json", None, (bad,))
    install()
    assert choose({**environ, "OTEL_PYTHON_VLLM_NATIVE": value}) == LEFT._replace(messages=(bad, *LEFT.messages))


def test_on_without_a_config_path_is_told() -> None:
    assert choose({"OTEL_PYTHON_VLLM_NATIVE": "on"}) == NativeChoice(
        None, None, ("OTEL_PYTHON_VLLM_NATIVE=on writes no native files: SERVICE_PROF_CONFIG_PATH is not set",)
    )
