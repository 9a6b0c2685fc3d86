"""Rules of names that the syntax does not know: namespaces, units, and that nothing is declared in vain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: Namespaces of ours, and the keys outside of them that vLLM made up and dashboards know.
OWN = ("vllm.", "npu.")
VLLM_KEYS = ("gen_ai.latency.", "gen_ai.request.id", "gen_ai.request.n", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens")  # fmt: skip
_KEY = re.compile(r"[a-z][a-z0-9]*(?:[._][a-z0-9]+)+")
#: UCUM, as far as there is something to measure: ratio, percent, seconds, bytes, degrees, watts, hertz, and counts in braces.
_UNIT = re.compile(r"(?:1|%|m?s|us|ns|By|Cel|W|J|Hz|\{[a-z_]+\})(?:/(?:s|\{[a-z_]+\}))?")
#: Words that no part of a metric's name may be: they are its unit, and exporters add it where a backend wants it.
_UNIT_WORDS = {"bytes", "seconds", "milliseconds", "microseconds", "nanoseconds", "ms", "us", "ns", "percent", "total"}
#: What an ``emitted`` annotation of a span says: its scope, kinds other than the declared one, events and links.
_EMITTED = {"scope", "kinds", "events", "links"}

Context = Mapping[str, Any]


def policy_problems(context: Context) -> Iterator[str]:
    """What is wrong with a resolved registry."""
    registry = context["registry"]
    used = _used_attributes(context)
    for attribute in registry["attributes"]:
        key = attribute["key"]
        if not _KEY.fullmatch(key):
            yield f"attributes: {key}: not lower case words with dots and underscores"
        if not key.startswith((*OWN, *VLLM_KEYS)):
            yield f"attributes: {key}: ours begin with {' or '.join(OWN)}"
        if key not in used:
            yield f"attributes: {key}: nothing refers to it"
    for metric in context["refinements"]["metrics"]:
        if not _UNIT.fullmatch(metric["unit"]):
            yield f"metrics: {metric['name']}: {metric['unit']} is no UCUM unit that is known here"
        for word in sorted(_UNIT_WORDS.intersection(re.split("[._]", metric["name"]))):
            yield f"metrics: {metric['name']}: {word} belongs to the unit, not to the name"
        if metric["annotations"].get("code_generation", {}).get("metric_value_type") not in ("int", "double"):
            yield f"metrics: {metric['name']}: annotations.code_generation.metric_value_type is neither int nor double"
        if metric["annotations"].get("boundaries") and metric["instrument"] != "histogram":
            yield f"metrics: {metric['name']}: only histograms have boundaries"
    yield from _span_problems(context)


def _used_attributes(context: Context) -> set[str]:
    signals = [entry for section in context["refinements"].values() for entry in section]
    signals += context["registry"]["attribute_groups"]
    return {
        attribute["key"]
        for signal in signals
        for name in ("attributes", "identity", "description")
        for attribute in signal.get(name, ())
    }


def _span_problems(context: Context) -> Iterator[str]:
    events = {event["name"] for event in context["refinements"]["events"]}
    groups = {group["id"] for group in context["registry"]["attribute_groups"]}
    for span in context["refinements"]["spans"]:
        where = f"spans: {span['id']}"
        emitted = span["annotations"].get("emitted")
        if not isinstance(emitted, dict) or "scope" not in emitted:
            yield f"{where}: annotations.emitted.scope is missing"
            continue
        for name in emitted.keys() - _EMITTED:
            yield f"{where}: annotations.emitted: {name} is none of {', '.join(sorted(_EMITTED))}"
        for name in emitted.get("events", ()):
            if name not in events:
                yield f"{where}: nobody defines the event {name}"
        for name in emitted.get("links", ()):
            if name not in groups:
                yield f"{where}: nobody defines the public attribute group {name}"
