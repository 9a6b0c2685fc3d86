"""Buffers of the stand-in as arrays: every field, any length of record, whatever is in between."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ascend_opentelemetry.npu.mspti import _buffers
from ascend_opentelemetry.npu.mspti._library import Kind, Library, LibraryError, load, preload_line
from ascend_opentelemetry.npu.mspti._records import FIELDS, Bytes, Names, Numbers, Reader
from ascend_opentelemetry.npu.mspti._session import MsptiSession
from tests.support.npu_stand_in.mspti import MsptiStandIn, build_mspti
from tests.unit.npu.mspti import session

BASE = 1_790_000_000_123_456_789


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return build_mspti(tmp_path)


@pytest.fixture
def stand_in(library: Path) -> MsptiStandIn:
    return MsptiStandIn(library, BASE)


def read(opened: MsptiSession) -> dict[Kind, list[dict[str, int]]]:
    opened.flush()
    found: dict[Kind, list[dict[str, int]]] = {}
    for records in opened.read():
        for kind, rows in records.items():
            names = rows.dtype.names or ()
            found.setdefault(kind, []).extend(dict(zip(names, row, strict=True)) for row in rows.tolist())
    return found


def text(pointer: int) -> str:
    names = Names()
    return names.texts[names.of(np.asarray([pointer], dtype=np.uint64))[0]]


def test_fields_lie_where_the_header_says_and_are_as_long() -> None:
    lengths = {"<u4": 4, "<u8": 8}
    for kind, fields in FIELDS.items():
        taken = sorted((offset, offset + lengths[format_]) for format_, offset in fields.values())
        assert all(end <= begin for (_, end), (begin, _) in pairwise(taken)), kind
        assert taken[0][0] >= 4
    ends = {
        kind: max(offset + lengths[format_] for format_, offset in fields.values()) for kind, fields in FIELDS.items()
    }
    assert ends == {
        Kind.MARKER: 52, Kind.KERNEL: 52, Kind.API: 44, Kind.MEMORY: 60, Kind.MEMCPY: 36,
        Kind.EXTERNAL_CORRELATION: 24, Kind.COMMUNICATION: 72,
    }  # fmt: skip


def test_every_field_of_every_kind_comes_back(library, stand_in, monkeypatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/opt/libmspti.so")
    opened, reader = session(library)
    assert set(opened.results.values()) == {0}
    stand_in.kernel(5, 700, "aclnnAdd_Add", "KERNEL_AIVEC", device=3, id_=2**63 + 1)
    stand_in.api(1, 2, "aclnnAdd", id_=9, thread=4711)
    stand_in.communication(7, 80, "hcom_allReduce__1_0", 1024, 3, "group")
    stand_in.memcpy(100, 10, 2**33, 2)
    stand_in.memory(200, 512, 1)
    stand_in.marker(2, 0, 300, 5, None)
    found = read(opened)
    (kernel,), (api,), (collective,) = found[Kind.KERNEL], found[Kind.API], found[Kind.COMMUNICATION]
    assert (text(kernel.pop("type")), text(kernel.pop("name"))) == ("KERNEL_AIVEC", "aclnnAdd_Add")
    assert kernel == {"start": BASE + 5, "end": BASE + 705, "device": 3, "stream": 7, "correlation": 2**63 + 1}
    assert text(api.pop("name")) == "aclnnAdd"
    assert api.pop("process") > 0
    assert api == {"start": BASE + 1, "end": BASE + 3, "thread": 4711, "correlation": 9}
    assert (text(collective.pop("name")), text(collective.pop("group"))) == ("hcom_allReduce__1_0", "group")
    assert collective == {
        "data_type": 3, "count": 1024, "device": 0, "stream": 9, "start": BASE + 7, "end": BASE + 87, "correlation": 77,
    }  # fmt: skip
    assert found[Kind.MEMCPY] == [{"copy": 2, "bytes": 2**33, "start": BASE + 100, "end": BASE + 110, "device": 0}]
    (memory,) = found[Kind.MEMORY]
    assert memory == {"operation": 1, "start": BASE + 200, "end": BASE + 210, "bytes": 512, "device": 0}
    (marker,) = found[Kind.MARKER]
    assert (marker["flag"], marker["source"], marker["time"], marker["id"]) == (2, 0, BASE + 300, 5)
    assert text(marker["name"]) == ""
    assert reader.unreadable == 0


def test_an_external_id_is_that_of_the_thread_which_has_pushed_it(library, stand_in) -> None:
    opened, _ = session(library)
    calls = Library(str(library))
    calls.begin(2**63 + 5)
    stand_in.api(1, 2, "inside", id_=9)
    other = threading.Thread(target=stand_in.api, args=(1, 2, "elsewhere", 10))
    other.start()
    other.join()
    calls.end()
    stand_in.api(1, 2, "after", id_=11)
    assert read(opened)[Kind.EXTERNAL_CORRELATION] == [{"external_kind": 4, "external": 2**63 + 5, "correlation": 9}]


def test_none_of_many_records_of_any_mixture_is_lost(library, stand_in, monkeypatch) -> None:
    monkeypatch.setattr(_buffers, "SIZE", 4096)
    opened, reader = session(library)
    asked = count_calls(monkeypatch, opened)
    kinds = [Kind.KERNEL] * 40 + [Kind.API, Kind.KERNEL] * 30 + [Kind.API] * 9 + [Kind.MARKER] + [Kind.KERNEL] * 9
    for number, kind in enumerate(kinds):
        if kind is Kind.KERNEL:
            stand_in.kernel(number, 1, "k", id_=number)
        elif kind is Kind.API:
            stand_in.api(number, 1, "a", id_=number)
        else:
            stand_in.marker(1, 0, number, number, "m")
    found = read(opened)
    for kind, key in ((Kind.KERNEL, "correlation"), (Kind.API, "correlation"), (Kind.MARKER, "id")):
        assert sorted(row[key] for row in found[kind]) == [number for number, one in enumerate(kinds) if one is kind]
    assert reader.unreadable == 0
    assert len(asked) == 3, "once a kind, not a record"


SIZES = {Kind.MARKER: 7, Kind.KERNEL: 7, Kind.API: 6, Kind.EXTERNAL_CORRELATION: 3, Kind.COMMUNICATION: 9}


def mixture(random: np.random.Generator, kinds: Sequence[Kind], below: int) -> tuple[Bytes, dict[int, list[int]]]:
    """A buffer of records with random numbers that look like kinds where they are low; offsets in words by kind."""
    words: list[int] = []
    expected: dict[int, list[int]] = {}
    for kind in kinds:
        expected.setdefault(kind, []).append(len(words))
        record = np.zeros(8 * SIZES[kind], dtype=np.uint8)
        record[:4].view("<u4")[:] = kind
        for name, (format_, offset) in FIELDS[kind].items():
            value = BASE + len(words) if name in ("start", "end", "time") else random.integers(below)
            record[offset : offset + np.dtype(format_).itemsize].view(format_)[:] = value
        words += record.view("<u8").tolist()
    return np.asarray(words, dtype=np.uint64).view(np.uint8), expected


def count_calls(monkeypatch: pytest.MonkeyPatch, opened: MsptiSession) -> list[int]:
    """Buffers that the library is to go through from now on."""
    library = opened._library
    records = library.records
    calls: list[int] = []

    def counted(address: int, valid: int) -> Iterator[int]:
        calls.append(address)
        return records(address, valid)

    monkeypatch.setattr(library, "records", counted)
    return calls


def is_guessed(reader: Reader, buffer: Bytes) -> bool:
    """Whether all records are found at once."""
    halves = buffer.view(np.uint32)
    return reader._guess(halves, halves[::2]) is not None


@pytest.mark.parametrize(("below", "at_once"), [(1, True), (10, False), (70, False), (2**31, True)])
def test_records_are_found_at_once_or_one_by_one_whatever_numbers_are_in_them(library, below, at_once) -> None:
    opened, reader = session(library)
    opened.let_go()
    reader._strides = {kind: 8 * size for kind, size in SIZES.items()}
    random = np.random.default_rng(below)
    mixtures = [mixture(random, random.choice(np.asarray(list(SIZES)), 60).tolist(), below) for _ in range(8)]
    for buffer, expected in mixtures:
        found = reader._walk(buffer, len(buffer))
        assert {kind: words.tolist() for kind, words in found.items()} == expected
        # cut inside of a record, it holds those before, and what is left of that one is counted
        for word in [word for words in expected.values() for word in words]:
            for more in (4, 8):
                reader.unreadable = 0
                found = reader._walk(buffer, 8 * word + more)
                before = {kind: [one for one in words if one < word] for kind, words in expected.items()}
                assert {kind: words.tolist() for kind, words in found.items()} == {k: v for k, v in before.items() if v}
                assert reader.unreadable == more
    assert all(is_guessed(reader, buffer) for buffer, _ in mixtures) is at_once


@pytest.mark.parametrize("kind", list(SIZES))
def test_records_of_one_kind_are_found_at_once(library, kind) -> None:
    opened, reader = session(library)
    opened.let_go()
    for _ in range(2):  # their length is asked for once
        buffer, _ = mixture(np.random.default_rng(1), [kind] * 20, 2**31)
        assert [len(rows) for rows in reader.read(buffer, len(buffer)).values()] == [20]
    assert is_guessed(reader, buffer)
    assert reader._strides == {kind: 8 * SIZES[kind]}


def test_streams_whose_numbers_are_kinds_do_not_slow_the_reader_down(library, stand_in, monkeypatch) -> None:
    """The stream of the stand-in is 7, the kind of a copy."""
    monkeypatch.setenv("LD_PRELOAD", "libmspti.so")
    opened, reader = session(library)
    for _ in range(2):  # lengths are asked for once
        for number in range(50):
            stand_in.api(number, 1, "a", id_=number)
            stand_in.kernel(number, 1, "k", id_=number)
        stand_in.memcpy(60, 1, 8, 2)
        opened.flush()
        filled = opened._buffers.take()
        assert filled is not None
        assert len(reader.read(*filled)[Kind.KERNEL]) == 50
    buffer = filled[0][: filled[1]]
    assert np.count_nonzero(buffer.view(np.uint32)[::2] == Kind.MEMCPY) > 50
    assert is_guessed(reader, buffer)


def test_the_length_of_a_kind_with_a_high_number_is_of_no_consequence(library) -> None:
    opened, reader = session(library)
    opened.let_go()
    buffer, _ = mixture(np.random.default_rng(1), [Kind.KERNEL] * 20, 2**31)
    reader._strides = {70: 64}
    assert len(reader.read(buffer, len(buffer))[Kind.KERNEL]) == 20


@pytest.mark.parametrize(("size", "id_"), [(64, 0), (96, 77)])
def test_shorter_and_longer_records_are_read_as_far_as_they_go(library, stand_in, size, id_) -> None:
    stand_in.set_size(Kind.COMMUNICATION, size)
    opened, reader = session(library)
    for number in range(3):
        stand_in.communication(number, 5, "hcom_broadcast_", 8, 4, "g")
        stand_in.kernel(number, 5, "k", id_=number)
    found = read(opened)
    assert [(row["start"], row["count"], row["correlation"]) for row in found[Kind.COMMUNICATION]] == [
        (BASE + number, 8, id_) for number in range(3)
    ]
    assert len(found[Kind.KERNEL]) == 3
    assert reader.unreadable == 0


def test_a_record_that_ends_too_early_is_left_out_and_counted_once(library, stand_in, caplog) -> None:
    opened, reader = session(library)
    for round_ in range(2):
        for number in range(3):
            stand_in.kernel(number, 5, "k", id_=number)
        stand_in.set("truncate", 12)
        assert [row["correlation"] for row in read(opened)[Kind.KERNEL]] == [0, 1]
        assert reader.unreadable == (round_ + 1) * 44
        stand_in.set("truncate", 0)
    stand_in.kernel(9, 5, "k", id_=9)
    assert [row["correlation"] for row in read(opened)[Kind.KERNEL]] == [9]
    assert caplog.messages == [
        f"{library}: 44 bytes of a buffer hold no whole record; they are left out, and so are later ones"
    ]


@pytest.mark.parametrize("rest", [56, 40, 4])
def test_a_first_record_with_no_other_behind_it_says_nothing_of_the_length_of_its_kind(library, rest) -> None:
    opened, reader = session(library)
    opened.let_go()
    buffer, _ = mixture(np.random.default_rng(1), [Kind.KERNEL] * 100, 2**31)
    first = np.append(buffer[:56], np.zeros(rest, dtype=np.uint8))
    assert [len(rows) for rows in reader.read(first, len(first)).values()] == [1]
    assert reader.unreadable == rest
    assert len(reader.read(buffer, len(buffer))[Kind.KERNEL]) == 100
    assert (reader.unreadable, reader._strides) == (rest, {Kind.KERNEL: 56})


@pytest.mark.parametrize("size", [24, 52])
def test_a_lone_record_that_is_cut_is_left_out_and_counted(library, size) -> None:
    opened, reader = session(library)
    opened.let_go()
    buffer, _ = mixture(np.random.default_rng(1), [Kind.KERNEL], 2**31)
    assert reader.read(buffer, size) == {}
    assert reader.unreadable == size


class OfOneThread:
    """The walk of the vendor's library: an unknown kind leaves the position of the thread where it is."""

    path = "libmspti.so"

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def records(self, address: int, valid: int) -> Iterator[int]:
        while (position := getattr(self._of_thread, "position", 0)) < valid:
            kind = ctypes.c_uint32.from_address(address + position).value
            if kind not in SIZES:
                return
            self._of_thread.position = position + 8 * SIZES[Kind(kind)]
            yield address + position
        self._of_thread.position = 0


