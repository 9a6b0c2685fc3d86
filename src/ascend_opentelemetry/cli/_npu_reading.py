"""Reads file after file, with a progress bar on a terminal; what cannot be read is told, and the rest goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_opentelemetry.cli._npu_output import counted
from ascend_opentelemetry.npu.operators._names import printable

if TYPE_CHECKING:
    from ascend_opentelemetry.npu.recordings._search import Source
    from ascend_opentelemetry.npu.recordings._sink import Kind, RecordingError, RecordingSink


class Reading:
    """The files below a path.

    Args:
        path: a file or a folder.

    Attributes:
        problems: files that could not be read.
    """

    def __init__(self, path: Path) -> None:
        from ascend_opentelemetry.npu.recordings._search import Plan

        self._plan = Plan(path)
        self.problems: list[RecordingError] = []
        self._bar: Any = None
        for problem in self._plan.problems:
            self.fail(problem)
        for older, newer in self._plan.replaced.items():
            self.say(f"{older}: not read: msprof has exported it again, as {newer.name}")

    @property
    def exit_code(self) -> int:
        """2 where something could not be read."""
        return 2 if self.problems else 0

    def sources(self) -> Iterator[tuple[Source, frozenset[Kind]]]:
        """Each file that may give something new, and what it need not give."""
        from tqdm import tqdm

        sizes = {source.path: _size(source.path) for source in self._plan.sources}
        with tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, disable=None, leave=False) as self._bar:
            done = 0
            for source in self._plan.sources:
                self._bar.set_description(printable(source.path.name))
                hidden = self._plan.hidden(source)
                if source.kinds - hidden:
                    yield source, hidden
                done += sizes[source.path]
                self._bar.update(done - self._bar.n)
        self._bar = None

    def read(self, source: Source, sink: RecordingSink) -> bool:
        """Read a file; False where that failed, which is told."""
        from ascend_opentelemetry.npu.recordings._sink import RecordingError

        size, begin = _size(source.path), self._bar.n if self._bar is not None else 0

        def progress(share: float) -> None:
            self._bar.update(begin + int(share * size) - self._bar.n)

        try:
            source.read(source.path, sink, progress)
        except RecordingError as error:
            self.fail(error)
            return False
        if sink.left_out:
            rows = counted(sink.left_out, "row")
            self.say(f"{source.path}: {rows} without a possible time, duration or size left out")
        if sink.rounded:
            times = counted(sink.rounded, "start time")
            self.say(
                f"{source.path}: {times} rounded, as spreadsheets save them: durations are right, times are not; "
                "export it again"
            )
        return True

    def gave(self, source: Source, kinds: Iterable[Kind]) -> None:
        """Note what a file has given: worse files of the recording need not."""
        self._plan.gave(source, kinds)

    def fail(self, problem: RecordingError) -> None:
        """Tell what is wrong with a file."""
        self.problems.append(problem)
        self.say(str(problem))

    def say(self, message: str) -> None:
        """Print a line of what is not as it should be."""
        self.make_room()
        sys.stderr.write(f"ascend-otel: {printable(message)}\n")

    def make_room(self) -> None:
        """Take the progress bar away until it moves on: what is printed next would stand behind it."""
        if self._bar is not None:
            self._bar.clear()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
