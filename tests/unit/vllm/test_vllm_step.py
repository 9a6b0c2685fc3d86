"""A scheduler output becomes the request list of the native rows."""

from __future__ import annotations

import json
from typing import Any

from test_vllm_standins import CachedRequestData, NewRequestData, SchedulerOutput, output

from ascend_opentelemetry.vllm._step import Expander, Step, resumed_ids
from ascend_opentelemetry.vllm._step_ids import id_list, id_object_list


def step_of(out: SchedulerOutput, **attributes: Any) -> Step:
    step = Step(10, 20, None, out)
    for name, value in attributes.items():
        setattr(step, name, value)
    return step


def expand(expander: Expander, out: SchedulerOutput, **attributes: Any) -> tuple[str, list[dict[str, Any]]]:
    """Batch type and request objects."""
    step = step_of(out, **attributes)
    text = expander.expand(step)
    return step.batch_type, json.loads(text)


def iters(objects: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    return {entry["rid"]: (entry["iter"], entry["type"]) for entry in objects}


def test_a_new_request_is_a_prefill_of_iter_0() -> None:
    step = step_of(output({"a": 4}, new={"a": 4}))
    assert Expander().expand(step) == (
        '[{"rid": "a", "iter": 0, "type": 0, "num_scheduled_tokens": 4, "num_prompt_tokens": 4, '
        '"num_computed_tokens": 0}]'
    )
    assert step.batch_type == "Prefill"


def test_a_request_decodes_once_its_prompt_is_computed() -> None:
    expander = Expander()
    expand(expander, output({"a": 4}, new={"a": 4}))
    assert expand(expander, output({"a": 1}, computed={"a": 4})) == (
        "Decode",
        [
            {
                "rid": "a", "iter": 1, "type": 1, "num_scheduled_tokens": 1, "num_prompt_tokens": 4,
                "num_computed_tokens": 4,
            }
        ],
    )  # fmt: skip


def test_every_chunk_of_a_prompt_is_a_prefill() -> None:
    expander = Expander()
    expand(expander, output({"a": 4}, new={"a": 10}))
    assert iters(expand(expander, output({"a": 4}, computed={"a": 4}))[1]) == {"a": (1, 0)}
    batch_type, objects = expand(expander, output({"a": 2}, computed={"a": 8}))
    assert (batch_type, iters(objects)) == ("Prefill", {"a": (2, 0)})
    batch_type, objects = expand(expander, output({"a": 1}, computed={"a": 10}))
    assert (batch_type, iters(objects)) == ("Decode", {"a": (3, 1)})


def test_a_mixed_batch_is_spelled_as_the_analyzer_does_and_keeps_the_order_of_the_scheduler() -> None:
    expander = Expander()
    expand(expander, output({"b": 4}, new={"b": 4}))
    batch_type, objects = expand(expander, output({"b": 1, "a": 2}, new={"a": 2}, computed={"b": 4}))
    assert batch_type == "Prefill, Decode"
    assert [(entry["rid"], entry["type"]) for entry in objects] == [("b", 1), ("a", 0)]


def test_speculative_tokens_do_not_make_a_prefill() -> None:
    expander = Expander()
    expand(expander, output({"a": 4}, new={"a": 4}))
    batch_type, objects = expand(expander, output({"a": 5}, computed={"a": 4}))
    assert (batch_type, objects[0]["num_scheduled_tokens"], objects[0]["type"]) == ("Decode", 5, 1)


def test_a_resumed_request_goes_on_counting_and_prefills_what_was_lost() -> None:
    expander = Expander()
    expand(expander, output({"a": 4}, new={"a": 4}))
    expand(expander, output({"a": 1}, computed={"a": 4}))
    batch_type, objects = expand(expander, output({"a": 5}, computed={"a": 0}, resumed=("a",)))
    assert (batch_type, iters(objects)) == ("Prefill", {"a": (2, 0)})
    # more of its tokens than the prompt were still cached
    batch_type, objects = expand(expander, output({"a": 1}, computed={"a": 5}, resumed=("a",)))
    assert (batch_type, iters(objects)) == ("Decode", {"a": (3, 1)})


def test_finished_requests_are_forgotten() -> None:
    expander = Expander()
    expand(expander, output({"a": 4, "b": 4}, new={"a": 4, "b": 4}))
    expand(expander, output({"b": 1}, computed={"b": 4}, finished=("a",)))
    assert list(expander._known) == ["b"]
    # the id comes again in the very step that reports the end of the first one
    _, objects = expand(expander, output({"b": 3}, new={"b": 3}, finished=("b",)))
    assert iters(objects) == {"b": (0, 0)}


def test_a_snapshot_says_what_ran_before_the_window() -> None:
    expander = Expander()
    expand(expander, output({"old": 4}, new={"old": 4}))
    out = output({"a": 1, "b": 2}, computed={"a": 9, "b": 2})
    batch_type, objects = expand(expander, out, snapshot=[("a", 4, 6), ("b", 8, 1)])
    assert (batch_type, iters(objects)) == ("Prefill, Decode", {"a": (6, 1), "b": (1, 0)})
    assert [entry["num_prompt_tokens"] for entry in objects] == [4, 8]
    assert "old" not in expander._known


def test_an_unknown_request_counts_as_running() -> None:
    assert iters(expand(Expander(), output({"a": 1}, computed={"a": 9}))[1]) == {"a": (1, 1)}


def test_both_rows_of_a_step_get_the_same_text() -> None:
    expander = Expander()
    step = step_of(output({"a": 4}, new={"a": 4}))
    first = expander.expand(step)
    assert expander.expand(step) is first
    assert expander._known["a"].steps == 1


def test_the_texts_are_those_of_json_whatever_the_ids() -> None:
    ids = ['a"b', "\\", "h\u00e9", "\n", "123"]
    step = step_of(output(dict.fromkeys(ids, 2), new=dict.fromkeys(ids, 2)))
    text = Expander().expand(step)
    assert text == json.dumps(json.loads(text))
    assert [entry["rid"] for entry in json.loads(text)] == ids
    for some in ([], ids[:1], ids):
        assert id_list(some) == json.dumps(some)
        assert id_object_list(dict.fromkeys(some)) == json.dumps([{"rid": request_id} for request_id in some])


def test_the_text_of_a_batch_is_made_once_and_not_kept_for_ever() -> None:
    first = id_list({"a": 1, "b": 1})
    assert id_list(["a", "b"]) is first
    for number in range(1000):
        id_list([f"{number}"])
    again = id_list(["a", "b"])
    assert again == first
    assert again is not first


def test_prompt_embeddings_have_a_length_too() -> None:
    out = SchedulerOutput([NewRequestData("a", None, prompt_embeds=[[0.0]] * 7)], num_scheduled_tokens={"a": 7})
    batch_type, objects = expand(Expander(), out)
    assert (batch_type, objects[0]["num_prompt_tokens"]) == ("Prefill", 7)
    assert step_of(SchedulerOutput([NewRequestData("a", None)])).new == [("a", 0, 0)]


def test_a_step_takes_numbers_and_ids_only() -> None:
    step = step_of(output({"a": 4, "r": 1}, new={"a": 4}, computed={"r": 2}, resumed=("r",), finished=("z",)))
    assert (step.start, step.mono, step.ids, step.tokens) == (10, 20, None, 5)
    assert step.new == [("a", 4, 0)]
    assert step.resumed == ["r"]
    assert step.finished == {"z"}


def test_resumed_requests_of_older_versions_are_flags() -> None:
    class Cached:
        req_ids = ("a", "b", "c")
        resumed_from_preemption = (False, True, True)

    assert list(resumed_ids(Cached())) == ["b", "c"]
    assert list(resumed_ids(CachedRequestData(["a"], [1], {"a"}))) == ["a"]