def test_a_buffer_that_breaks_off_does_not_spoil_the_next_ones() -> None:
    reader = Reader(OfOneThread())  # type: ignore[arg-type]
    good, _ = mixture(np.random.default_rng(1), [Kind.API, Kind.KERNEL] * 50, 2**31)
    for cut, kernels in ((len(good), 50), (3 * 104, 3), (len(good), 50)):
        bad = np.append(good[:cut], np.full(56, 255, dtype=np.uint8))
        reader.unreadable = 0
        assert len(reader.read(bad, len(bad))[Kind.KERNEL]) == kernels
        assert reader.unreadable == 56
    more, _ = mixture(np.random.default_rng(1), [Kind.MARKER] * 3, 2**31)
    assert len(reader.read(more, len(more))[Kind.MARKER]) == 3


def test_a_buffer_that_is_no_list_of_records_gives_none(library, stand_in) -> None:
    _, reader = session(library)
    buffer = np.frombuffer(bytes(range(200)), dtype=np.uint8)
    assert {kind: len(rows) for kind, rows in reader.read(buffer, 200).items()} == {}
    assert reader.unreadable == 200
    assert reader.read(buffer, 0) == {}


def test_buffers_are_used_again_and_are_not_more_than_allowed(library, stand_in, monkeypatch) -> None:
    monkeypatch.setattr(_buffers, "SIZE", 4096)
    monkeypatch.setattr(_buffers, "MOST", 3)
    opened, _ = session(library)
    for _ in range(10):
        stand_in.produce(1, 100)
        assert len(read(opened)[Kind.KERNEL]) == 100
    assert stand_in["dropped"] == 0
    stand_in.produce(1, 1000)
    taken = len(read(opened)[Kind.KERNEL])
    assert 0 < taken < 1000
    assert taken + stand_in["dropped"] == 1000
    assert opened._buffers.refused > 0
    stand_in.produce(1, 100)
    assert len(read(opened)[Kind.KERNEL]) == 100


