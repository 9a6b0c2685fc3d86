"""What readers of recordings give, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

#: Records that readers hold at most before they hand them on.
BATCH = 32_768

#: What a file may hold.
#:
#: ``allocator``: what the caching allocators hold; ``allocations``: single tensors; ``memory``: process and chip;
#: ``modules``: memory of CANN's modules; ``bandwidth``: of the HBM; ``transfers``: bytes over links.
Kind: TypeAlias = Literal[
    "operators", "communication", "transfers", "allocator", "allocations", "memory", "modules", "bandwidth"
]

#: Told which share of the file has been read, 0 to 1.
Progress: TypeAlias = Callable[[float], None]


class RecordingError(Exception):
    """A file that cannot be read, or not to its end.

    Attributes:
        path: the file.
        reason: what is wrong with it; reads on after the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class SampleKey(NamedTuple):
    """A series of samples: the name of a metric of ``_semconv``, its attributes."""

    metric: str
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OperatorTotal:
    """A line of ``op_statistic.csv``; times in ns."""

    type: str
    core: str
    device: str
    count: int
    total: int
    min: int
    max: int


class RecordingSink:
    """Takes what readers find, in batches of at most ``BATCH``; this one takes nothing.

    A device is the number of the NPU as text, or empty where the file does not say it. Times are ns since 1970,
    durations ns, sizes bytes.
    """

    def __init__(self) -> None:
        #: Rows without a time, duration or size that can be.
        self.left_out = 0
        #: Start times that a spreadsheet has written as ``1.73641E+15``.
        self.rounded = 0
        #: Number of the process in the distributed job; None where the file does not say it.
        self.rank: int | None = None

    def wants(self, kind: Kind) -> bool:  # noqa: ARG002
        """Whether a reader should read what is of this kind."""
        return False

    def operators(
        self,
        raw: Sequence[tuple[str, str | None, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> None:
        """Compute operators.

        Args:
            raw: name, recorded type, core type, device.
            starts: of their execution on the device.
            durations: of the same.
            steps: id of the profiled step, -1 for none; None where the file knows no steps.
        """

    def operator_totals(self, totals: Sequence[OperatorTotal]) -> None:
        """Statistics of operators without their times, from files that hold nothing else."""

    def communications(
        self,
        raw: Sequence[tuple[str, str, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        """Collectives.

        Args:
            raw: name, data type, group, device; each may be empty.
            starts: of their execution.
            durations: of the same.
            sizes: of the payload; 0 where the file does not say it.
        """

    def transfers(
        self,
        raw: Sequence[tuple[str, str, str]],
        starts: Sequence[int],
        durations: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        """Bytes of collectives over a kind of link: name, link, group; ``durations`` are those of the transfer."""

    def allocations(
        self, raw: Sequence[tuple[bool, str]], starts: Sequence[int], lifetimes: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """Tensors: whether it was released while the profiler ran, device; 0 is the lifetime of one that was not."""

    def samples(self, kind: Kind, keys: Sequence[SampleKey], times: Sequence[int], values: Sequence[int]) -> None:
        """Samples of a size or bandwidth."""


class Batch:
    """Collects rows and hands their columns on.

    Args:
        send: takes the columns.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._rows: list[tuple[object, ...]] = []

    def add(self, *row: object) -> None:
        """Add a row; hands all on when there are enough."""
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand on what is there."""
        if self._rows:
            self._send(*zip(*self._rows, strict=True))
            self._rows = []


Reader: TypeAlias = Callable[[Path, RecordingSink, Progress], None]
