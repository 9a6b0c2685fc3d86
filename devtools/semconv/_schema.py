"""The fields of a ``definition/2`` file.

Source: ``schemas/semconv.schema.v2.json`` and ``schemas/semconv-syntax.v2.md`` of open-telemetry/weaver. What this
project has no use for (deprecated spellings, ``any`` values) is left out and so refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

STABILITIES = ("stable", "release_candidate", "beta", "alpha", "development")
TYPES = ("string", "int", "double", "boolean", "string[]", "int[]", "double[]", "boolean[]")
INSTRUMENTS = ("counter", "updowncounter", "gauge", "histogram")
SPAN_KINDS = ("internal", "client", "server", "producer", "consumer")
LEVELS = ("required", "recommended", "opt_in")
_DEPRECATIONS = ("renamed", "obsoleted", "uncategorized")

#: What is wrong with a value; None if nothing is.
Check = Callable[[Any], "str | None"]


class Shape(NamedTuple):
    """The fields of one kind of entry: those it must have, those it may have besides."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check]


def _one_of(*names: str) -> Check:
    return lambda value: None if value in names else f"{value!r} is none of {', '.join(names)}"


def _of(kind: type, word: str) -> Check:
    return lambda value: None if type(value) is kind else f"{value!r} is no {word}"


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"{value!r} is no text"
    return None


def _brief(value: Any) -> str | None:
    wrong = _text(value)
    if wrong:
        return wrong
    # it becomes a Python string, a docstring, and a cell of a table
    if found := set(value.strip()) & set('"\\|\n'):
        return f"contains {sorted(found)}"
    return None if value.strip().endswith(".") else f"{value!r} does not end with a full stop"


def _many(check: Check) -> Check:
    def each(value: Any) -> str | None:
        if not isinstance(value, list):
            return f"{value!r} is no list"
        return next((wrong for item in value if (wrong := check(item))), None)

    return each


def _entry(shape: Shape) -> Check:
    return lambda value: next(problems(value, shape), None)


def _level(value: Any) -> str | None:
    if isinstance(value, dict) and len(value) == 1:
        name, text = next(iter(value.items()))
        return _one_of("conditionally_required", "recommended", "opt_in")(name) or _text(text)
    return _one_of(*LEVELS)(value)


def _attribute_type(value: Any) -> str | None:
    if isinstance(value, dict):
        return _entry(Shape({"members": _many(_entry(_MEMBER))}, {}))(value)
    return _one_of(*TYPES, *(f"template[{name}]" for name in TYPES))(value)


def _is_value(value: Any) -> str | None:
    return None if isinstance(value, (str, int, float, bool)) else f"{value!r} is no value"


def _reference(refinement: Mapping[str, Check]) -> Check:
    attribute, group = (
        Shape({"ref": _text}, {"requirement_level": _level, **refinement}),
        Shape({"ref_group": _text}, {}),
    )
    return lambda value: _entry(group if isinstance(value, dict) and "ref_group" in value else attribute)(value)


_stability = _one_of(*STABILITIES)
_mapping, _list = _of(dict, "mapping"), _of(list, "list")
_deprecated = _entry(Shape({"reason": _one_of(*_DEPRECATIONS)}, {"renamed_to": _text, "note": _text}))
_MEMBER = Shape(
    {"id": _text, "value": _is_value, "stability": _stability},
    {"brief": _brief, "note": _text, "deprecated": _deprecated},
)
_NOTES: Mapping[str, Check] = {"note": _text, "deprecated": _deprecated, "annotations": _mapping}
_COMMON: Mapping[str, Check] = {"brief": _brief, "stability": _stability}
_references = _many(_reference({"brief": _brief, "note": _text, "examples": _list}))
_span_references = _many(
    _reference({"brief": _brief, "note": _text, "examples": _list, "sampling_relevant": _of(bool, "boolean")})
)
_SIGNAL: Mapping[str, Check] = {
    **_NOTES, "entity_associations": _list, "requirement_level": _one_of("recommended", "opt_in")
}  # fmt: skip


def _refinement(references: Check) -> Shape:
    optional = {**_NOTES, **_COMMON, "attributes": references, "entity_associations": _list}
    return Shape({"id": _text, "ref": _text}, optional)


#: Section of a file -> the shape of its entries.
SECTIONS: Mapping[str, Shape] = {
    "attributes": Shape({"key": _text, "type": _attribute_type, **_COMMON}, {**_NOTES, "examples": _list}),
    "attribute_groups": Shape(
        {"id": _text, "visibility": _one_of("internal", "public"), "attributes": _references}, {}
    ),
    "spans": Shape(
        {"type": _text, "kind": _one_of(*SPAN_KINDS), "name": _entry(Shape({"note": _text}, {})), **_COMMON},
        {**_SIGNAL, "attributes": _span_references},
    ),
    "metrics": Shape(
        {"name": _text, "instrument": _one_of(*INSTRUMENTS), "unit": _text, **_COMMON},
        {**_SIGNAL, "attributes": _references},
    ),
    "events": Shape({"name": _text, **_COMMON}, {**_SIGNAL, "attributes": _references}),
    "entities": Shape(
        {"type": _text, "identity": _references, **_COMMON},
        {**_NOTES, "description": _references, "requirement_level": _one_of("recommended", "opt_in")},
    ),
    "span_refinements": _refinement(_span_references),
    "metric_refinements": _refinement(_references),
    "event_refinements": _refinement(_references),
}
_PUBLIC_GROUP = Shape({"id": _text, "visibility": _one_of("public"), "attributes": _references, **_COMMON}, _NOTES)
MANIFEST = Shape(
    {"schema_url": _text},
    {
        "description": _text,
        "stability": _stability,
        "dependencies": _many(_entry(Shape({"schema_url": _text}, {"registry_path": _text}))),
    },
)
_IMPORTS = Shape({}, dict.fromkeys(("attribute_groups", "entities", "events", "metrics", "spans"), _many(_text)))


def problems(value: Any, shape: Shape) -> Iterator[str]:
    """What is wrong with the fields of a mapping."""
    if not isinstance(value, dict):
        yield f"{value!r} is no mapping"
        return
    known = {**shape.required, **shape.optional}
    for name in shape.required:
        if name not in value:
            yield f"{name} is missing"
    for name, field in value.items():
        if name not in known:
            yield f"{name} is no field here: there are {', '.join(sorted(known))}"
        elif wrong := known[name](field):
            yield f"{name}: {wrong}"


def file_problems(content: Any) -> Iterator[str]:
    """What is wrong with a file, each with the entry it is in."""
    if not isinstance(content, dict) or content.get("file_format") != "definition/2":
        yield "file_format is not definition/2"
        return
    for section, entries in content.items():
        if section == "file_format":
            continue
        if section == "imports":
            yield from (f"imports: {problem}" for problem in problems(entries, _IMPORTS))
        elif section not in SECTIONS:
            yield f"{section} is no section: there are imports, {', '.join(SECTIONS)}"
        elif not isinstance(entries, list):
            yield f"{section} is no list"
        else:
            for number, entry in enumerate(entries, 1):
                named = entry if isinstance(entry, dict) else {}
                name = next(
                    (named[key] for key in ("id", "key", "name", "type") if isinstance(named.get(key), str)), ""
                )
                where = f"{section}: {name or f'entry {number}'}"
                shape = _PUBLIC_GROUP if named.get("visibility") == "public" else SECTIONS[section]
                yield from (f"{where}: {problem}" for problem in problems(entry, shape))
