"""Resolving the registry: references become attributes, refinements become signals.

The outcome has the fields that Weaver's forge gives its templates with ``--v2`` (``ForgeResolvedRegistry``).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devtools.semconv._policy import policy_problems
from devtools.semconv._schema import MANIFEST, SECTIONS, file_problems, problems

ROOT = Path(__file__).resolve().parents[2] / "semconv"
#: Section -> the field that names an entry.
_NAMES = {"attributes": "key", "attribute_groups": "id", "spans": "type", "metrics": "name", "events": "name", "entities": "type"}  # fmt: skip
_SIGNALS = ("spans", "metrics", "events", "entities")
_REFINED = {"spans": "span_refinements", "metrics": "metric_refinements", "events": "event_refinements"}
#: Lists of attribute references that a signal has.
_REFERENCES = ("attributes", "identity", "description")

Entry = dict[str, Any]
# libyaml reads a file ten times faster than Python code, where PyYAML was built with it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RegistryError(Exception):
    """The registry is not as it must be; one line a problem."""


@dataclass
class Definitions:
    """What the files of one registry define, by section and name, with the file of each."""

    schema_url: str
    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    imports: dict[str, list[str]] = field(default_factory=dict)
    dependencies: Sequence[str] = ()
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Registry:
    """The resolved registry.

    Attributes:
        schema_url: of the registry.
        registry: its own ``attributes``, ``attribute_groups``, ``spans``, ``metrics``, ``events`` and ``entities``.
        refinements: its ``spans``, ``metrics``, ``events`` and ``entities`` with those that it refines, by ``id``.
    """

    schema_url: str
    registry: Mapping[str, Sequence[Entry]]
    refinements: Mapping[str, Sequence[Entry]]

    @property
    def context(self) -> dict[str, Any]:
        """``ctx`` of a template."""
        return {"schema_url": self.schema_url, "registry": self.registry, "refinements": self.refinements}


def load(root: Path = ROOT) -> Registry:
    """Read ``model`` and the extracts in ``dependencies``.

    Raises:
        RegistryError: with every problem found.
    """
    own = _read(root / "model")
    others = {found.schema_url: found for found in map(_read, sorted((root / "dependencies").iterdir()))}
    found = own.problems + [problem for other in others.values() for problem in other.problems]
    found += [
        f"model/manifest.yaml: {url} has no folder in dependencies" for url in own.dependencies if url not in others
    ]
    if found:
        raise RegistryError("\n".join(found))
    resolver = _Resolver(own, [others[url] for url in own.dependencies])
    registry = resolver.resolve()
    found = resolver.problems + list(policy_problems(registry.context))
    if found:
        raise RegistryError("\n".join(found))
    return registry


def _read(folder: Path) -> Definitions:
    manifest = _parse(folder / "manifest.yaml")
    found = [f"{folder.name}/manifest.yaml: {problem}" for problem in problems(manifest, MANIFEST)]
    if found:
        return Definitions("", problems=found)
    definitions = Definitions(manifest["schema_url"])
    definitions.dependencies = [dependency["schema_url"] for dependency in manifest.get("dependencies", ())]
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "manifest.yaml":
            _add_file(definitions, f"{folder.name}/{path.name}", path)
    return definitions


def _parse(path: Path) -> Any:
    return yaml.load(path.read_text(), _LOADER)


def _add_file(definitions: Definitions, name: str, path: Path) -> None:
    try:
        content = _parse(path)
    except yaml.YAMLError as error:
        definitions.problems.append(f"{name}: {error}")
        return
    wrong = [f"{name}: {problem}" for problem in file_problems(content)]
    definitions.problems += wrong
    if wrong:
        return
    for section, entries in content.items():
        if section == "imports":
            for kind, patterns in entries.items():
                definitions.imports.setdefault(kind, []).extend(patterns)
        elif section != "file_format":
            for entry in entries:
                key = entry[_NAMES.get(section, "id")]
                if key in definitions.entries[section]:
                    first = definitions.files[section, key]
                    definitions.problems.append(f"{name}: {section}: {key} is defined in {first} too")
                definitions.entries[section][key] = entry
                definitions.files[section, key] = name


class _Resolver:
    def __init__(self, own: Definitions, others: Sequence[Definitions]) -> None:
        self._own = own
        self._others = others
        self.problems: list[str] = []

    def resolve(self) -> Registry:
        own = self._own.entries
        registry: dict[str, list[Entry]] = {
            "attributes": [{"note": "", **entry} for entry in own["attributes"].values()]
        }
        registry["attribute_groups"] = [
            self._resolved("attribute_groups", entry)
            for entry in own["attribute_groups"].values()
            if entry["visibility"] == "public"
        ]
        for section in _SIGNALS:
            registry[section] = [self._resolved(section, entry) for entry in own[section].values()]
            registry[section] += self._imported(section)
        refinements = {section: [*self._refinements(section, registry[section])] for section in _SIGNALS}
        return Registry(self._own.schema_url, _sorted(registry), _sorted(refinements))

    def _imported(self, section: str) -> Iterator[Entry]:
        for pattern in self._own.imports.get(section, ()):
            found = [
                self._resolved(section, entry)
                for other in self._others
                for name, entry in other.entries[section].items()
                if fnmatch.fnmatchcase(name, pattern)
            ]
            if not found:
                self.problems.append(f"imports: {section}: no dependency has {pattern}")
            yield from found

    def _refinements(self, section: str, signals: Sequence[Entry]) -> Iterator[Entry]:
        for signal in signals:
            yield {"id": signal[_NAMES[section]], **signal}
        refining = _REFINED.get(section)
        for entry in self._own.entries[refining].values() if refining else ():
            where = f"{self._own.files[str(refining), entry['id']]}: {refining}: {entry['id']}"
            base = self._find(section, entry["ref"])
            if base is None:
                self.problems.append(f"{where}: nobody defines {entry['ref']}")
                continue
            signal = self._resolved(section, base)
            more = self._attributes(entry.get("attributes", ()), where)
            named = {attribute["key"]: attribute for attribute in [*signal["attributes"], *more]}
            rest = {key: value for key, value in entry.items() if key not in ("ref", "attributes", "annotations")}
            annotations = {**signal["annotations"], **entry.get("annotations", {})}
            yield {**signal, **rest, "attributes": list(named.values()), "annotations": annotations}

    def _find(self, section: str, name: str) -> Entry | None:
        """An entry of this registry, else of a dependency."""
        return next((each.entries[section][name] for each in (self._own, *self._others) if name in each.entries[section]), None)  # fmt: skip

    def _resolved(self, section: str, entry: Entry) -> Entry:
        where = f"{section}: {entry[_NAMES[section]]}"
        lists = _REFERENCES[1:] if section == "entities" else _REFERENCES[:1]
        resolved = {name: self._attributes(entry.get(name, ()), where) for name in lists}
        return {"note": "", "annotations": {}, **entry, **resolved}

    def _attributes(self, references: Sequence[Entry], where: str) -> list[Entry]:
        found: dict[str, Entry] = {}
        for reference in references:
            if "ref_group" in reference:
                group = self._find("attribute_groups", reference["ref_group"])
                if group is None:
                    self.problems.append(f"{where}: nobody defines the group {reference['ref_group']}")
                else:
                    found |= {each["key"]: each for each in self._attributes(group["attributes"], where)}
                continue
            attribute = self._find("attributes", reference["ref"])
            if attribute is None:
                self.problems.append(f"{where}: nobody defines the attribute {reference['ref']}")
                continue
            refined = {key: value for key, value in reference.items() if key != "ref"}
            found[attribute["key"]] = {"note": "", "requirement_level": "recommended", **attribute, **refined}
        return list(found.values())


def _sorted(sections: Mapping[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Each section by name: an entry that moves to another file changes nothing."""
    return {
        section: sorted(entries, key=lambda entry: entry.get("id") or entry[_NAMES[section]])
        for section, entries in sections.items()
    }
