"""EngineCore: what ``Scheduler`` does to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import get_ident
from time import time_ns
from typing import Any

from ascend_opentelemetry.recorder import NativeRow, Record, RecordType, recorder
from ascend_opentelemetry.vllm._phases import PhaseTracker
from ascend_opentelemetry.vllm._ranks import ranks
from ascend_opentelemetry.vllm._rows import SCHEDULE, queue_row
from ascend_opentelemetry.vllm._step import Snapshot, Step

#: Preemptions kept for the next step: a scheduler with a ``schedule`` of its own may never ask for them.
MAX_PREEMPTED = 1024


def _enqueue_rows(record: Record) -> Iterable[NativeRow]:
    request_id, size = record[5]
    yield queue_row(record[1], "Enqueue", request_id, "WAITING", size)


ENQUEUE_TYPE = RecordType(SCHEDULE, "Enqueue", native=False, traces=False, rows=_enqueue_rows)


class SchedulerTracker:
    """State of the scheduler of this process that outlives a call."""

    def __init__(self) -> None:
        self.phases = PhaseTracker()
        #: Steps between ``schedule`` and ``update_from_output``, by the id of their ``num_scheduled_tokens``, which they
        #: keep alive; a scheduler that extends vLLM's may put it into an output of its own.
        self.steps: dict[int, Step] = {}
        #: Preempted since the last step with tokens.
        self.preempted: list[str] = []
        #: Reported as finished since then.
        self.finished: set[str] = set()
        #: The native window for which a step has a snapshot.
        self.window = 0

    def snapshot(self, scheduler: Any) -> Snapshot | None:
        """Requests that were there when the native window opened; None if that is known already."""
        if recorder.native is None or self.window == recorder.windows:
            return None
        self.window = recorder.windows
        return [
            (request_id, request.num_prompt_tokens, request.num_output_tokens or int(request.num_computed_tokens > 0))
            for request_id, request in scheduler.requests.items()
        ]

    def preempt(self, request: Any) -> None:
        """Note a preemption, for its request and for the step in which it is."""
        if len(self.preempted) < MAX_PREEMPTED:
            self.preempted.append(request.request_id)
        self.phases.preempted(request)

    def preempt_gone(self, before: Sequence[Any], scheduler: Any) -> None:
        """Note the preemptions of a ``schedule`` that calls no ``_preempt_request`` for them: before vLLM 0.13.

        Args:
            before: what ran when it was called; it preempts or adds requests, never both.
            scheduler: after the call.
        """
        if len(scheduler.running) < len(before):
            running = {request.request_id for request in scheduler.running}
            for request in before:
                if request.request_id not in running:
                    self.preempt(request)


def preemptible(scheduler: Any) -> Sequence[Any]:
    """The ``before`` of ``preempt_gone``; empty where ``_preempt_request`` tells."""
    return () if hasattr(scheduler, "_preempt_request") else tuple(scheduler.running)


tracker = SchedulerTracker()


class AddRequest:
    """``Scheduler.add_request(request)``."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        ranks.note_engine(args[0].vllm_config)
        scheduler, request = args[0], args[1] if len(args) > 1 else kwargs["request"]
        new = request.request_id not in scheduler.requests  # else an update of a streamed input
        if new and recorder.traces_on:
            tracker.phases.add(request)
        return new

    def exit(self, state: bool, args: Any, kwargs: Any, result: Any, error: Any) -> None:  # noqa: ARG002
        if state and ENQUEUE_TYPE.native_on and error is None:
            request = args[1] if len(args) > 1 else kwargs["request"]
            now = time_ns()
            values = (request.request_id, len(args[0].waiting))
            recorder.emit((ENQUEUE_TYPE, now, now, get_ident(), None, values, None))


class PreemptRequest:
    """``Scheduler._preempt_request(request, ...)``."""

    switch = recorder

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        tracker.preempt(args[1] if len(args) > 1 else kwargs["request"])

    def exit(self, state: None, args: Any, kwargs: Any, result: Any, error: Any) -> None: ...


class FreeRequest:
    """``Scheduler._free_request(request)``: the end of a request, however it came."""

    switch = recorder

    def enter(self, args: Any, kwargs: Any) -> None: ...

    def exit(self, state: None, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, error: Any) -> None:  # noqa: ARG002
        scheduler, request = args[0], args[1] if len(args) > 1 else kwargs["request"]
        if recorder.traces_on:
            status = request.status.name
            failed = "the engine reported an error" if status == "FINISHED_ERROR" else None
            # ``kv_transfer_params``; in newer versions the first of two
            transfer = result[0] if isinstance(result, tuple) else result
            tracker.phases.finish(request, failed, status == "FINISHED_ABORTED", transfer)
        if not scheduler.requests:  # a request that stops is taken from ``running`` later
            recorder.wake()  # not to export: the engine is idle soon, and then the step has ended too
