"""The statistics of a file as points and events with the times of the recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ascend_opentelemetry.npu._scope import device_attributes
from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._collective import Collective, Transfer
from ascend_opentelemetry.npu.operators._statistics import BOUNDS_NS, Operator, Statistics, fold
from ascend_opentelemetry.npu.operators._window_event import Attributes, Event, window_event
from ascend_opentelemetry.npu.operators._windows import KEY, WINDOW, Ints, group_starts
from ascend_opentelemetry.npu.recordings import _samples
from ascend_opentelemetry.npu.recordings import _semconv as names
from ascend_opentelemetry.npu.recordings._content import Content
from ascend_opentelemetry.semconv.metrics import Metric

_NS = 1e9
BOUNDS = tuple(bound / _NS for bound in BOUNDS_NS)


@dataclass(frozen=True)
class Histogram:
    """In s; buckets are those of ``BOUNDS``."""

    count: int
    sum: float
    min: float
    max: float
    buckets: tuple[int, ...]


class Point(NamedTuple):
    """A value of a metric; times are ns since 1970."""

    metric: Metric
    attributes: Attributes
    start_ns: int
    time_ns: int
    value: int | float | Histogram


def points(content: Content, *, delta: bool = False, fallback_ns: int = 0) -> Iterator[Point]:
    """All points of a file.

    Args:
        content: of the file.
        delta: counters and histograms since the point before, not since the beginning of the recording.
        fallback_ns: time of what has none, statistics of operators.
    """
    rows, _ = fold(content.by_window.rows(), content.operator_keys)
    keys: Sequence[Any] = content.operator_keys.keys_by_number
    for window in _windows(rows, content.by_window, delta):
        attributes = _operator_attributes(keys[window.key])
        yield window.point(names.OPERATOR_COUNT, attributes, window.count)
        yield window.point(names.OPERATOR_TIME, attributes, window.total / _NS)
        yield window.point(names.OPERATOR_DURATION, attributes, window.histogram)
    for total in content.totals:
        attributes = _operator_attributes(Operator(total.type, total.core, total.device))
        yield Point(names.OPERATOR_COUNT, attributes, fallback_ns, fallback_ns, total.count)
        yield Point(names.OPERATOR_TIME, attributes, fallback_ns, fallback_ns, total.total / _NS)
    yield from _communication(content, delta)
    released = content.allocation_keys.keys_by_number
    for window in _windows(content.allocated.rows(), content.allocated, delta):
        done, device = released[window.key]
        attributes = ((names.RELEASED, done), *device_attributes(device))
        yield window.point(names.ALLOCATIONS, attributes, window.count)
        yield window.point(names.ALLOCATION_BYTES, attributes, window.amount)
    yield from _sampled(content)


def events(content: Content, file: str) -> Iterator[Event]:
    """The windows of operators, by time and by profiled step, and the recording itself.

    Args:
        content: of the file.
        file: its name.
    """
    for statistics, stepwise in ((content.by_window, False), (content.by_step, True)):
        keys = content.operator_keys.keys_by_number
        for rows in _by_window(statistics.rows()):
            devices: dict[str, list[list[int]]] = {}
            for row in sorted(rows.tolist(), key=lambda row: -row[columns.TOTAL]):
                devices.setdefault(keys[row[KEY]].device, []).append(row)
            step = int(rows[0, WINDOW]) if stepwise else None
            for device in sorted(devices):
                yield window_event(devices[device], keys, device, step)
    if span := _span(content):
        counts = (
            (names.RECORDING_OPERATORS, _count(content.by_window)),
            (names.RECORDING_COMMUNICATIONS, _count(content.collectives)),
        )
        duration = (names.RECORDING_DURATION, (span[1] - span[0]) / _NS)
        yield Event(names.EVENT_SESSION, span[0], ((names.RECORDING_FILE, file), duration, *counts))


def _by_window(rows: Ints) -> Iterator[Ints]:
    """The rows of each window: all of them as lists would take too much memory."""
    begins = group_starts(rows[:, WINDOW]).tolist()
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=False):
        yield rows[begin:end]


@dataclass(frozen=True)
class _Window:
    """Values of a key at the end of a window; ``since_start``: summed up since the start."""

    key: int
    start_ns: int
    time_ns: int
    count: int
    total: int
    amount: int
    histogram: Histogram
    window_total: int
    window_amount: int

    def point(self, metric: Metric, attributes: Attributes, value: int | float | Histogram) -> Point:
        return Point(metric, attributes, self.start_ns, self.time_ns, value)


def _windows(rows: Ints, statistics: Statistics, delta: bool) -> Iterator[_Window]:
    """Rows in the order of time, each added to those before of its key unless ``delta``."""
    if not len(rows):
        return
    begin, width = int(rows[:, columns.FIRST].min()), statistics.width_ns
    finish = int(rows[:, columns.LAST].max())
    sums: dict[int, Ints] = {}
    for row in rows:
        key = int(row[KEY])
        before = sums.get(key)
        whole = row.copy()
        if before is not None and not delta:
            whole[columns.COUNT : columns.MIN] += before[columns.COUNT : columns.MIN]
            whole[columns.MIN] = min(before[columns.MIN], row[columns.MIN])
            whole[columns.MAX] = max(before[columns.MAX], row[columns.MAX])
        sums[key] = whole
        opened, ended = int(row[WINDOW]) * width, (int(row[WINDOW]) + 1) * width
        numbers: list[int] = whole.tolist()
        histogram = Histogram(
            numbers[columns.COUNT],
            numbers[columns.TOTAL] / _NS,
            numbers[columns.MIN] / _NS,
            numbers[columns.MAX] / _NS,
            tuple(numbers[columns.HISTOGRAM : columns.MIN]),
        )
        times = max(begin, opened) if delta else begin, max(min(ended, finish), begin + 1)
        values = numbers[columns.COUNT], numbers[columns.TOTAL], numbers[columns.AMOUNT], histogram
        yield _Window(key, *times, *values, int(row[columns.TOTAL]), int(row[columns.AMOUNT]))


def _communication(content: Content, delta: bool) -> Iterator[Point]:
    collectives: Sequence[Collective] = content.collective_keys.keys_by_number
    for window in _windows(content.collectives.rows(), content.collectives, delta):
        operation, data_type, group, device = collectives[window.key]
        known = ((names.DATA_TYPE, data_type), (names.GROUP, group))
        attributes = (
            (names.OPERATION, operation),
            *(pair for pair in known if pair[1]),
            *device_attributes(device),
        )
        yield window.point(names.COMMUNICATION_DURATION, attributes, window.histogram)
        if window.amount:
            yield window.point(names.COMMUNICATION_BYTES, attributes, window.amount)
            yield from _rate(window, names.COMMUNICATION_BANDWIDTH, attributes)
    links: Sequence[Transfer] = content.transfer_keys.keys_by_number
    for window in _windows(content.transferred.rows(), content.transferred, delta):
        operation, link, group = links[window.key]
        attributes = ((names.OPERATION, operation), (names.LINK, link), *(((names.GROUP, group),) if group else ()))
        yield window.point(names.TRANSFER_BYTES, attributes, window.amount)
        yield from _rate(window, names.TRANSFER_BANDWIDTH, attributes)


def _rate(window: _Window, metric: Metric, attributes: Attributes) -> Iterator[Point]:
    if window.window_total and window.window_amount:
        yield window.point(metric, attributes, window.window_amount * _NS / window.window_total)


def _sampled(content: Content) -> Iterator[Point]:
    keys = content.sample_keys.keys_by_number
    begins: dict[int, int] = {}
    for line in content.sampled.rows():
        row: list[int] = line.tolist()
        key = keys[row[KEY]]
        begin = begins.setdefault(row[KEY], row[_samples.FIRST_NS])
        metric, time = names.SAMPLED[key.metric], row[_samples.LAST_NS]
        # the last sample says how much memory is used at the end of a window, but nothing of its traffic
        is_rate = metric is names.MEMORY_BANDWIDTH
        value = row[_samples.SUM] // row[_samples.SAMPLES] if is_rate else row[_samples.LAST_VALUE]
        yield Point(metric, key.attributes, begin, time, value)
        if metric is names.ALLOCATOR_MEMORY:
            yield Point(names.ALLOCATOR_PEAK, key.attributes, begin, time, row[_samples.MAX_VALUE])


def _operator_attributes(operator: Operator) -> Attributes:
    core = ((names.CORE_TYPE, operator.core),) if operator.core else ()
    return ((names.OPERATOR_TYPE, operator.type), *core, *device_attributes(operator.device))


def _span(content: Content) -> tuple[int, int] | None:
    """The earliest and the latest time of operators and collectives."""
    parts = [rows for rows in (content.by_window.rows(), content.collectives.rows()) if len(rows)]
    if not parts:
        return None
    return min(int(rows[:, columns.FIRST].min()) for rows in parts), max(
        int(rows[:, columns.LAST].max()) for rows in parts
    )


def _count(statistics: Statistics) -> int:
    return int(statistics.rows()[:, columns.COUNT].sum())
