"""Metrics as the OTLP receiver has them: the last value of each series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from devtools.otlp_json import plain


@dataclass(frozen=True)
class Series:
    """The last data point of a series of one process.

    Attributes:
        kind: ``sum``, ``gauge`` or ``histogram``.
        value: of a sum or gauge, or the sum of a histogram's values.
        count: number of values of a histogram.
        bounds: of a histogram's buckets.
        exemplars: trace and span ids, and the value, of all exports.
    """

    name: str
    kind: str
    unit: str
    scope: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    value: float
    count: int
    bounds: tuple[float, ...]
    exemplars: frozenset[tuple[str, str, float]]


def last_values(requests: Iterable[Mapping[str, Any]]) -> list[Series]:
    """The series in these export requests (cumulative temporality, OTLP/JSON)."""
    found: dict[tuple[Any, ...], Series] = {}
    for request in requests:
        for resource_metrics in request["resourceMetrics"]:
            resource = plain(resource_metrics["resource"]["attributes"])
            for scope_metrics in resource_metrics["scopeMetrics"]:
                for metric in scope_metrics["metrics"]:
                    for series in _series(metric, scope_metrics["scope"]["name"], resource):
                        key = (resource["service.instance.id"], series.name, tuple(series.attributes.items()))
                        before = found[key].exemplars if key in found else frozenset()
                        found[key] = replace(series, exemplars=series.exemplars | before)
    return list(found.values())


def _series(metric: Mapping[str, Any], scope: str, resource: dict[str, Any]) -> Iterable[Series]:
    kind = next(kind for kind in ("sum", "gauge", "histogram") if kind in metric)
    for point in metric[kind]["dataPoints"]:
        value = point.get("sum", 0.0) if kind == "histogram" else point.get("asDouble", int(point.get("asInt", 0)))
        exemplars = [
            (exemplar.get("traceId", ""), exemplar.get("spanId", ""), exemplar.get("asDouble", exemplar.get("asInt")))
            for exemplar in point.get("exemplars", ())
        ]
        yield Series(
            metric["name"], kind, metric.get("unit", ""), scope, plain(point.get("attributes", ())), resource, value,
            int(point.get("count", 0)), tuple(point.get("explicitBounds", ())), frozenset(exemplars),
        )  # fmt: skip
