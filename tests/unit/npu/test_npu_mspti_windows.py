"""Which forward an operator belongs to, and what becomes of a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from ascend_opentelemetry.npu import _events
from ascend_opentelemetry.npu.mspti._library import EXTERNAL_KIND, Library
from ascend_opentelemetry.npu.mspti._operators import MsptiOperators
from ascend_opentelemetry.npu.mspti._records import Names
from ascend_opentelemetry.npu.operators._live import OperatorWindows
from ascend_opentelemetry.npu.operators._metrics import OperatorMetrics
from ascend_opentelemetry.npu.operators._statistics import Operator, Statistics
from ascend_opentelemetry.recorder import Forward, Forwards
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti
from tests.unit.npu.mspti import Events, Metrics, session

S = 10**9
T = 1_790_000_000 * S
MS = 10**6


@pytest.fixture
def forwards() -> Forwards:
    return Forwards()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def windows(forwards: Forwards, metrics: Metrics, events: Events) -> OperatorWindows:
    return OperatorWindows(OperatorMetrics(metrics.provider), events.emit, forwards.ended_after)


def forward(start: int, end: int, span_id: int = 1) -> Forward:
    return Forward(T + start, T + end, (0xABC, span_id, 7, 1))


def key(windows: OperatorWindows, name: str = "Add", device: str = "0") -> int:
    return windows.keys[name, None, "AI_CORE", device]


def shown(events: Events) -> list[tuple[Any, ...]]:
    return [(event.ids and event.ids[1], event.attributes["npu.operator.count"], event.time_ns - T) for event in events]


def test_an_operator_is_in_the_window_of_the_forward_that_launched_it_or_of_its_second(
    windows, forwards, events
) -> None:
    forwards.end(forward(100 * MS, 110 * MS, 5))
    forwards.end(forward(120 * MS, 130 * MS, 6))
    add = key(windows)
    launches = [50 * MS, 105 * MS, 110 * MS + 9000, 115 * MS, 120 * MS - 9000, 125 * MS, 1500 * MS]
    starts = [T + launch + 20 * MS for launch in launches]
    windows.add([add] * 7, starts, [1000] * 7, [T + launch for launch in launches])
    windows.settle(T + 3 * S)
    assert shown(events) == [
        (None, 2, 70 * MS), (None, 1, 1520 * MS), (5, 2, 125 * MS), (6, 2, 140 * MS - 9000),
    ]  # fmt: skip
    assert [event.ids for event in events][2] == (0xABC, 5, 7, 1)
    assert sum(event.attributes["npu.operator.count"] for event in events) == 7


def test_what_the_library_says_of_a_span_wins_over_times(windows, forwards, events) -> None:
    forwards.end(forward(100 * MS, 110 * MS, 2**64 - 5))
    forwards.end(forward(120 * MS, 130 * MS, 6))
    add = key(windows)
    spans = np.asarray([2**64 - 5, 0, 99, 6], dtype=np.uint64)
    windows.add([add] * 4, [T + 150 * MS] * 4, [1000] * 4, [T + launch * MS for launch in (125, 125, 500, 500)], spans)
    windows.settle(T + 3 * S)
    assert shown(events) == [(None, 1, 150 * MS), (2**64 - 5, 1, 150 * MS), (6, 2, 150 * MS)]


def test_a_window_is_told_when_it_is_over_and_late_operators_are_not_lost(windows, forwards, events) -> None:
    add = key(windows)
    forwards.end(forward(100 * MS, 110 * MS))
    windows.add([add], [T + 105 * MS], [1000])
    windows.add([add], [T + 205 * MS], [1000])
    windows.settle(T + 109 * MS)
    assert shown(events) == []
    windows.settle(T + 111 * MS)
    assert shown(events) == [(1, 1, 105 * MS)]
    windows.settle(T + S)
    assert shown(events) == [(1, 1, 105 * MS), (None, 1, 205 * MS)]
    windows.add([add, add], [T + 106 * MS, T + S], [1000, 1000])
    windows.settle(T + 9 * S)
    assert shown(events)[2:] == [(None, 1, 106 * MS), (None, 1, S)]
    assert windows.events == 4


def test_an_event_lists_the_ten_longest_operators_of_a_device(windows, events) -> None:
    keys = [key(windows, f"Op{chr(65 + number)}") for number in range(12)]
    windows.add(keys, [T + number for number in range(12)], [1000 * (number + 1) for number in range(12)])
    windows.add([key(windows, "OpA"), key(windows, "OpA", "3")], [T + 20, T + 30], [500, 70])
    windows.settle(T + S)
    first, second = events
    assert first.name == "npu.operator.window"
    assert first.attributes == {
        "hw.id": "npu-0", "npu.window.duration": (11 + 12_000) / S, "npu.operator.count": 13,
        "npu.operator.time": 78_500 / S,
    }  # fmt: skip
    listed = first.body["operators"]
    assert [one["type"] for one in listed] == [f"Op{letter}" for letter in "LKJIHGFEDC"]
    assert listed[0] == {"type": "OpL", "core": "AI_CORE", "count": 1, "time": 12e-6, "max": 12e-6}
    assert second.attributes["hw.id"] == "npu-3"
    assert second.body["operators"][0]["count"] == 1


def test_metrics_have_100_series_and_one_for_the_rest_whatever_comes(windows, metrics) -> None:
    for begin in (0, 60, 120):
        numbers = range(begin, begin + 60)
        windows.add(
            [key(windows, f"Op{number}x") for number in numbers], [T] * 60, [1000 + number for number in numbers]
        )
    counts = metrics.values("npu.operator.count")
    assert len(counts) == 101
    assert counts["npu-0", "__other__"] == 80
    assert sum(counts.values()) == 180
    assert ("npu-0", "AI_CORE", "Op119x") in counts
    assert ("npu-0", "AI_CORE", "Op60x") not in counts
    assert sum(point.count for point in metrics.points("npu.operator.duration").values()) == 180


def test_who_is_told_of_a_forward_is_told_of_its_end_and_no_other(forwards) -> None:
    told: list[Any] = []

    class Watcher:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, span_id: int) -> None:
            told.append((self.name, span_id))

        def end(self) -> None:
            told.append((self.name, "end"))

    forwards.begin(1)
    forwards.watcher = Watcher("first")
    forwards.end(forward(100 * MS, 110 * MS, 1))
    forwards.begin(2)
    forwards.watcher = None
    forwards.end(forward(110 * MS, 120 * MS, 2))
    assert told == [("first", 2), ("first", "end")]


def test_operators_of_too_many_forwards_at_a_time_are_metrics_and_counted(windows, forwards, metrics) -> None:
    windows._by_forward = Statistics(max_rows=4)
    for number in range(10):
        forwards.end(forward(number * MS, number * MS + 1000, number + 1))
    starts = [T + number * MS + 100 for number in range(10)]
    windows.add([windows.keys["a", None, "", "0"]] * 10, starts, [50] * 10)
    assert windows.left_out == 8
    assert windows.told == 0
    windows.settle(T + S)
    assert windows.told == 2
    assert list(metrics.values("npu.operator.count").values()) == [10]


def test_forwards_are_numbered_anew_for_as_long_as_the_process_runs(windows, forwards, events) -> None:
    add = key(windows)
    for number in range(1, 10_001, 4):
        forwards.end(forward(number * MS, number * MS + 1000, number))
        windows.add([add], [T + number * MS], [10])
        windows.settle(T + number * MS)
    windows.settle(T + 20 * S)
    assert [event.ids[1] for event in events] == list(range(1, 10_001, 4))
    assert len(windows._numbers) <= 8192
    assert windows._forwards == {}


def test_an_event_goes_out_with_trace_and_span_of_the_forward() -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("test")
    original = _events.get_logger
    try:
        _events.get_logger = lambda *_: logger  # type: ignore[assignment]
        _events.emit(
            "npu.operator.window", T, {"a": 1}, body={"operators": [{"type": "Add"}]}, ids=(0xABC, 5, 7, 0x301)
        )
        _events.emit("npu.operator.window", T, {})
    finally:
        _events.get_logger = original
    first, second = (one.log_record for one in exporter.get_finished_logs())
    assert (first.event_name, first.timestamp) == ("npu.operator.window", T)
    assert (first.trace_id, first.span_id, int(first.trace_flags)) == (0xABC, 5, 1)
    assert first.body == {"operators": [{"type": "Add"}]}
    assert (second.trace_id, second.span_id) == (0, 0)


class Bench:
    """A library, and operators fed from it."""

    def __init__(self, folder: Path, windows: OperatorWindows, forwards: Forwards) -> None:
        self.stand_in = MsptiStandIn(build_mspti(folder), T)
        self.library = Library(self.stand_in.path)
        self._session, _ = session(Path(self.stand_in.path))
        self.operators = MsptiOperators(windows, Names(), forwards.ended_after)
        self.now = T + 10 * S

    def read(self) -> None:
        self._session.flush()
        for records in self._session.read():
            self.operators.take(records, self.now)

    def finish(self) -> None:
        self.read()
        self.operators.settle(self.now, all_=True)


@pytest.fixture
def bench(tmp_path: Path, windows: OperatorWindows, forwards: Forwards) -> Bench:
    return Bench(tmp_path, windows, forwards)


def test_a_kernel_belongs_to_the_forward_in_which_its_first_api_call_was(bench, forwards, events) -> None:
    forwards.end(forward(100 * MS, 110 * MS, 5))
    bench.stand_in.kernel(130 * MS, 1000, "Add", id_=1)
    bench.read()
    bench.stand_in.api(90 * MS, 10, "launch before", id_=2)
    bench.stand_in.api(105 * MS, 10, "synchronize, with the id of the launch before", id_=2)
    bench.stand_in.api(105 * MS, 10, "launch", id_=1)
    bench.stand_in.kernel(140 * MS, 1000, "Mul", id_=2)
    bench.finish()
    assert shown(events) == [(None, 1, 140 * MS), (5, 1, 130 * MS)]
    assert bench.operators._launches.lag_ns in (25 * MS, 50 * MS)


def test_replays_of_a_graph_go_by_the_lag_of_others(bench, forwards, events) -> None:
    forwards.end(forward(100 * MS, 110 * MS, 5))
    bench.stand_in.api(80 * MS, 10, "capture", id_=7)
    bench.stand_in.api(105 * MS, 10, "launch", id_=1)
    bench.stand_in.kernel(105 * MS + 20 * MS, 1000, "Add", id_=1)
    for start in (90, 122, 128, 170):
        bench.stand_in.kernel(start * MS, 1000, "Replayed", id_=7)
    bench.finish()
    assert bench.operators._launches.lag_ns == 20 * MS
    assert shown(events) == [(None, 2, 90 * MS), (5, 3, 122 * MS)]


def test_an_external_id_puts_a_kernel_into_its_forward_whatever_the_times_say(bench, forwards, events) -> None:
    forwards.end(forward(100 * MS, 110 * MS, 5))
    bench.library.begin(5)
    bench.stand_in.api(115 * MS, 10, "launch", id_=1)
    bench.library.end()
    bench.stand_in.api(116 * MS, 10, "launch", id_=2)
    bench.library._push(EXTERNAL_KIND - 1, 5)  # somebody else's
    bench.stand_in.api(117 * MS, 10, "launch", id_=3)
    for id_ in (1, 2, 3):
        bench.stand_in.kernel((120 + id_) * MS, 1000, "Add", id_=id_)
    bench.finish()
    assert shown(events) == [(None, 2, 122 * MS), (5, 1, 121 * MS)]


def test_kernels_wait_for_the_end_of_their_forward(bench, forwards, events) -> None:
    bench.stand_in.api(105 * MS, 10, "launch", id_=1)
    bench.stand_in.kernel(106 * MS, 1000, "Add", id_=1)
    bench.now = T + 200 * MS
    bench.read()
    bench.operators.settle(T + 900 * MS)
    forwards.end(forward(100 * MS, 1000 * MS, 5))
    bench.operators.settle(T + 1300 * MS)
    assert shown(events) == []
    assert bench.operators.waiting == 1, "what a worker that is killed takes with it"
    bench.operators.settle(T + 4 * S)
    assert shown(events) == [(5, 1, 106 * MS)]
    assert bench.operators.waiting == 0


def test_collectives_copies_and_allocations_are_metrics(bench, metrics, monkeypatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libmspti.so")
    bench.finish()
    for kind in (5, 7):
        bench.library._functions["ActivityEnable"](kind)
    bench.stand_in.communication(10, 2000, "hcom_allReduce__210_0_1", 1000, 3, "192.0.2.1%eth0")
    bench.stand_in.communication(20, 4000, "hcom_allReduce__210_1_1", 24, 11, "192.0.2.1%eth0")
    bench.stand_in.communication(30, 4000, "hcom_broadcast_", 24, 0xFFFF, "")
    bench.stand_in.memcpy(40, 3000, 4096, 2)
    bench.stand_in.memcpy(50, 3000, 4096, 99)
    bench.stand_in.memory(60, 2**21, 0)
    bench.stand_in.memory(70, 2**21, 1)
    bench.finish()
    found = {key[1:]: value for key, value in metrics.values("npu.communication.io").items()}
    groups = {key[2] for key in metrics.values("npu.communication.io") if len(key) == 4}
    assert len(groups) == 1
    assert not any("192" in group for group in groups)
    assert sorted(found.values()) == [0, 48, 2000]
    durations = metrics.points("npu.communication.duration")
    assert sorted(point.sum for point in durations.values()) == pytest.approx([2e-6, 4e-6, 4e-6])
    assert metrics.values("npu.memcpy.io") == {("npu-0", "h2d"): 4096, ("npu-0", "unknown"): 4096}
    assert metrics.points("npu.memcpy.duration")["npu-0", "h2d"].sum == pytest.approx(3e-6)
    assert metrics.values("npu.memory.operations") == {("npu-0", "allocate"): 1, ("npu-0", "release"): 1}
    assert metrics.values("npu.memory.operation.size")["npu-0", "release"] == 2**21
    assert bench.operators.taken == {"COMMUNICATION": 3, "MEMCPY": 2, "MEMORY": 2}


def test_core_types_have_the_names_of_recordings(bench, metrics) -> None:
    for type_ in ("KERNEL_AICORE", "KERNEL_AIVEC", "KERNEL_MIX_AIC", "KERNEL_AICPU", "PLACE_HOLDER", None):
        bench.stand_in.kernel(1, 10, "Add", type_)
    bench.finish()
    assert set(metrics.values("npu.operator.count")) == {
        ("npu-0", "AI_CORE", "Add"), ("npu-0", "AI_VECTOR_CORE", "Add"), ("npu-0", "MIX_AIC", "Add"),
        ("npu-0", "AI_CPU", "Add"), ("npu-0", "PLACE_HOLDER", "Add"), ("npu-0", "Add"),
    }  # fmt: skip


def test_an_operator_that_ends_before_it_begins_took_no_time(bench, metrics) -> None:
    bench.stand_in.kernel(1000, -500, "Add")
    bench.finish()
    assert metrics.values("npu.operator.time") == {("npu-0", "AI_VECTOR_CORE", "Add"): 0}
    assert bench.operators.windows.keys.keys_by_number == [Operator("Add", "AI_VECTOR_CORE", "0")]
