"""``python -m devtools.semconv [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from devtools.semconv._forge import TARGETS, render
from devtools.semconv._registry import ROOT, RegistryError, load


def stale(texts: dict[Path, str], project: Path) -> list[Path]:
    """Files that differ from ``texts``, are missing, or are there in spite of them, in the folders of the targets."""
    there = {
        path.relative_to(project)
        for folder in TARGETS.values()
        for path in (project / folder).glob("*")
        if path.is_file()
    }
    differ = {path for path, text in texts.items() if path not in there or (project / path).read_text() != text}
    return sorted(differ | (there - texts.keys()))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Generate, or check; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m devtools.semconv", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is not up to date")
    options = parser.parse_args(arguments)
    project = root.parent
    try:
        texts = render(load(root), root / "templates" / "registry")
    except RegistryError as error:
        print(error, file=sys.stderr)
        return 2
    changed = stale(texts, project)
    if options.check:
        for path in changed:
            print(f"{path} is not up to date: run `python -m devtools.semconv`", file=sys.stderr)
        return 1 if changed else 0
    for path in changed:
        if path not in texts:
            (project / path).unlink()
            continue
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
