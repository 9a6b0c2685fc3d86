from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.util import _importlib_metadata

from ascend_opentelemetry.cli import _distros
from ascend_opentelemetry.cli._distros import Choice, check, choose_configurator, choose_distro

OURS = Choice("ascend", "ascend-opentelemetry", "it is the only one")
THEIRS = Choice("other", "other-distro", "it is the first")
NONE = Choice(None, None, "nobody has the name")
SET_BOTH = "Set OTEL_PYTHON_DISTRO=ascend and OTEL_PYTHON_CONFIGURATOR=ascend."

#: Prints what opentelemetry-instrument itself takes.
REAL = """
import logging
from opentelemetry.instrumentation.auto_instrumentation import _load
logging.disable()
print(type(_load._load_distro()).__module__.partition(".")[0])
loaded = []
for entry in _load.entry_points(group="opentelemetry_configurator"):
    type(entry).load = lambda self: lambda: type("C", (), {"configure": lambda s, **k: loaded.append(self.name)})()
_load._load_configurators()
print(*loaded)
"""


def install(folder: Path, name: str, value: str) -> None:
    """A package with a distro and a configurator."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[opentelemetry_distro]\n{name} = {value}\n[opentelemetry_configurator]\n{name} = {value}\n"
    )


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distro of others that comes before ours."""
    install(tmp_path, "foreign", "foreign_distro:Distro")
    (tmp_path / "foreign_distro.py").write_text(
        "from opentelemetry.instrumentation.distro import BaseDistro\n"
        "class Distro(BaseDistro):\n    def _configure(self, **kwargs): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # older versions of the API look once a process
    forget = getattr(getattr(_importlib_metadata, "_original_entry_points_cached", None), "cache_clear", lambda: None)
    forget()
    yield tmp_path
    forget()


def really_taken(folder: Path, env: dict[str, str]) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", REAL],
        env=dict(os.environ) | {"PYTHONPATH": str(folder)} | env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    distro, configurator = done.stdout.splitlines()
    return distro, configurator


@pytest.mark.parametrize(
    ("name", "real"),
    [
        (None, ("foreign_distro", "foreign")),
        ("ascend", ("ascend_opentelemetry", "ascend")),
        ("foreign", ("foreign_distro", "foreign")),
        ("missing", ("opentelemetry", "")),
        ("", ("opentelemetry", "")),
    ],
)
def test_the_choice_is_that_of_opentelemetry_instrument(foreign, name, real) -> None:
    env = {} if name is None else {"OTEL_PYTHON_DISTRO": name, "OTEL_PYTHON_CONFIGURATOR": name}
    assert really_taken(foreign, env) == real
    distro, configurator = choose_distro(env), choose_configurator(env)
    packages = {"foreign_distro": "foreign", "ascend_opentelemetry": "ascend-opentelemetry", "opentelemetry": None}
    assert (distro.package, configurator.name or "") == (packages[real[0]], real[1])


def test_a_variable_names_it(foreign) -> None:
    assert choose_distro({"OTEL_PYTHON_DISTRO": "ascend"}) == Choice(
        "ascend", "ascend-opentelemetry", "OTEL_PYTHON_DISTRO names it"
    )


def test_the_first_one_wins(foreign) -> None:
    choice = choose_configurator({})
    assert (choice.name, choice.package) == ("foreign", "foreign")
    assert choice.why.startswith("OTEL_PYTHON_CONFIGURATOR is not set and it is the first of foreign, ")
    assert "ascend" in choice.why.partition("first of ")[2].split(", ")


def test_the_only_one_wins(monkeypatch) -> None:
    entry_points = _distros.entry_points
    monkeypatch.setattr(_distros, "entry_points", lambda group: entry_points(group=group, name="ascend"))
    assert choose_distro({}) == OURS


def test_a_name_that_nobody_has(monkeypatch) -> None:
    entry_points = _distros.entry_points
    monkeypatch.setattr(_distros, "entry_points", lambda group: entry_points(group=group, name="ascend"))
    assert choose_distro({"OTEL_PYTHON_DISTRO": "ascnd"}) == Choice(
        None, None, "OTEL_PYTHON_DISTRO=ascnd names none of ascend"
    )


def test_nothing_is_installed(monkeypatch) -> None:
    monkeypatch.setattr(_distros, "entry_points", lambda group: ())
    assert choose_distro({}) == Choice(None, None, "none is installed")


def test_ours_is_no_finding() -> None:
    assert list(check(OURS, OURS)) == []


def test_a_foreign_distro_is_said_once() -> None:
    assert list(check(THEIRS, THEIRS)) == [
        (
            "warning",
            "the distro 'other' of other-distro wins over 'ascend' under opentelemetry-instrument: it is the first",
            SET_BOTH,
        )
    ]


def test_a_foreign_configurator_beside_our_distro() -> None:
    ((severity, cause, action),) = check(OURS, THEIRS)
    assert (severity, action) == ("warning", SET_BOTH)
    assert cause.startswith("the configurator 'other' of other-distro wins over 'ascend' under ")


def test_without_a_configurator_there_is_no_sdk() -> None:
    assert list(check(NONE, NONE)) == [
        ("error", "no configurator is loaded, so the SDK is not set up: nobody has the name", SET_BOTH),
        ("warning", "no distro is loaded, so its defaults are missing: nobody has the name", SET_BOTH),
    ]
