"""Speculative decoding: how many drafted tokens a step verifies, and how many of them the model accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ascend_opentelemetry.vllm._phases import PhaseTracker
from ascend_opentelemetry.vllm._step import Step


def count_drafts(
    step: Step, phases: PhaseTracker, scheduler: Any, results: Any, invalid: Mapping[str, int] | None
) -> None:
    """Count the drafts of a step, as vLLM's own statistics do: for the step, and for each traced request.

    Args:
        step: gets the sums.
        phases: of the traced requests.
        scheduler: vLLM's.
        results: ``ModelRunnerOutput``.
        invalid: drafts by request that a grammar had ruled out before.
    """
    sampled = results.sampled_token_ids
    own = getattr(scheduler, "num_sampled_tokens_per_step", 1)
    for request_id, drafts in step.drafts.items():
        index = results.req_id_to_index.get(request_id)
        tokens = sampled[index] if index is not None and sampled else ()
        if not drafts or not len(tokens):
            continue
        drafted = len(drafts) - (invalid or {}).get(request_id, 0)
        accepted = max(len(tokens) - own, 0)
        step.drafted += drafted
        step.accepted += accepted
        phases.speculated(request_id, drafted, accepted)
