"""Many values for a histogram of the SDK at once, with the result of recording each: 4 us a value otherwise.

The Python SDK has no way in for what is aggregated already, so its buckets are added to here. Views, temporality and
every reader work as ever. Where the SDK is not as expected (1.41 to 1.45 are), a view asks for another aggregation, or
values without a span may be exemplars, each value is recorded for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from time import time_ns
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from opentelemetry.context import Context

Values: TypeAlias = npt.NDArray[np.float64]

_API = "opentelemetry.metrics"


class BatchHistogram:
    """Records arrays.

    Args:
        instrument: a histogram of any meter.
    """

    def __init__(self, instrument: Any) -> None:
        self._instrument = instrument

    def record(self, values: Values, attributes: Mapping[str, Any]) -> None:
        """Record each of the values, which must not be negative."""
        # the API's own histogram hands over to that of a provider which was set later
        instrument = getattr(self._instrument, "_real_instrument", None) or self._instrument
        if not len(values) or type(instrument).__module__.startswith(_API):
            return
        if _may_be_exemplars(instrument, attributes):
            for value in values.tolist():
                instrument.record(value, attributes)
            return
        with ExitStack() as locks:
            storages = _storages(instrument)
            for storage in storages:  # nobody collects meanwhile
                locks.enter_context(storage._lock)
            instrument.record(float(values[0]), attributes)
            aggregations = _aggregations(storages, instrument, attributes)
            if aggregations is not None:
                for aggregation in aggregations:
                    _add(aggregation, values[1:])
                return
        for value in values[1:].tolist():
            instrument.record(value, attributes)


def _may_be_exemplars(instrument: Any, attributes: Mapping[str, Any]) -> bool:
    """Whether the exemplar filter of the provider takes values that belong to no span."""
    config = getattr(getattr(instrument, "_measurement_consumer", None), "_sdk_config", None)
    chosen = getattr(config, "exemplar_filter", None)
    return chosen is not None and chosen.should_sample(0, time_ns(), attributes, Context())


def _storages(instrument: Any) -> list[Any]:
    """What the instrument's values are kept in, one a reader; nothing where that is not known."""
    storages = getattr(getattr(instrument, "_measurement_consumer", None), "_reader_storages", None)
    found = list(storages.values()) if isinstance(storages, Mapping) else []
    return found if all(hasattr(storage, "_lock") for storage in found) else []


def _aggregations(storages: list[Any], instrument: Any, attributes: Mapping[str, Any]) -> list[Any] | None:
    """The buckets that the value recorded last has gone to; None where they cannot be found."""
    found: list[Any] = []
    try:
        for match in _matches(storages, instrument):
            kept = match._view._attribute_keys
            wanted = {key: value for key, value in attributes.items() if kept is None or key in kept}
            same = [one for one in match._attributes_aggregation.values() if dict(one._attributes or {}) == wanted]
            if len(same) != 1:
                return None
            if type(same[0]).__name__ == "_DropAggregation":
                continue
            if not isinstance(same[0]._boundaries, tuple) or same[0]._value is None:
                return None
            found.append(same[0])
    except AttributeError:
        return None
    return found if storages else None


def _matches(storages: list[Any], instrument: Any) -> Iterator[Any]:
    for storage in storages:
        yield from storage._instrument_view_instrument_matches[instrument]


def _add(aggregation: Any, values: Values) -> None:
    if not len(values):
        return
    buckets = np.searchsorted(aggregation._boundaries, values)
    counts = np.bincount(buckets, minlength=len(aggregation._boundaries) + 1).tolist()
    with aggregation._lock:
        aggregation._value = [before + more for before, more in zip(aggregation._value, counts, strict=True)]
        aggregation._sum += float(values.sum())
        if aggregation._record_min_max:
            aggregation._min = min(aggregation._min, float(values.min()))
            aggregation._max = max(aggregation._max, float(values.max()))
