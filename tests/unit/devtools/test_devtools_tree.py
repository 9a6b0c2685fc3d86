from __future__ import annotations

import sqlite3
from pathlib import Path

from devtools import native, tree
from devtools.otlp_json import ERROR, Event, Link, Span

TRACE, STEP = "a" * 32, "b" * 32


def span(trace: str, number: int, parent: int, name: str, start: float, end: float, **rest: object) -> Span:
    parent_id = f"{parent:016x}" if parent else ""
    return Span(trace, f"{number:016x}", parent_id, name, "scope", 1, int(start * 1e6), int(end * 1e6), **rest)


SPANS = [
    span(TRACE, 3, 2, "decode", 6, 10, status_code=ERROR, status_message="aborted", resource={"process.pid": 12}),
    span(TRACE, 2, 1, "llm_request", 1, 10.5, attributes={"code.function": "f", "gen_ai.request.id": "cmpl-req-1-0"},
         events=[Event("first_token", int(4.5e6), {})], links=[Link(STEP, f"{9:016x}", {})],
         resource={"process.pid": 11}),
    span(TRACE, 1, 7, "POST /v1/completions", 0, 11, attributes={"http.method": "POST", "http.status_code": 200}),
    span(TRACE, 4, 2, "queue", 2, 6, attributes={"text": "x" * 60}),
    span(STEP, 9, 0, "engine.step", 5, 8, links=[Link(TRACE, f"{3:016x}", {}), Link("c" * 32, "d" * 16, {})]),
    span("e" * 32, 10, 0, "engine.step", 4, 5, links=[Link(TRACE, f"{3:016x}", {})]),
]  # fmt: skip


def test_request_tree() -> None:
    assert tree.render(SPANS, TRACE, processes={11: "APIServer"}).splitlines() == [
        f"trace {TRACE}",
        "  POST /v1/completions  11.00 ms  [?]",
        "      http.status_code=200",
        "    llm_request  9.50 ms  [APIServer 11]",
        "        gen_ai.request.id=cmpl-req-1-0",
        "        * first_token  at 3.50 ms",
        "        -> engine.step  trace bbbbbbbb.. span 00000000..",
        "      queue  4.00 ms  [?]",
        f"          text={'x' * 45}...",
        "      decode  4.00 ms  [12]  ERROR aborted",
    ]


def test_step_tree_with_links_cut() -> None:
    assert tree.render(SPANS, STEP, most_links=1).splitlines() == [
        f"trace {STEP}",
        "  engine.step  3.00 ms  [?]",
        "      -> decode  trace aaaaaaaa.. span 00000000..",
        "      -> 1 more links",
    ]


def test_attributes_beyond_the_limit_are_counted() -> None:
    many = [span(TRACE, 1, 0, "s", 0, 1, attributes={"a": 1, "b": 2, "c": 3})]
    assert tree.render(many, TRACE, most_attributes=2).splitlines()[2] == "      a=1  b=2  (+1)"


def test_traces_in_the_order_of_their_start() -> None:
    assert tree.traces(SPANS) == [TRACE, "e" * 32, STEP]


def test_request_is_found_by_its_id_and_its_step_by_links() -> None:
    assert tree.find_request(SPANS, "req-1") == TRACE
    assert tree.find_request(SPANS, "req-2") is None
    assert tree.find_step(SPANS, TRACE) == STEP
    assert tree.find_step(SPANS, "e" * 32) is None


def test_step_is_the_root_of_another_trace() -> None:
    links = [Link(TRACE, f"{number:016x}", {}) for number in (1, 2, 3)]
    child = span("f" * 32, 11, 12, "no root", 5, 6, links=links)
    own = span(TRACE, 13, 0, "its own trace", 5, 6, links=links)
    assert tree.find_step([*SPANS, child, own], TRACE) == STEP


def test_asgi_messages_are_left_out() -> None:
    sent = span(TRACE, 5, 1, "POST /v1/completions http send", 1, 2)
    received = span(TRACE, 6, 1, "POST /v1/completions http receive", 1, 2)
    assert tree.without_asgi_events([*SPANS, sent, received]) == SPANS


def test_native_listing_counts_rows_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "1124-2015" / "Trace_Service"
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "ms_service_host-12.db") as connection:
        connection.execute("CREATE TABLE slice (name TEXT)")
        connection.executemany("INSERT INTO slice VALUES (?)", [("httpReq",), ("Meta",), ("httpReq",)])
    assert list(native.listing(tmp_path)) == [
        "1124-2015/Trace_Service/ms_service_host-12.db  3 rows",
        "         1  Meta",
        "         2  httpReq",
    ]
    assert list(native.listing(tmp_path / "none")) == []
