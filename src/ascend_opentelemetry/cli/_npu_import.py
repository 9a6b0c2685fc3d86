"""``ascend-otel npu import``: recordings as OTLP, or as JSON lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry._endpoint import without_secrets
from ascend_opentelemetry.cli._npu_output import counted, tell
from ascend_opentelemetry.cli._npu_reading import Reading
from ascend_opentelemetry.npu.operators._names import label, printable

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.recordings._content import Content
    from ascend_opentelemetry.npu.recordings._otlp import OtlpSender, Signal
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
    return _print_all(Reading(path)) if as_json else _send_all(path, again)


def _print_all(reading: Reading) -> int:
    for source, hidden in reading.sources():
        content = _read(reading, source, hidden)
        if content is not None:
            reading.make_room()
            _print(content, source)
    return reading.exit_code


def _send_all(path: Path, again: bool) -> int:
    from ascend_opentelemetry.npu.recordings._otlp import OtlpSender, SendError

    try:
        sender = OtlpSender(os.environ)
    except ValueError as error:
        sys.stderr.write(f"ascend-otel: {error}\n")
        return 2
    reading = Reading(path)
    try:
        state = _State(again, sender.signals)
        for source, hidden in reading.sources():
            kinds = state.kinds(source)
            if kinds is not None:
                reading.gave(source, kinds)
                reading.make_room()
                tell(f"{printable(str(source.path))}: sent before")
                continue
            content = _read(reading, source, hidden)
            if content is None:
                continue
            sent = _send(sender, content, source, state.stamp)
            state.add(source, content)
            reading.make_room()
            tell(f"{printable(str(source.path))}: {_summary(content)}; {sent} points and events sent")
    except SendError as error:
        reading.say(f"{error}; what was not sent is sent by the same command")
        return 2
    except _StateError as error:
        reading.say(f"the list of what was sent cannot be kept: {error}; set XDG_STATE_HOME")
        return 2
    finally:
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


class _StateError(Exception):
    """The list of what was sent cannot be read or written."""


class _State:
    """What was sent to the endpoints of the variables.

    Args:
        again: whether to send what was sent.
        signals: those that are sent.

    Attributes:
        stamp: of the file that was asked for last; empty if it cannot be read.

    Raises:
        _StateError: it cannot be kept.
    """

    def __init__(self, again: bool, signals: Sequence[Signal]) -> None:
        from ascend_opentelemetry.npu.recordings._state import ImportState, default_path

        general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        named = {one: os.environ.get(f"OTEL_EXPORTER_OTLP_{one}_ENDPOINT") or general for one in signals}
        targets = [without_secrets(endpoint) for endpoint in named.values()]
        only = [f"only {one}" for one in signals if len(signals) == 1]
        try:
            self._state = ImportState(default_path(os.environ), " ".join([*dict.fromkeys(targets), *only]) or "default")
        except OSError as error:
            raise _StateError(error) from error
        self._again = again
        self.stamp = ""

    def kinds(self, source: Source) -> set[Any] | None:
        """What was sent of the file as it is now; None if nothing was."""
        from ascend_opentelemetry.npu.recordings._state import stamp

        try:
            self.stamp = stamp(source.path)
        except OSError:  # the reader tells it
            self.stamp = ""
            return None
        return None if self._again else self._state.kinds(source.path, self.stamp)

    def add(self, source: Source, content: Content) -> None:
        """Note that the file is sent.

        Raises:
            _StateError: it cannot be noted.
        """
        try:
            self._state.add(source.path, self.stamp, content.kinds)
        except OSError as error:
            raise _StateError(error) from error


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


def _send(sender: OtlpSender, content: Content, source: Source, stamp: str) -> int:
    from ascend_opentelemetry.npu.recordings._otlp import wants_delta

    return sender.send(*_telemetry(content, source, wants_delta(os.environ)), stamp)


def _print(content: Content, source: Source) -> None:
    resource, points, events = _telemetry(content, source, delta=False)
    origin = {"resource": resource, "file": str(source.path)}
    for line in chain(map(_point, points), map(_event, events)):
        sys.stdout.write(json.dumps({**line, **origin}) + "\n")


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
        ("operator", ""): content.by_window.rows()[:, COUNT].sum() + sum(total.count for total in content.totals),
        ("collective", ""): content.collectives.rows()[:, COUNT].sum(),
        ("transfer", ""): content.transferred.rows()[:, COUNT].sum(),
        ("allocation", ""): content.allocated.rows()[:, COUNT].sum(),
        ("sample of memory", "samples of memory"): content.sampled.rows()[:, COUNT].sum(),
    }
    return ", ".join(counted(count, *what) for what, count in counts.items() if count) or "nothing new"
