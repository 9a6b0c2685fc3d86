"""Files of the upstream writer, and of the synthetic sample: good but for what upstream itself does."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.support.contract import check, read_meta, read_rows

NATIVE = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "native"
GOLDEN = NATIVE / "native_golden"
SAMPLE = NATIVE / "native_sample"

pytestmark = pytest.mark.skipif(not NATIVE.is_dir(), reason="no shared/data/native beside the repository")

#: Upstream spells mixed batches without a blank: two mixed steps, in schedule and modelExec rows.
MIXED = dict.fromkeys([(16, 122), (16, 125), (16, 170), (16, 171)], 1)
#: Upstream leaves dpRankId to engine core and workers.
NO_RANK = {("meta", None): 1}
#: Upstream's process_sort_index is uninitialised memory, at times not 0.
SORT_INDEX = {("process", None): 1}

UPSTREAM = {
    "native_sample/input_slice": {"ms_service_node-a-4100.db": NO_RANK, "ms_service_node-a-4200.db": MIXED},
    "native_golden/prof": {
        "ms_service_vm-335.db": NO_RANK,
        "ms_service_vm-338.db": MIXED,
        "ms_service_vm-350.db": SORT_INDEX,
    },
    "native_golden/api_forms/prof": {},
    "native_golden/dynamic_toggle/prof": {"ms_service_vm-20382.db": NO_RANK | SORT_INDEX},
}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("source", UPSTREAM)
def test_upstream_files(tmp_path: Path, source: str, complete: bool) -> None:
    # the shared copies have lost their modes
    copy = shutil.copytree(NATIVE / source, tmp_path / "prof", copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o640 if path.is_file() else 0o755 if path.name == "Trace_Service" else 0o750)
    found: dict[str, Counter[tuple[int | str, int | None]]] = {}
    for violation in check(copy, complete=complete):
        found.setdefault(violation.file.name, Counter())[violation.trap, violation.row] += 1
    assert found == UPSTREAM[source]


def test_the_older_layout_is_none_of_ours() -> None:
    assert {violation.trap for violation in check(SAMPLE / "input_mstx")} == {34, 42, "folder", "schema", "meta"}


def test_read_rows_of_the_sample() -> None:
    rows = read_rows(SAMPLE / "input_slice")
    assert Counter(row.pid for row in rows) == {4100: 120, 4200: 200, 4300: 200}
    first, step = rows[0], next(row for row in rows if row.name == "batchFrameworkProcessing")
    assert (first.name, first.cat, first.start, first.duration) == ("httpReq", "Engine", 1760000000000000000, 0)
    assert first.args == {"rid": "cmpl-00000000000000000000000000000000", "type": 0}
    assert (step.id, step.tid, step.start, step.end) == (6, 4200, 1760000000001000000, 1760000000001600000)
    assert step.rids == ["cmpl-00000000000000000000000000000000-abc00000"]


def test_read_rows_of_every_form_of_the_api() -> None:
    rows = {row.name: row for row in read_rows(GOLDEN / "api_forms")}
    assert rows["Link"].args == {"type": 3, "from": "req-1", "to": "42"}
    assert rows["no_domain"].args == {"中文": 'é"quote', "type": 0}
    assert [rows[name].rids for name in ("httpReq", "batchFrameworkProcessing", "KVCacheStatus", "no_attr")] == [
        ["req-1"],
        ["req-1"],
        ["req-1"],
        [],
    ]
    assert (rows["forward"].pid, rows["forward"].tid) == (18871, 18875)


def test_read_meta_of_a_process_switched_on_twice() -> None:
    (file,) = (GOLDEN / "dynamic_toggle").rglob("*.db")
    before = sorted(file.parent.iterdir())
    assert read_meta(file) == {"hostname": "vm", "ppid": "20310", "k_on": "1"}
    assert sorted(file.parent.iterdir()) == before
