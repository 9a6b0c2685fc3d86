from __future__ import annotations

import pytest

from ascend_opentelemetry.native._domains import GUIDE_DOMAINS, expand, filter_problem

V1 = {"Engine", "Schedule", "Schedule.KVCache", "Execute"}


def test_the_guide_has_these_domains() -> None:
    assert list(GUIDE_DOMAINS) == ["Request", "KVCache", "ModelExecute", "BatchSchedule", "Communication"]


@pytest.mark.parametrize(
    ("names", "selected"),
    [
        ([], set()),
        (["Engine"], {"Engine"}),
        (["engine"], {"engine"}),
        (["KVCache", "Engine"], {"KVCache", "Schedule.KVCache", "Engine"}),
        (["Communication"], {"Communication", "KVTransfer"}),
    ],
)
def test_a_name_selects_itself_and_what_the_guide_means(names: list[str], selected: set[str]) -> None:
    assert expand(names) == selected


@pytest.mark.parametrize("name", ["Engine", "Schedule.KVCache", "Request", "KVCache", "ModelExecute", "BatchSchedule"])
def test_a_known_name_is_no_problem(name: str) -> None:
    assert filter_problem(expand([name]), V1) is None
    assert filter_problem(expand([name, "Nonsense"]), V1) is None


def test_an_empty_filter_is_no_problem() -> None:
    assert filter_problem(frozenset(), V1) is None
    assert filter_problem(frozenset(), set()) is None


def test_a_filter_that_selects_nothing_is_told_the_known_names() -> None:
    assert filter_problem(expand(["Communication", "request"]), V1) == (
        '"domain": no event of vLLM and no symbol belongs to Communication, KVTransfer, request: only rows of your own'
        " Profiler calls can be written; known are BatchSchedule, Engine, Execute, KVCache, ModelExecute, Request,"
        " Schedule, Schedule.KVCache"
    )


def test_communication_is_known_where_the_symbols_file_has_transfers() -> None:
    assert filter_problem(expand(["Communication"]), {*V1, "KVTransfer"}) is None
    problem = filter_problem(frozenset({"x"}), {"KVTransfer"})
    assert problem is not None
    assert problem.endswith("; known are Communication, KVTransfer")
