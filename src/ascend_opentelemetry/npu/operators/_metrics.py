"""What the NPU does while vLLM serves, as OTel metrics, aggregated before the SDK sees it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from opentelemetry.metrics import Meter, MeterProvider

from ascend_opentelemetry._batch_histogram import BatchHistogram
from ascend_opentelemetry.npu._scope import SCOPE, device_attributes
from ascend_opentelemetry.npu.operators._collective import Collective
from ascend_opentelemetry.npu.operators._statistics import MAX_SERIES, OTHER, Operator
from ascend_opentelemetry.npu.operators._windows import Ints, group_starts
from ascend_opentelemetry.recorder import meters
from ascend_opentelemetry.semconv import attributes as names
from ascend_opentelemetry.semconv import metrics
from ascend_opentelemetry.semconv.metrics import Metric

_NS = 1e9

K = TypeVar("K", bound=Hashable)


class Copies(NamedTuple):
    """A series of copies of memory: ``h2d`` and the like, number of the NPU."""

    direction: str
    device: str


class Allocations(NamedTuple):
    """A series of allocations by the driver: ``allocate`` or ``release``, number of the NPU."""

    operation: str
    device: str


class Limit(Generic[K]):
    """The first so many series keep their name, for the life of the process, as the SDK never forgets one."""

    def __init__(self, most: int = MAX_SERIES) -> None:
        self._most = most
        self._known: set[K] = set()

    def admits(self, series: K) -> bool:
        """Whether it is one of them."""
        if series not in self._known and len(self._known) < self._most:
            self._known.add(series)
        return series in self._known


class OperatorMetrics:
    """Instruments, made when the first operators come; used by one thread.

    Args:
        provider: None: that of the process, as it is then.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._provider = provider
        self._counters: dict[Metric, Any] = {}
        self._histograms: dict[Metric, BatchHistogram] = {}
        self._operators: Limit[tuple[str, str]] = Limit()
        self._collectives: Limit[tuple[str, str, str]] = Limit()

    def add_operators(self, keys: Sequence[Operator], numbers: Ints, durations: Ints) -> None:
        """Add operators: numbers of their ``keys``, durations in ns."""
        for number, found in _longest_first(_groups(numbers, durations)):
            key = keys[number]
            if not self._operators.admits((key.type, key.core)):
                key = Operator(OTHER, "", key.device)
            core = {names.NPU_CORE_TYPE: key.core} if key.core else {}
            attributes = {names.NPU_OPERATOR_TYPE: key.type, **core, **dict(device_attributes(key.device))}
            self._counter(metrics.NPU_OPERATOR_COUNT).add(len(found), attributes)
            self._counter(metrics.NPU_OPERATOR_TIME).add(int(found.sum()) / _NS, attributes)
            self._histogram(metrics.NPU_OPERATOR_DURATION).record(found / _NS, attributes)

    def add_collectives(self, keys: Sequence[Collective], numbers: Ints, durations: Ints, sizes: Ints) -> None:
        """Add collectives: numbers of their ``keys``, durations in ns, payloads in bytes."""
        for number, found, bytes_ in _groups(numbers, durations, sizes):
            key = keys[number]
            if not self._collectives.admits(key[:3]):
                key = Collective(OTHER, "", "", key.device)
            known = {names.NPU_COMMUNICATION_DATA_TYPE: key.data_type, names.NPU_COMMUNICATION_GROUP: key.group}
            attributes = {
                names.NPU_COMMUNICATION_OPERATION: key.operation,
                **{name: value for name, value in known.items() if value},
                **dict(device_attributes(key.device)),
            }
            self._histogram(metrics.NPU_COMMUNICATION_DURATION).record(found / _NS, attributes)
            self._counter(metrics.NPU_COMMUNICATION_IO).add(int(bytes_.sum()), attributes)

    def add_copies(self, keys: Sequence[Copies], numbers: Ints, durations: Ints, sizes: Ints) -> None:
        """Add copies: numbers of their ``keys``, durations in ns, bytes."""
        for number, found, bytes_ in _groups(numbers, durations, sizes):
            direction, device = keys[number]
            attributes = {names.NPU_MEMCPY_DIRECTION: direction, **dict(device_attributes(device))}
            self._histogram(metrics.NPU_MEMCPY_DURATION).record(found / _NS, attributes)
            self._counter(metrics.NPU_MEMCPY_IO).add(int(bytes_.sum()), attributes)

    def add_allocations(self, keys: Sequence[Allocations], numbers: Ints, sizes: Ints) -> None:
        """Add allocations and releases: numbers of their ``keys``, bytes."""
        for number, found in _groups(numbers, sizes):
            operation, device = keys[number]
            attributes = {names.NPU_MEMORY_OPERATION: operation, **dict(device_attributes(device))}
            self._counter(metrics.NPU_MEMORY_OPERATIONS).add(len(found), attributes)
            self._counter(metrics.NPU_MEMORY_OPERATION_SIZE).add(int(found.sum()), attributes)

    def _counter(self, metric: Metric) -> Any:
        counter = self._counters.get(metric)
        if counter is None:
            counter = self._meter().create_counter(metric.name, metric.unit, metric.description)
            self._counters[metric] = counter
        return counter

    def _histogram(self, metric: Metric) -> BatchHistogram:
        histogram = self._histograms.get(metric)
        if histogram is None:
            made = self._meter().create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.boundaries
            )
            histogram = self._histograms[metric] = BatchHistogram(made)
        return histogram

    def _meter(self) -> Meter:
        return meters.get(SCOPE, self._provider)


def _groups(numbers: Ints, *columns: Ints) -> Iterator[tuple[Any, ...]]:
    """Each number with the parts of the columns that are its own."""
    # numpy sorts 16 bits by radix, in a fifth of the time
    short = numbers.astype(np.uint16) if len(numbers) and int(numbers.max()) < 2**16 else numbers
    order = np.argsort(short, kind="stable")
    numbers = numbers[order]
    starts = group_starts(numbers)
    parts = [np.split(column[order], starts[1:]) for column in columns]
    if len(starts):
        yield from zip(numbers[starts].tolist(), *parts, strict=True)


def _longest_first(groups: Iterator[tuple[int, Ints]]) -> list[tuple[int, Ints]]:
    return sorted(groups, key=lambda group: int(group[1].sum()), reverse=True)
