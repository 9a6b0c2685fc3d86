from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.semconv import ROOT, RegistryError, load

MANIFEST = "schema_url: https://names/1.0.0\ndependencies:\n  - schema_url: https://others/2.0.0\n"
OTHERS = """
file_format: definition/2
attributes:
  - {key: gen_ai.model, type: string, brief: A model., stability: stable}
  - {key: error.type, type: string, brief: A class., stability: stable}
attribute_groups:
  - id: both
    visibility: internal
    attributes:
      - {ref: gen_ai.model, requirement_level: required}
      - {ref: error.type}
metrics:
  - name: gen_ai.duration
    instrument: histogram
    unit: s
    brief: A duration.
    stability: development
    annotations: {code_generation: {metric_value_type: double}}
    attributes: [{ref_group: both}]
events:
  - {name: exception, brief: It failed., stability: stable}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of ``semconv`` in a project of its own."""
    return shutil.copytree(ROOT, tmp_path / "semconv")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A registry with a dependency and no names yet."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.yaml").write_text(MANIFEST)
    (tmp_path / "dependencies" / "others").mkdir(parents=True)
    (tmp_path / "dependencies" / "others" / "manifest.yaml").write_text("schema_url: https://others/2.0.0\n")
    (tmp_path / "dependencies" / "others" / "conventions.yaml").write_text(OTHERS)
    return tmp_path


@pytest.fixture
def problems_of(small: Path) -> Callable[[str], list[str]]:
    """The problems of the small registry with these entries in ``model/names.yaml``."""

    def load_with(text: str) -> list[str]:
        (small / "model" / "names.yaml").write_text(f"file_format: definition/2\n{text}")
        try:
            load(small)
        except RegistryError as error:
            return str(error).splitlines()
        return []

    return load_with