def test_a_buffer_that_finds_no_memory_is_one_that_was_refused(monkeypatch) -> None:
    def exhausted(*_args: Any, **_options: Any) -> None:
        raise MemoryError

    buffers = _buffers.Buffers(threading.Event())
    buffer, size, most = ctypes.c_void_p(1), ctypes.c_size_t(1), ctypes.c_size_t(1)
    with monkeypatch.context() as patched:
        patched.setattr(_buffers.np, "empty", exhausted)
        buffers.request(ctypes.pointer(buffer), ctypes.pointer(size), ctypes.pointer(most))
    assert (buffer.value, size.value, most.value, buffers.refused) == (None, 0, 0, 1)
    buffers.request(ctypes.pointer(buffer), ctypes.pointer(size), ctypes.pointer(most))
    assert size.value == _buffers.SIZE


def test_an_end_does_not_wait_for_records_that_keep_coming(library, stand_in) -> None:
    opened, _ = session(library)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.001):
            stand_in.api(time.time_ns(), 1, "a", id_=2)

    stand_in.api(time.time_ns(), 1, "a", id_=1)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    began = time.monotonic()
    found = [row["correlation"] for records in opened.end(20) for row in records[Kind.API]]
    seconds = time.monotonic() - began
    stop.set()
    worker.join()
    assert seconds < 10
    assert found[0] == 1
    assert stand_in.unsubscribed == 1


