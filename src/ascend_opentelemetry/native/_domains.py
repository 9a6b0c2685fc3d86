"""The ``domain`` filter: names of the service profiling guide, and those under which rows are written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

#: The guide's domains, and those under which vLLM's v1 engine and the symbols files in use record the same.
GUIDE_DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Request": ("Engine", "OpenAI"),
    "KVCache": ("Schedule.KVCache",),
    "ModelExecute": ("Execute", "ModelForward", "Multimodal", "Sample", "SpecDecode"),
    "BatchSchedule": ("Schedule", "Scheduler"),
    "Communication": ("KVTransfer",),
}


def expand(names: Iterable[str]) -> frozenset[str]:
    """The domains whose rows a filter with these names selects."""
    named = frozenset(names)
    return named.union(*(GUIDE_DOMAINS.get(name, ()) for name in named))


def filter_problem(selected: frozenset[str], recorded: Collection[str]) -> str | None:
    """What is wrong with a filter that selects nothing, and the names that it could have; None where it selects.

    Args:
        selected: content of ``ProfileConfig.domain``; empty selects all.
        recorded: domains of the rows that the service can write.
    """
    if not selected or not selected.isdisjoint(recorded):
        return None
    known = {*recorded, *(name for name in GUIDE_DOMAINS if not expand([name]).isdisjoint(recorded))}
    return (
        f'"domain": no event of vLLM and no symbol belongs to {", ".join(sorted(selected))}:'
        f" only rows of your own Profiler calls can be written; known are {', '.join(sorted(known))}"
    )


def domain_table() -> str:
    """The guide's names as Markdown, for ``docs/native-config.md``."""
    rows = ["| Name | Selects also |", "|---|---|"]
    rows += [f"| `{name}` | {', '.join(f'`{one}`' for one in others)} |" for name, others in GUIDE_DOMAINS.items()]
    return "\n".join(rows) + "\n"
