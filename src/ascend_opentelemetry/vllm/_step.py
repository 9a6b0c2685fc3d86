"""What is kept of one engine step, and its expansion into request lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ascend_opentelemetry.recorder import SpanIds, SpanLink
from ascend_opentelemetry.vllm._rows import encode

#: ``request id, prompt tokens, steps it was scheduled in`` of requests that ran before the native window opened.
Snapshot = Sequence[tuple[str, int, int]]


class Step:
    """One call of ``Scheduler.schedule`` that scheduled tokens, until its ``update_from_output``.

    ``scheduled`` and ``cached`` are the scheduler's own objects: it replaces them and never changes them (``cached``
    of vLLM 0.9.1 is a copy: there it fills the same objects again).
    """

    __slots__ = (
        "accepted", "allocated", "batch_type", "cached", "drafted", "drafts", "executing", "finished", "free", "ids", "in_window", "links", "mono", "new",
        "preempted", "resumed", "rid_json", "running", "scheduled", "snapshot", "start", "tokens", "total", "waiting",
    )  # fmt: skip

    def __init__(self, start: int, mono: int, ids: SpanIds | None, output: Any) -> None:
        self.start = start
        self.mono = mono
        #: Ids of the ``engine.step`` span; None when the step is not traced.
        self.ids = ids
        self.links: list[SpanLink] = []
        self.scheduled: Mapping[str, int] = output.num_scheduled_tokens
        self.tokens: int = output.total_num_scheduled_tokens
        self.cached = _as_one(output.scheduled_cached_reqs)
        #: Drafted tokens that the step verifies, by request; vLLM puts those in that come late.
        self.drafts: Mapping[str, Sequence[int]] = output.scheduled_spec_decode_tokens
        self.new = [(new.req_id, _prompt_tokens(new), new.num_computed_tokens) for new in output.scheduled_new_reqs]
        self.finished: Iterable[str] = output.finished_req_ids
        self.preempted: Sequence[str] = ()
        resumed = resumed_ids(self.cached)
        self.resumed: Sequence[str] = sorted(resumed) if resumed else ()
        #: A native window was open when it began, and what is known of its requests since then.
        self.in_window = False
        self.snapshot: Snapshot | None = None
        self.running = self.waiting = self.total = self.free = self.allocated = 0
        #: How many of them there are, and how many the model has accepted.
        self.drafted = self.accepted = 0
        #: Set by the execute hook until the model's result is there.
        self.executing: Any = None
        # filled by the drain
        self.rid_json: str | None = None
        self.batch_type = ""


def _prompt_tokens(new: Any) -> int:
    prompt = new.prompt_token_ids
    if prompt is None:
        prompt = new.prompt_embeds
    return len(prompt) if prompt is not None else 0


class _Cached(NamedTuple):
    """``CachedRequestData`` as it is from vLLM 0.9.2 on: one object a step."""

    req_ids: Sequence[str]
    num_computed_tokens: Sequence[int]
    resumed_req_ids: Iterable[str]


def _as_one(cached: Any) -> Any:
    """``scheduled_cached_reqs``, in vLLM 0.9.1 a list with an object a request."""
    if not isinstance(cached, list):
        return cached
    return _Cached(
        [request.req_id for request in cached],
        [request.num_computed_tokens for request in cached],
        [request.req_id for request in cached if request.resumed_from_preemption],
    )


def resumed_ids(cached: Any) -> Iterable[str]:
    """Ids of preempted requests that run again in this step (``CachedRequestData``)."""
    resumed = getattr(cached, "resumed_req_ids", None)
    if resumed is not None:
        return resumed
    flags = getattr(cached, "resumed_from_preemption", ())  # a list of flags up to vLLM 0.11
    return [request_id for request_id, flag in zip(cached.req_ids, flags, strict=False) if flag]


class _Known:
    """What the rows of further steps need of a request."""

    __slots__ = ("head", "prompt", "steps", "tail")

    def __init__(self, request_id: str, prompt: int, steps: int) -> None:
        self.prompt = prompt
        self.steps = steps
        # the text of json.dumps, in a fraction of its time
        self.head = f'{{"rid": {encode(request_id)}, "iter": '
        self.tail = f', "num_prompt_tokens": {prompt}, "num_computed_tokens": '


class Expander:
    """Turns steps into request lists. Lives in the drain: one thread, steps in order."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def expand(self, step: Step) -> str:
        """The ``rid`` JSON of a step, the same text for every row of it; sets ``batch_type`` too.

        ``iter`` counts the steps of a request from 0; ``type`` is 0 (prefill) until the whole prompt is computed.
        """
        if step.rid_json is not None:
            return step.rid_json
        known = self._known
        if step.snapshot is not None:
            known.clear()
            known.update((request_id, _Known(request_id, prompt, steps)) for request_id, prompt, steps in step.snapshot)
        for request_id in step.finished:
            known.pop(request_id, None)
        computed_by: dict[str, int] = dict(zip(step.cached.req_ids, step.cached.num_computed_tokens, strict=False))
        for request_id, prompt, computed in step.new:
            known[request_id] = _Known(request_id, prompt, 0)
            computed_by[request_id] = computed
        objects: list[str] = []
        prefills = 0
        for request_id, tokens in step.scheduled.items():
            entry = known.get(request_id)
            if entry is None:
                entry = known[request_id] = _Known(request_id, 0, 1)
            computed = computed_by.get(request_id, 0)
            if computed < entry.prompt:
                prefills += 1
                kind = 0
            else:
                kind = 1
            objects.append(
                f'{entry.head}{entry.steps}, "type": {kind}, "num_scheduled_tokens": {tokens}{entry.tail}{computed}}}'
            )
            entry.steps += 1
        if prefills == len(objects):
            step.batch_type = "Prefill"
        else:
            # with a blank: the analyzer's own spelling of a mixed batch
            step.batch_type = "Prefill, Decode" if prefills else "Decode"
        step.rid_json = f"[{', '.join(objects)}]"
        return step.rid_json
