"""What was received, against the registry of names: ``weaver registry live-check`` for the scopes of this package.

A span that the registry does not know must be a timer that a symbols file declares, with no other attributes than
those of the file. What a processor, the client's baggage or the program adds to spans of ours is named by the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ascend_opentelemetry import symbols
from devtools.otlp_json import Span, plain, read_lines, spans_of
from devtools.semconv import OWN, Registry

SCOPE = "ascend_opentelemetry"
DISTRO = "ascend-opentelemetry"
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_TYPES: Mapping[str, type] = {"string": str, "int": int, "double": float, "boolean": bool}
#: Field of a metric in OTLP/JSON, and whether it says to be monotonic -> the instruments that it may come from.
_INSTRUMENTS = {
    ("sum", True): "counter",
    ("sum", False): "updowncounter",
    ("gauge", False): "gauge",
    ("histogram", False): "histogram",
    ("exponentialHistogram", False): "histogram",
}

Entry = Mapping[str, Any]
#: Scope and name of spans that symbols files declare, and their attributes.
Timers = dict["tuple[str, str]", "set[str]"]


def timers(paths: Iterable[Path]) -> Timers:
    """The timers of symbols files: in all of them together, where they call several alike."""
    found: Timers = {}
    for symbol in (symbol for path in paths for symbol in symbols.load(path)[0]):
        handler = symbols.resolve_handler(symbol)
        if isinstance(handler, symbols.Builtin):
            continue  # what it records is ours
        domain, name = handler if isinstance(handler, symbols.Timer) else (symbol.domain, symbol.name)
        attributes = found.setdefault((f"{SCOPE}.{domain}", name), set())
        attributes |= {attribute.otel_name for attribute in symbol.attributes}
    return found


class LiveCheck:
    """Collects findings of any number of export requests.

    Args:
        registry: the names.
        known_timers: spans of symbols files.
        added: attributes of spans that come from a processor, from baggage or from the program.

    Attributes:
        findings: what does not agree with the registry, and how often.
        seen: names of spans, metrics and events of ours that were looked at, and how often.
    """

    def __init__(self, registry: Registry, *, known_timers: Timers | None = None, added: Collection[str] = ()) -> None:
        self.findings: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self._timers = known_timers or {}
        self._added = added
        self._spans = {
            (span["annotations"]["emitted"]["scope"], span["name"]["note"]): span for span in registry.registry["spans"]
        }
        self._metrics = {metric["name"]: metric for metric in registry.refinements["metrics"]}
        self._events = {event["name"]: event for event in registry.refinements["events"]}
        self._links = {group["id"]: group for group in registry.registry["attribute_groups"]}
        entities = registry.registry["entities"]
        self._resource = [each for entity in entities for each in entity["identity"] + entity["description"]]

    def add_file(self, path: Path) -> None:
        """Check the export requests of a file of ``OtlpReceiver``; a file of something else has none."""
        for line in read_lines(path):
            self.add(line)

    def add(self, request: Mapping[str, Any]) -> None:
        """Check an export request (OTLP/JSON) of any signal."""
        for span in spans_of(request):
            if _is_ours(span.scope):
                self._span(span)
                self._resource_of(span.resource)
        for resource, scope in _scopes(request, "resourceMetrics", "scopeMetrics"):
            for metric in scope.get("metrics", ()):
                self._metric(metric)
            self._resource_of(resource)
        for resource, scope in _scopes(request, "resourceLogs", "scopeLogs"):
            for record in scope.get("logRecords", ()):
                self._log(record)
            self._resource_of(resource)

    def _find(self, where: str, problems: Iterable[str]) -> None:
        self.findings.update(f"{where}: {problem}" for problem in problems)

    def _span(self, span: Span) -> None:
        key = span.scope, span.name
        own = {name: value for name, value in span.attributes.items() if name not in self._added}
        declared = self._spans.get(key)
        problems = ["not declared"] if declared is None else list(self._span_problems(span, own, declared))
        if problems and key in self._timers and own.keys() <= self._timers[key]:
            return
        self.seen[f"span {span.name}"] += 1
        self._find(f"span {span.name} of {span.scope}", problems)

    def _span_problems(self, span: Span, own: Mapping[str, Any], declared: Entry) -> Iterator[str]:
        emitted = declared["annotations"]["emitted"]
        kinds = emitted.get("kinds", [declared["kind"]])
        if span.kind not in [_KINDS[kind] for kind in kinds]:
            yield f"kind {span.kind} is none of {', '.join(kinds)}"
        yield from attribute_problems(own, declared["attributes"])
        for event in span.events:
            if event.name not in emitted.get("events", ()):
                yield f"event {event.name} is not declared for it"
                continue
            yield from (
                f"event {event.name}: {problem}" for problem in self._event_problems(event.name, event.attributes)
            )
        groups = [self._links[name]["attributes"] for name in emitted.get("links", ())]
        for link in span.links:
            problems = [list(attribute_problems(link.attributes, group)) for group in groups]
            if not groups:
                yield "links are not declared for it"
            elif all(problems):
                yield from (f"link: {problem}" for problem in min(problems, key=len))

    def _event_problems(self, name: str, attributes: Mapping[str, Any]) -> Iterator[str]:
        return attribute_problems(attributes, self._events[name]["attributes"])

    def _metric(self, metric: Mapping[str, Any]) -> None:
        name = metric["name"]
        where = f"metric {name}"
        declared = self._metrics.get(name)
        if declared is None:
            self._find(where, ["the registry does not have it"])
            return
        self.seen[where] += 1
        kind = next(field for field, _ in _INSTRUMENTS if field in metric)
        data = metric[kind]
        instrument = _INSTRUMENTS[kind, bool(data.get("isMonotonic", False))]
        if instrument != declared["instrument"]:
            self._find(where, [f"comes from a {instrument}, declared as {declared['instrument']}"])
        if metric.get("unit", "") != declared["unit"]:
            self._find(where, [f"has the unit {metric.get('unit', '')}, declared with {declared['unit']}"])
        value_type = declared["annotations"]["code_generation"]["metric_value_type"]
        unwanted = "asDouble" if value_type == "int" else "asInt"
        for point in data.get("dataPoints", ()):
            if unwanted in point:
                self._find(where, [f"has a value {unwanted}, declared as {value_type}"])
            self._find(where, attribute_problems(plain(point.get("attributes", ())), declared["attributes"]))

    def _log(self, record: Mapping[str, Any]) -> None:
        name = record.get("eventName", "")
        where = f"event {name}"
        if name not in self._events:
            self._find(where, ["the registry does not have it"])
            return
        self.seen[where] += 1
        self._find(where, self._event_problems(name, plain(record.get("attributes", ()))))

    def _resource_of(self, resource: Mapping[str, Any]) -> None:
        """Ours is complete, without further names of ours; of another's, what has a declared name has its type."""
        declared = {attribute["key"] for attribute in self._resource}
        ours = resource.get("telemetry.distro.name") == DISTRO
        own = {key: value for key, value in resource.items() if key in declared or (ours and key.startswith(OWN))}
        self._find("resource", attribute_problems(own, self._resource, complete=ours))


