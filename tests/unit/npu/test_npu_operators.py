from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_opentelemetry.npu.operators import _statistics as columns
from ascend_opentelemetry.npu.operators._statistics import BOUNDS_NS, OTHER, Keys, Operator, Statistics, by_key, fold
from ascend_opentelemetry.npu.operators._windows import KEY, WINDOW
from ascend_opentelemetry.npu.recordings._samples import LAST_NS, LAST_VALUE, MAX_VALUE, SAMPLES, Samples

SECOND = 10**9


def slow(records, width):
    """The same sums, one record at a time."""
    found: dict[tuple[int, int], list[int]] = {}
    for key, start, duration, amount in records:
        row = found.setdefault((start // width, key), [0, 0, 0, duration, start, duration, start + duration])
        row[0] += 1
        row[1] += duration
        row[2] += amount
        row[3] = min(row[3], duration)
        row[4] = min(row[4], start)
        row[5] = max(row[5], duration)
        row[6] = max(row[6], start + duration)
    return found


record = st.tuples(
    st.integers(0, 5), st.integers(10**18, 10**18 + 5 * SECOND), st.integers(0, SECOND), st.integers(0, 10**6)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(record, max_size=30), max_size=6))
def test_batches_give_the_sums_of_their_records(batches) -> None:
    statistics = Statistics(SECOND, max_rows=8)
    for batch in batches:
        statistics.add(*zip(*batch, strict=True)) if batch else statistics.add([], [], [])
    every = [one for batch in batches for one in batch]
    rows = statistics.rows()
    expected = slow(every, statistics.width_ns)
    chosen = [columns.COUNT, columns.TOTAL, columns.AMOUNT, columns.MIN, columns.FIRST, columns.MAX, columns.LAST]
    assert {(row[WINDOW], row[KEY]): row[chosen].tolist() for row in rows} == expected
    assert [(row[WINDOW], row[KEY]) for row in rows] == sorted(expected)


def test_the_histogram_has_inclusive_upper_bounds() -> None:
    statistics = Statistics()
    durations = [0, *BOUNDS_NS, *(bound + 1 for bound in BOUNDS_NS)]
    statistics.add([0] * len(durations), [0] * len(durations), durations)
    assert statistics.rows()[0, columns.HISTOGRAM : columns.MIN].tolist() == [2] * 16 + [1]


def test_too_many_windows_get_wider_and_lose_nothing() -> None:
    statistics = Statistics(SECOND, max_rows=100)
    for second in range(1000):
        statistics.add([0, 1], [second * SECOND] * 2, [7, 9])
    rows = statistics.rows()
    assert statistics.width_ns > SECOND
    assert len(rows) <= 100
    assert set(rows[:, WINDOW]) == {second * SECOND // statistics.width_ns for second in range(1000)}
    assert by_key(rows)[:, columns.TOTAL].tolist() == [7000, 9000]
    assert statistics.left_out == 0


def test_too_many_numbered_windows_are_counted_and_left_out() -> None:
    statistics = Statistics(max_rows=100)
    for step in range(1000):
        statistics.add([0], [step], [1], windows=[step])
    kept = int(statistics.rows()[:, columns.COUNT].sum())
    assert 0 < kept <= 100
    assert statistics.left_out == 1000 - kept


@pytest.mark.parametrize("width", [0, SECOND])
def test_more_keys_than_rows_are_allowed_are_kept_in_one_window(width) -> None:
    statistics = Statistics(width, max_rows=10)
    for _ in range(3):
        statistics.add(range(100), [SECOND // 2] * 100, [1] * 100)
    assert statistics.rows()[:, columns.COUNT].tolist() == [3] * 100
    assert statistics.left_out == 0


def test_take_begins_anew() -> None:
    statistics = Statistics()
    statistics.add([3], [5], [10])
    assert statistics.take()[:, KEY].tolist() == [3]
    assert statistics.take().shape == (0, columns.LAST + 1)


def test_a_time_beyond_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        Statistics().add([0], [2**63], [1])


def test_a_key_has_one_number_however_it_was_recorded() -> None:
    keys = Keys(Operator.of)
    numbers = [keys[raw] for raw in (("trans_TransData_0", "N/A", "A", "0"), ("trans_TransData_1", None, "A", "0"))]
    assert numbers == [0, 0]
    assert keys["trans_TransData_0", "N/A", "A", "1"] == 1
    assert keys.keys_by_number == [Operator("TransData", "A", "0"), Operator("TransData", "A", "1")]


def test_names_without_end_do_not_stay_in_memory() -> None:
    keys = Keys(Operator.of)
    for number in range(70_000):
        assert keys[f"hcom_x_{number}", "T", "A", ""] == 0
    assert len(keys) <= 65_536


def made(totals):
    keys, statistics = Keys(Operator.of), Statistics()
    for name, total in totals.items():
        statistics.add([keys[name, None, "CORE", "0"]], [0], [total])
    return statistics.rows(), keys


def test_series_beyond_the_limit_become_one() -> None:
    rows, keys = made({f"Op{chr(65 + number)}": 100 - number for number in range(10)})
    folded, stay = fold(rows, keys, limit=3)
    shown = {keys.keys_by_number[row[KEY]].type: (row[columns.COUNT], row[columns.TOTAL]) for row in folded}
    assert shown == {"OpA": (1, 100), "OpB": (1, 99), "OpC": (1, 98), OTHER: (7, sum(range(91, 98)))}
    assert stay == {("OpA", "CORE"), ("OpB", "CORE"), ("OpC", "CORE")}


def test_a_series_stays_until_another_takes_much_longer() -> None:
    kept = {("OpA", "CORE")}
    assert fold(*made({"OpA": 100, "OpB": 149}), limit=1, kept=kept)[1] == kept
    assert fold(*made({"OpA": 100, "OpB": 151}), limit=1, kept=kept)[1] == {("OpB", "CORE")}


def test_the_limit_does_not_count_devices() -> None:
    keys, statistics = Keys(Operator.of), Statistics()
    for device in range(8):
        statistics.add([keys["A", None, "C", str(device)], keys["B", None, "C", str(device)]], [0, 0], [2, 1])
    folded, _ = fold(statistics.rows(), keys, limit=1)
    assert len(folded) == 16
    others = [keys.keys_by_number[row[KEY]].device for row in folded if keys.keys_by_number[row[KEY]].type == OTHER]
    assert sorted(others) == list("01234567")


def test_samples_keep_the_last_and_the_largest_value_of_a_window() -> None:
    values = [(0, 5, 10), (0, 900, 7), (0, 400, 99), (1, 500, 3), (0, 1001, 1)]
    random.Random(3).shuffle(values)
    samples = Samples(1000)
    for key, time, value in values:
        samples.add([key], [time], [value])
    rows = samples.rows()[:, [WINDOW, KEY, SAMPLES, LAST_NS, LAST_VALUE, MAX_VALUE]]
    assert rows.tolist() == [[0, 0, 3, 900, 7, 99], [0, 1, 1, 500, 3, 3], [1, 0, 1, 1001, 1, 1]]
