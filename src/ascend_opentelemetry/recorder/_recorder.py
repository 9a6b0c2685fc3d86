"""The recorder of a process: where hooks put records and what they ask before they do."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry.trace import SpanContext

from ascend_opentelemetry.recorder._drain import Drain, Sink
from ascend_opentelemetry.recorder._forwards import forwards
from ascend_opentelemetry.recorder._peers import Peers
from ascend_opentelemetry.recorder._record import KIND_INTERNAL, Record, RecordType
from ascend_opentelemetry.recorder._span import SAMPLED, RecordSpan, RootSampler, getrandbits, is_suppressed, random
from ascend_opentelemetry.recorder._step_watcher import StepWatcher

_logger = logging.getLogger(__name__)

#: Records that wait for the drain; further ones are dropped and counted.
CAPACITY = 65_536
#: Seconds at most that a process flushes for another one, which waits a little longer.
PEER_FLUSH = 0.45


def _random_trace_id() -> int:
    return getrandbits(128)


class NativeWindow(Protocol):
    """What an open native window selects (``native.ProfileConfig`` is one)."""

    @property
    def profiler_level(self) -> int: ...
    @property
    def domain(self) -> frozenset[str]: ...


class Recorder:
    """Queue of records, the switches that hooks read, and the sampling of roots.

    One object a process (``recorder``); it survives a fork, its records do not.
    """

    def __init__(self) -> None:
        self.queue: deque[Record] = deque()
        self.append: Callable[[Record], None] = self.queue.append
        #: Something is recorded at all: spans are exported, a native window is open or metrics are wanted; or the steps
        #: of the model runner are watched.
        self.on = False
        self.step_watcher: StepWatcher | None = None
        self.traces_on = False
        self.metrics_on = False
        #: The open native window, and how many were opened.
        self.native: NativeWindow | None = None
        self.windows = 0
        self.step_ratio = 1.0
        #: Timers of the symbols file, which take the current span for their parent.
        self.timers = 0
        self.meta: dict[str, str] = {}
        self.on_meta: Callable[[str, str], None] | None = None
        self.dropped = 0
        self._types: list[RecordType] = []  # changed by several threads: copied before it is gone through
        self._sampler: RootSampler | None = None
        self._scope_enabled: Callable[[str], bool] | None = None
        #: Makes the trace id of a root.
        self.new_trace_id = _random_trace_id
        self._drain = Drain(self.queue)
        self._peers = Peers()
        os.register_at_fork(after_in_child=self._after_fork)

    def register(self, record_type: RecordType) -> RecordType:
        """Keep the switches of a type up to date."""
        self._types.append(record_type)
        self._switch(record_type)
        return record_type

    def unregister(self, record_type: RecordType) -> None:
        """Forget a type that no new call records; its switches stay as they are, for calls that run already."""
        if record_type in self._types:
            self._types.remove(record_type)

    @property
    def domains(self) -> set[str]:
        """Domains of the types that have native rows when a window selects them."""
        return {record_type.domain for record_type in list(self._types) if record_type.native and record_type.domain}

    def unregister_all(self) -> None:
        """Forget all types; their hooks record no more."""
        types, self._types = self._types, []
        for record_type in types:
            record_type.on = record_type.native_on = record_type.traces_on = record_type.metrics_on = False

    def _switch(self, record_type: RecordType) -> None:
        window = self.native
        record_type.native_on = (
            record_type.native
            and window is not None
            and window.profiler_level >= record_type.level
            and (not window.domain or record_type.domain in window.domain)
        )
        record_type.traces_on = (
            record_type.traces
            and self.traces_on
            and (self._scope_enabled is None or self._scope_enabled(record_type.scope))
        )
        record_type.metrics_on = self.metrics_on and record_type.measure is not None
        record_type.on = record_type.native_on or record_type.traces_on or record_type.metrics_on

    def _switch_all(self) -> None:
        watched = self.step_watcher is not None
        self.on = self.traces_on or self.native is not None or self.metrics_on or watched
        for record_type in list(self._types):
            self._switch(record_type)

    def refresh(self, record_type: RecordType) -> None:
        """Look at the switches again after ``native``, ``domain`` or ``level`` of the type changed."""
        self._switch(record_type)

    def set_native(self, window: NativeWindow | None) -> None:
        """Open, change or close (None) the native window."""
        if window is not None:
            self.windows += 1
        self.native = window
        self._switch_all()

    def set_traces(
        self,
        on: bool,
        sampler: RootSampler | None = None,
        step_ratio: float = 1.0,
        *,
        scope_enabled: Callable[[str], bool] | None = None,
        new_trace_id: Callable[[], int] | None = None,
    ) -> None:
        """Switch spans on or off.

        Args:
            on: whether spans are exported.
            sampler: asked once a root; None records every root.
            step_ratio: share (0 to 1) of the roots that are no requests: engine steps and lone timers.
            scope_enabled: whether hooks whose instrumentation scope has this name give spans; None: all do.
            new_trace_id: makes the trace ids of roots; None: random ones.
        """
        self.traces_on = on
        self._sampler = sampler
        self.step_ratio = step_ratio
        self._scope_enabled = scope_enabled
        self.new_trace_id = new_trace_id or _random_trace_id
        self._switch_all()

    def set_metrics(self, on: bool) -> None:
        """Switch the records that are measured on or off."""
        self.metrics_on = on
        self._switch_all()

    def watch_steps(self, watcher: StepWatcher | None) -> None:
        """Tell one of the model runner's steps in this process, or nobody any more (None)."""
        self.step_watcher = watcher
        self._switch_all()

    def emit(self, record: Record) -> None:
        """Queue a record; when the queue is full it is dropped and counted."""
        if len(self.queue) < CAPACITY:
            self.append(record)
        else:
            self.drop()

    def drop(self) -> None:
        """Count a record that found the queue full."""
        if not self.dropped:
            _logger.warning(
                "%d records wait already: new ones are dropped and counted until those are worked off; lower "
                "OTEL_PYTHON_VLLM_STEP_SAMPLE_RATIO, or leave symbols out of the symbols file", CAPACITY,
            )  # fmt: skip
        self.dropped += 1

    def sample(
        self, trace_id: int, name: str, kind: int, attributes: dict[str, Any], parent: SpanContext | None = None
    ) -> bool:
        """Ask the configured sampler about a root; there is none while instrumentation is suppressed.

        Args:
            trace_id: of the root.
            name: of its span.
            kind: OTLP span kind.
            attributes: known now; gets those that the sampler adds.
            parent: in another service, for what is a root here only.
        """
        if is_suppressed():
            return False
        if self._sampler is None:
            return parent is None or parent.trace_flags.sampled
        return self._sampler(trace_id, name, kind, attributes, parent)

    def sample_step(self) -> bool:
        """Whether the ratio selects the next root that is no request."""
        return self.step_ratio >= 1.0 or random.random() < self.step_ratio

    def root(self, record_type: RecordType) -> RecordSpan:
        """The span of a timer without a parent; one with flags 0 when it is not selected."""
        trace_id = getrandbits(128) if self.new_trace_id is _random_trace_id else self.new_trace_id()
        sampler = self._sampler
        sampled = (self.step_ratio >= 1.0 or random.random() < self.step_ratio) and (
            sampler is None or sampler(trace_id, record_type.name, KIND_INTERNAL, {}, None)
        )
        return RecordSpan(trace_id, getrandbits(64), 0, SAMPLED if sampled else 0)

    def set_meta(self, name: str, value: str) -> None:
        """Note a fact about the process: a row of the native ``Meta`` table."""
        self.meta[name] = value
        if self.on_meta is not None:
            self.on_meta(name, value)

    @property
    def lost(self) -> dict[str, int]:
        """Records that a sink failed to take, by the sink's type."""
        return self._drain.lost

    def start(self, sinks: list[Sink]) -> None:
        """Start the drain with these sinks; when it runs already, go on with these.

        From here on the process flushes when another one of its service asks for it.
        """
        self.append = self.queue.append
        self._drain.start(sinks)
        try:
            self._peers.listen(self._flush_for_peer)
        except OSError as error:
            _logger.warning("the last records before a shutdown may be lost: no socket to be asked for them: %s", error)

    def _flush_for_peer(self) -> None:
        self.flush(PEER_FLUSH)

    def flush_others(self, timeout: float) -> bool:
        """Have the other processes of the service flush, e.g. before they are killed.

        Args:
            timeout: seconds to wait for the last of them.

        Returns:
            Whether all have answered.
        """
        return self._peers.flush_others(timeout)

    def wake(self, export: bool = False) -> None:
        """Drain now; with ``export`` the exporters send what they hold too."""
        self._drain.wake(export)

    def flush(self, timeout: float = 5.0) -> bool:
        """Drain, and wait at most ``timeout`` seconds until the sinks have everything out; whether they have."""
        return self._drain.flush(timeout)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Drain, end the sinks and the thread; hooks record no more, what still comes is counted as dropped."""
        self.native = self.step_watcher = None
        self.traces_on = self.metrics_on = False
        self._switch_all()
        self.append = self._too_late
        self._peers.close()
        self._drain.shutdown(timeout)
        self.dropped += len(self.queue)
        self.queue.clear()

    def _too_late(self, record: Record) -> None:  # noqa: ARG002 - stands in for ``deque.append``
        self.dropped += 1

    def _after_fork(self) -> None:
        random.seed()
        self.queue.clear()
        self.dropped = 0
        forwards.after_fork()
        self._drain.after_fork()
        self._peers.after_fork(self._flush_for_peer)


recorder = Recorder()
