"""``ascend-otel npu import``: recordings as OTLP, or as JSON lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.cli._npu_reading import Reading
from ascend_opentelemetry.npu.operators._names import label, printable

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.recordings._content import Content
    from ascend_opentelemetry.npu.recordings._otlp import OtlpSender
    from ascend_opentelemetry.npu.recordings._search import Source
    from ascend_opentelemetry.npu.recordings._telemetry import Event, Point


def run(path: Path, *, as_json: bool, again: bool) -> int:
    """Read and send.

    Args:
        path: a file or a folder.
        as_json: print JSON lines, send nothing.
        again: send what was sent, too.

    Returns:
        The exit code.
    """
    from ascend_opentelemetry.npu.recordings._otlp import OtlpSender, SendError

    try:
        state = None if as_json else _State(again)
        sender = None if as_json else OtlpSender(os.environ)
    except ValueError as error:
        sys.stderr.write(f"ascend-otel: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"ascend-otel: the list of what was sent cannot be kept: {error}; set XDG_STATE_HOME\n")
        return 2
    reading = Reading(path)
    try:
        for source, hidden in reading.sources():
            if state is not None and (kinds := state.kinds(source)) is not None:
                reading.gave(source, kinds)
                sys.stdout.write(f"{printable(str(source.path))}: sent before\n")
                continue
            content = _read(reading, source, hidden)
            if content is None:
                continue
            if sender is None:
                _print(content, source)
                continue
            sent = _send(sender, content, source)
            sys.stdout.write(f"{printable(str(source.path))}: {_summary(content)}; {sent} points and events sent\n")
            if state is not None:
                state.add(source, content)
    except SendError as error:
        sys.stderr.write(f"ascend-otel: {error}; what was not sent is sent by the same command\n")
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        sys.stderr.write(f"ascend-otel: {error}\n")
        return 2
    finally:
        if sender is not None:
            sender.close()
    return reading.exit_code


def _read(reading: Reading, source: Source, hidden: frozenset[Any]) -> Content | None:
    from ascend_opentelemetry.npu.recordings._content import Content

    content = Content(hidden)
    if not reading.read(source, content):
        return None
    reading.gave(source, content.kinds)
    if content.by_step.left_out:
        reading.say(
            f"{source.path}: too many steps; {content.by_step.left_out} operators of the last ones are in no step"
        )
    return content


class _State:
    """What was sent to the endpoint of the variables."""

    def __init__(self, again: bool) -> None:
        from ascend_opentelemetry.npu.recordings._state import ImportState, default_path

        signals = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
        general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        targets = dict.fromkeys(without_secrets(os.environ.get(name) or general) for name in signals)
        self._state = ImportState(default_path(os.environ), " ".join(targets) or "default")
        self._again = again
        self._stamp = ""

    def kinds(self, source: Source) -> set[Any] | None:
        """What was sent of the file as it is now; None if nothing was."""
        from ascend_opentelemetry.npu.recordings._state import stamp

        try:
            self._stamp = stamp(source.path)
        except OSError:  # the reader tells it
            return None
        return None if self._again else self._state.kinds(source.path, self._stamp)

    def add(self, source: Source, content: Content) -> None:
        """Note that the file is sent."""
        self._state.add(source.path, self._stamp, content.kinds)


def _telemetry(
    content: Content, source: Source, delta: bool
) -> tuple[dict[str, Any], Iterator[Point], Iterator[Event]]:
    """Attributes of the resource, points and events."""
    from ascend_opentelemetry.npu.recordings import _semconv as names
    from ascend_opentelemetry.npu.recordings._info import info
    from ascend_opentelemetry.npu.recordings._telemetry import events, points

    beside = info(source.recording)
    rank = content.rank if content.rank is not None else beside.rank
    resource = {names.RECORDING: label(source.recording.name)} | ({} if rank is None else {names.RANK: rank})
    fallback = beside.end_ns or max(source.path.stat().st_mtime_ns, 0)
    return resource, points(content, delta=delta, fallback_ns=fallback), events(content, label(source.path.name))


def _send(sender: OtlpSender, content: Content, source: Source) -> int:
    from ascend_opentelemetry.npu.recordings._otlp import wants_delta

    return sender.send(*_telemetry(content, source, wants_delta(os.environ)))


def _print(content: Content, source: Source) -> None:
    resource, points, events = _telemetry(content, source, delta=False)
    for point in points:
        _line(_point(point), resource)
    for event in events:
        _line(_event(event), resource)


def _line(value: Mapping[str, Any], resource: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps({**value, "resource": resource}) + "\n")


def _point(point: Point) -> dict[str, Any]:
    from ascend_opentelemetry.npu.recordings._telemetry import BOUNDS, Histogram

    value = point.value
    if isinstance(value, Histogram):
        shown: Any = {
            "count": value.count,
            "sum": value.sum,
            "min": value.min,
            "max": value.max,
            "bucket_counts": value.buckets,
            "explicit_bounds": BOUNDS,
        }
    else:
        shown = value
    return {
        "metric": point.metric.name,
        "unit": point.metric.unit,
        "attributes": dict(point.attributes),
        "start_time_unix_nano": point.start_ns,
        "time_unix_nano": point.time_ns,
        "value": shown,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "event": event.name,
        "time_unix_nano": event.time_ns,
        "attributes": dict(event.attributes),
        "body": event.body,
    }


def _summary(content: Content) -> str:
    from ascend_opentelemetry.npu.operators._statistics import COUNT

    counts = {
        "operators": content.by_window.rows()[:, COUNT].sum() + sum(total.count for total in content.totals),
        "collectives": content.collectives.rows()[:, COUNT].sum(),
        "transfers": content.transferred.rows()[:, COUNT].sum(),
        "allocations": content.allocated.rows()[:, COUNT].sum(),
        "samples of memory": content.sampled.rows()[:, COUNT].sum(),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing new"
