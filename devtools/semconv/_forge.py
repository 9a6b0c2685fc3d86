"""Templates -> files, as ``weaver registry generate --v2`` makes them, with what our templates use of MiniJinja."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import yaml

from devtools.semconv._registry import ROOT, Registry

#: Target of ``weaver registry generate`` -> folder of its output below the project's.
TARGETS = {"python": Path("src/ascend_opentelemetry/semconv"), "markdown": Path("docs/semconv")}
TEMPLATES = ROOT / "templates" / "registry"


def screaming_snake_case(text: str) -> str:
    """``gen_ai.request.id`` -> ``GEN_AI_REQUEST_ID``."""
    return re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").upper()


def render(registry: Registry, templates: Path = TEMPLATES) -> dict[Path, str]:
    """The text of each generated file, by its path below the project's folder."""
    texts: dict[Path, str] = {}
    for target, folder in TARGETS.items():
        config = yaml.safe_load((templates / target / "weaver.yaml").read_text())
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(templates / target),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            **config["whitespace_control"],
        )
        environment.filters["screaming_snake_case"] = screaming_snake_case
        for entry in config["templates"]:
            template = environment.get_template(entry["template"])
            texts[folder / entry["file_name"]] = template.render(ctx=registry.context)
    return texts
