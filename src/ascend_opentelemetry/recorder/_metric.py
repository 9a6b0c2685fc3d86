"""Metric values: what a record type makes of the numbers in its records, and what the metrics sink takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Metric(Protocol):
    """What an instrument of the OTel API is made of; ``semconv.metrics`` has them. Hashable."""

    @property
    def name(self) -> str: ...
    @property
    def instrument(self) -> str:
        """``counter`` (values are added up), ``gauge`` (the last value counts) or ``histogram``."""
        ...

    @property
    def unit(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def boundaries(self) -> tuple[float, ...]:
        """Of a histogram's buckets, unless a view of the user says otherwise; empty for the SDK's own."""
        ...


class Measurement(NamedTuple):
    """A value for a metric.

    Attributes:
        metric: of the value.
        value: to be added, set or recorded.
        attributes: pairs, in the same order each time, so that equal ones are found.
    """

    metric: Metric
    value: float
    attributes: tuple[tuple[str, Any], ...] = ()


class Measurements(NamedTuple):
    """Values for a histogram, recorded at about the cost of one.

    Attributes:
        metric: of the values.
        values: none of them negative.
        attributes: pairs.
    """

    metric: Metric
    values: Sequence[float]
    attributes: tuple[tuple[str, Any], ...] = ()