def attribute_problems(
    attributes: Mapping[str, Any], declared: Sequence[Entry], *, complete: bool = True
) -> Iterator[str]:
    """What is wrong with the attributes of a signal.

    Args:
        attributes: as received.
        declared: the signal's, as the registry has them.
        complete: whether the required ones must be there.
    """
    by_key = {attribute["key"]: attribute for attribute in declared}
    for key, value in attributes.items():
        if key not in by_key:
            yield f"attribute {key} is not declared for it"
        elif not _is_of(value, by_key[key]["type"]):
            yield f"attribute {key} is {value!r}, declared as {_named(by_key[key]['type'])}"
    for key, attribute in by_key.items():
        if complete and attribute["requirement_level"] == "required" and key not in attributes:
            yield f"attribute {key} is required and missing"


def _is_of(value: Any, declared: Any) -> bool:
    if isinstance(declared, dict):
        return value in [member["value"] for member in declared["members"]]
    if declared.endswith("[]"):
        return isinstance(value, list) and all(_is_of(item, declared[:-2]) for item in value)
    return type(value) is _TYPES[declared]


def _named(declared: Any) -> str:
    if isinstance(declared, dict):
        return "one of " + ", ".join(str(member["value"]) for member in declared["members"])
    return declared


def _is_ours(scope: str) -> bool:
    return scope == SCOPE or scope.startswith(f"{SCOPE}.")


def _scopes(
    request: Mapping[str, Any], resources: str, scopes: str
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Resource attributes and content of each scope of ours."""
    for entry in request.get(resources, ()):
        for scope in entry.get(scopes, ()):
            if _is_ours(scope.get("scope", {}).get("name", "")):
                yield plain(entry.get("resource", {}).get("attributes", ())), scope