def test_an_end_waits_for_what_the_device_still_has(library, stand_in) -> None:
    opened, _ = session(library)
    begun = time.time_ns()
    late = threading.Timer(0.05, stand_in.kernel, (begun, 1, "k"))
    late.start()
    assert sum(len(rows) for records in opened.end(20) for rows in records.values()) == 1
    late.join()


def test_numbers_stay_the_same_as_more_come() -> None:
    numbers = Numbers()
    first = np.asarray([70, 2**64 - 1, 70, 5], dtype=np.uint64)
    before = numbers.of(first).tolist()
    assert [numbers.values[number] for number in before] == first.tolist()
    more = np.asarray([6, 2**64 - 1, 5, 71], dtype=np.uint64)
    assert [numbers.values[number] for number in numbers.of(more).tolist()] == more.tolist()
    assert numbers.of(first).tolist() == before


def test_one_library_has_one_subscriber(library) -> None:
    opened, _ = session(library)
    with pytest.raises(LibraryError, match="another one in this process subscribes to MSPTI"):
        session(library)
    opened.let_go()
    session(library)[0].let_go()


def test_kinds_that_need_a_preloaded_library_are_told_apart(library, monkeypatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so")
    opened, _ = session(library)
    assert opened.refused == [Kind.MEMORY, Kind.MEMCPY]
    assert preload_line(str(library)) == f"export LD_PRELOAD={library}:libjemalloc.so"
    monkeypatch.delenv("LD_PRELOAD")
    assert preload_line("libmspti.so") == "export LD_PRELOAD=$ASCEND_TOOLKIT_HOME/lib64/libmspti.so"


def test_the_library_is_the_preloaded_one_then_that_of_cann(library, tmp_path) -> None:
    other = build_mspti(tmp_path / "other")
    assert load({"LD_PRELOAD": f"/x/liba.so:{other}", "ASCEND_HOME_PATH": str(tmp_path)}).path == str(other)
    assert load({"ASCEND_HOME_PATH": str(tmp_path)}).path == str(library)
    assert load({"ASCEND_TOOLKIT_HOME": str(tmp_path), "ASCEND_HOME_PATH": "/other"}).path == str(library)


def test_a_missing_or_foreign_library_is_an_error_that_names_it(tmp_path) -> None:
    with pytest.raises(LibraryError, match=r"^libmspti\.so cannot be loaded: "):
        load({})
    with pytest.raises(LibraryError, match=r"libc\.so\.6 has no function msptiSubscribe"):
        Library("libc.so.6")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libmspti.so").write_text("no library")
    with pytest.raises(LibraryError, match="cannot be loaded"):
        load({"ASCEND_HOME_PATH": str(tmp_path)})
