"""Traces as indented text: ``python -m devtools.tree FILE [TRACE_ID]`` prints those of an OTLP/JSON file."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from devtools.otlp_json import ERROR, Link, Span, read_spans

_HIDDEN = ("code.", "asgi.", "net.", "network.", "server.", "client.", "user_agent.", "url.", "http.")
_SHOWN = ("http.status_code", "http.response.status_code")


def is_key_attribute(name: str) -> bool:
    """Whether an attribute says something about the request, not about the code or the connection."""
    return name in _SHOWN or not name.startswith(_HIDDEN)


def render(
    spans: Sequence[Span],
    trace_id: str,
    *,
    processes: Mapping[int, str] | None = None,
    attributes: Callable[[str], bool] = is_key_attribute,
    most_attributes: int = 8,
    most_links: int = 4,
) -> str:
    """One trace, a line for each span with its duration in ms and process, children indented below parents.

    Args:
        spans: spans of any traces.
        trace_id: the trace to print.
        processes: names of processes by pid; others are named by their pid alone.
        attributes: which attribute names are printed.
        most_attributes: attributes printed of each span at most.
        most_links: links printed of each span at most.
    """
    names = {span.span_id: span.name for span in spans}
    known = [span for span in spans if span.trace_id == trace_id]
    children: defaultdict[str, list[Span]] = defaultdict(list)
    ids = {span.span_id for span in known}
    for span in sorted(known, key=lambda span: (span.start, -span.end)):
        children[span.parent_id if span.parent_id in ids else ""].append(span)

    def process(span: Span) -> str:
        pid = span.resource.get("process.pid", "?")
        return f"{(processes or {}).get(pid, '')} {pid}".strip()

    def lines(span: Span, indent: str) -> Iterator[str]:
        chosen = [f"{key}={_short(value)}" for key, value in span.attributes.items() if attributes(key)]
        failed = f"  ERROR {span.status_message}".rstrip() if span.status_code == ERROR else ""
        yield f"{indent}{span.name}  {span.ms:.2f} ms  [{process(span)}]{failed}"
        inner = f"{indent}    "
        if chosen:
            more = f"  (+{len(chosen) - most_attributes})" if len(chosen) > most_attributes else ""
            yield f"{inner}{'  '.join(chosen[:most_attributes])}{more}"
        for event in span.events:
            yield f"{inner}* {event.name}  at {(event.time - span.start) / 1e6:.2f} ms"
        for link in span.links[:most_links]:
            yield f"{inner}-> {_target(link, names)}"
        if len(span.links) > most_links:
            yield f"{inner}-> {len(span.links) - most_links} more links"
        for child in children[span.span_id]:
            yield from lines(child, f"{indent}  ")

    return "\n".join([f"trace {trace_id}", *(line for root in children[""] for line in lines(root, "  "))])


def traces(spans: Iterable[Span]) -> list[str]:
    """The trace ids of ``spans``, in the order of their first start."""
    return list(dict.fromkeys(span.trace_id for span in sorted(spans, key=lambda span: span.start)))


def without_asgi_events(spans: Iterable[Span]) -> list[Span]:
    """``spans`` less those of the FastAPI instrumentation for each ASGI message, which say little about a request."""
    return [span for span in spans if not span.name.endswith((" http send", " http receive"))]


def find_request(spans: Sequence[Span], request_id: str) -> str | None:
    """The trace with a span whose attributes hold a client's ``X-Request-Id``."""
    for span in spans:
        if any(isinstance(value, str) and request_id in value for value in span.attributes.values()):
            return span.trace_id
    return None


def find_step(spans: Sequence[Span], trace_id: str) -> str | None:
    """The engine step with most links among those that link to a request's trace."""
    steps = [span for span in spans if any(link.trace_id == trace_id for link in span.links)]
    steps = [span for span in steps if span.trace_id != trace_id and not span.parent_id]
    return max(steps, key=lambda span: len(span.links)).trace_id if steps else None


def _target(link: Link, names: dict[str, str]) -> str:
    return f"{names.get(link.span_id, 'span not recorded')}  trace {link.trace_id[:8]}.. span {link.span_id[:8]}.."


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."


def main() -> None:
    """Prints all traces of a file, or one."""
    spans = read_spans(Path(sys.argv[1]))
    for trace_id in sys.argv[2:] or traces(spans):
        print(render(spans, trace_id), end="\n\n")


if __name__ == "__main__":
    main()
